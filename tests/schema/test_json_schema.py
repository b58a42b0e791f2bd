from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from qzoo.schema.json_schema import schema_file, schema_text
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.reading.yaml_source import read_yaml
from tests.each import for_each

SCHEMA = json.loads(schema_text())
TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
KEYWORDS: dict[str, Callable[[Any, Any, Any], bool]] = {
    "$ref": lambda ref, value, _: fits(value, SCHEMA["$defs"][ref.rpartition("/")[2]]),
    "anyOf": lambda options, value, _: any(fits(value, option) for option in options),
    "oneOf": lambda options, value, _: sum(fits(value, option) for option in options) == 1,
    "type": lambda name, value, _: TYPES[name](value),
    "enum": lambda known, value, _: any(value == one and type(value) is type(one) for one in known),
    "const": lambda known, value, _: value == known and type(value) is type(known),
    "minimum": lambda least, value, _: value >= least,
    "maximum": lambda most, value, _: value <= most,
    "exclusiveMinimum": lambda least, value, _: value > least,
    "exclusiveMaximum": lambda most, value, _: value < most,
    "minLength": lambda least, value, _: len(value) >= least,
    "maxLength": lambda most, value, _: len(value) <= most,
    "minItems": lambda least, value, _: len(value) >= least,
    "minProperties": lambda least, value, _: len(value) >= least,
    "maxProperties": lambda most, value, _: len(value) <= most,
    "pattern": lambda pattern, value, _: re.search(pattern, value) is not None,
    "required": lambda names, value, _: set(names) <= set(value),
    "properties": lambda parts, value, _: all(fits(value[name], parts[name]) for name in parts if name in value),
    "items": lambda part, value, _: all(fits(item, part) for item in value),
    "patternProperties": lambda parts, value, _: all(
        fits(value[name], part) for pattern, part in parts.items() for name in value if re.search(pattern, name)
    ),
    "additionalProperties": lambda _, value, schema: all(  # is False wherever it stands
        name in schema.get("properties", {}) or any(re.search(p, name) for p in schema.get("patternProperties", {}))
        for name in value
    ),
}
WORDS = {"title", "description", "default", "$defs", "$schema"}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether an editor would accept the value: the part of JSON Schema that is used here, `type` looked at first."""
    assert set(schema) <= {*KEYWORDS, *WORDS}
    ordered = sorted(set(schema) - WORDS, key=lambda keyword: keyword != "type")
    return all(KEYWORDS[keyword](schema[keyword], value, schema) for keyword in ordered)


def test_the_file_is_current() -> None:
    assert schema_file().read_text(encoding="utf-8") == schema_text(), (
        "The schema has changed: accept it by `make style`."
    )


@for_each("name", lambda: sorted(Catalog.load().recipes))
def test_editors_accept_the_shipped_recipes(name: str) -> None:
    path = Catalog.load().recipes[name].path
    assert path is not None
    assert fits(read_yaml(path)[0], SCHEMA)
    link = re.match(r"# yaml-language-server: \$schema=(.+)\n", path.read_text())
    assert link is not None
    assert (path.parent / link[1]).resolve() == schema_file().resolve()


def recipe(**variant: Any) -> dict[str, Any]:
    base = {"source": "timm", "architecture": "resnet18"}
    return {"base": base, "dataset": "imagenet-1k", "variants": {"a": variant}}


@for_each(
    "variant",
    [
        {"input": {"calibrator": "max"}},
        {"input": {"calibrator": {"percentile": 99.99}}},
        {"input": {"calibrator": {"method": "mse"}}},
        {"input": False, "weight": {"per": "channel", "unsigned": "auto"}},
        {"residual": "skip"},
        {"residual": False},
        {"residual": {"placement": "both", "bits": 4}},
        {"published": {"top1": 76.1, "source": "somebody, somewhere"}},
        {"rules": [{"match": {"name": "fc", "type": ["Conv2d", "Linear"]}, "input": False}]},
        {"from": "a"},
    ],
)
def test_editors_accept(variant: dict[str, Any]) -> None:
    assert fits(recipe(**variant), SCHEMA)


@for_each(
    "variant",
    [
        {"input": {"calibrator": "maxx"}},
        {"input": {"calibrator": {"percentile": 0}}},
        {"input": {"calibrator": {"percentil": 99}}},
        {"input": {"calibrator": {}}},
        {"input": True},
        {"input": {"bits": 17}},
        {"input": {"per": "channel"}},
        {"input": {"unsigned": 1}},
        {"residual": "skp"},
        {"residual": True},
        {"published": {"top1": 76.1}},
        {"rules": [{"input": False}]},
        {"form": "a"},
    ],
)
def test_editors_refuse(variant: dict[str, Any]) -> None:
    assert not fits(recipe(**variant), SCHEMA)


def test_editors_refuse_names_that_are_none() -> None:
    assert not fits({**recipe(), "variants": {"Int8": {}}}, SCHEMA)
    assert '"additionalProperties": true' not in schema_text()


def test_no_python_in_what_editors_show() -> None:
    assert ">>>" not in schema_text()
