"""The JSON Schema of recipes, for editors: `python -m qzoo.schema.json_schema` writes it."""

from __future__ import annotations

import json
from pathlib import Path

from qzoo import environment
from qzoo.schema.recipe import Recipe

FILE = "recipe.schema.json"


def schema_text() -> str:
    """Returns the JSON Schema of a recipe file."""
    schema = Recipe.model_json_schema(by_alias=True, mode="validation")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def schema_file() -> Path:
    """Returns where the generated schema lies."""
    return environment.packaged(FILE)


if __name__ == "__main__":
    schema_file().write_text(schema_text())
