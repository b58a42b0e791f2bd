"""The JSON Schema of recipes, for editors: `python -m qzoo.schema.json_schema` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qzoo import environment
from qzoo.files import write_text
from qzoo.schema.recipe import Recipe

FILE = "recipe.schema.json"


def schema_text() -> str:
    """Returns the JSON Schema of a recipe file."""
    schema = _without_examples(Recipe.model_json_schema(by_alias=True, mode="validation"))
    # What a recipe includes may say the rest.
    whole = [{"required": ["dataset", "variants"]}, {"required": ["include"]}]
    schema |= {"required": ["base"], "anyOf": whole}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def schema_file() -> Path:
    """Returns where the generated schema lies."""
    return environment.packaged(FILE)


def _without_examples(schema: Any) -> Any:
    # A docstring's Python example says nothing to somebody who writes YAML.
    if isinstance(schema, list):
        return [_without_examples(item) for item in schema]
    if not isinstance(schema, dict):
        return schema.partition("\n\nExample:")[0] if isinstance(schema, str) else schema
    return {key: _without_examples(value) for key, value in schema.items()}


if __name__ == "__main__":
    write_text(schema_file(), schema_text())
