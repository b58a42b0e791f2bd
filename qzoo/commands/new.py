"""A recipe for a model of timm, torchvision or one's own, written with comments for people to go on from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qzoo.errors import UnknownNameError
from qzoo.models.base_model import WeightsFacts
from qzoo.models.bases import input_format, meta_model, weights_facts
from qzoo.models.operators import find_operators
from qzoo.models.own_models import code_option
from qzoo.models.survey import quantizable_layers
from qzoo.schema.datasets import IMAGENET, dataset_named
from qzoo.schema.reading.sources import LIBRARIES, OWN_CODE, is_library_name
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.plan import Operator

ATTENTION = ("sdpa", "matmul")
CALIBRATION_IMAGES = 1024
BATCH = 32


@dataclass(frozen=True)
class NewRecipe:
    """A recipe that was written for a model.

    Attributes:
        stem: what its file is to be called, without `.yaml`.
        text: YAML with comments.
        residual_additions: how many were found.
        sha256: the SHA-256 of the weights file, where that is on this machine; else the digits in its name, if any.
        code: what commands have to say for a class of one's own: ` --model nets.py:TinyNet`.
    """

    stem: str
    text: str
    residual_additions: int
    sha256: str | None
    code: str = ""


def new_recipe(name: str, dataset: str | None = None, weights: str | None = None) -> NewRecipe:
    """Returns a recipe for any model of timm or torchvision, or of one's own, which `qzoo validate` accepts.

    Args:
        name: `timm/resnet18`, `timm/resnet18.a1_in1k`, `torchvision/resnet18`, `python/tiny`.
        dataset: what it is calibrated and evaluated on; default: ImageNet-1k, and for a model of one's own the image
            folder of its name.
        weights: the library's name for them; of one's own model a state dict, its path or its name in QZOO_WEIGHTS_DIR.

    Raises:
        UnknownNameError: it is no such name, or the library has no such model; with the nearest names.

    Example:
        >>> new_recipe("torchvision/resnet18").stem
        'resnet18'
    """
    source, _, architecture = name.partition("/")
    if not is_library_name(name) or not architecture:
        libraries = " or ".join(f"{library}/<name>" for library in LIBRARIES)
        raise UnknownNameError(
            f"'{name}' names no model of a library, nor one of your own. Give {libraries}, such as timm/resnet18."
        )
    base = Base.model_validate({"source": source, "architecture": architecture, "weights": weights})
    facts = weights_facts(base)
    tagged = base.model_copy(update={"architecture": architecture.partition(".")[0], "weights": facts.tag})
    sha256 = facts.sha256 if facts.path is None else _sha256(facts.path)
    model = meta_model(tagged)
    operators, first = find_operators(model), next(iter(quantizable_layers(model)), "")
    stem = re.sub(r"[^a-z0-9_]", "_", architecture.lower())
    dataset = dataset or (stem if source == OWN_CODE else IMAGENET.name)
    code = code_option(architecture) if source == OWN_CODE else ""
    text = "\n".join(_lines(f"{name}{code}", tagged, dataset, facts, sha256, operators, first)) + "\n"
    return NewRecipe(stem, text, sum(operator.skip is not None for operator in operators), sha256, code)


def _lines(
    name: str, base: Base, dataset: str, facts: WeightsFacts, sha256: str | None, operators: list[Operator], first: str
) -> Iterator[str]:
    yield f"# Written by `qzoo new {name}` after {facts.library}. Try: qzoo validate FILE, qzoo explain FILE:int8"
    yield "version: 1                # raise it whenever a change can move a number"
    whose = ", a class of our own," if base.source == OWN_CODE else f" of {base.source}"
    yield f"description: {base.architecture}{whose} on {dataset_named(dataset).title}."
    residual = ["int8_residual"] if any(operator.skip for operator in operators) else []
    yield f"include: [{', '.join(['standard', *residual, 'w4a8'])}]  # variants that are written once, for all bases"
    yield from _base_lines(base, facts, sha256)
    folder = (
        ""
        if dataset_named(dataset).splits
        else "  # an image folder: its path, its name inside QZOO_DATA, or --data FOLDER"
    )
    yield f"dataset: {_scalar(dataset)}{folder}"
    yield f"calibration: {{split: train, images: {CALIBRATION_IMAGES}, batch_size: {BATCH}, seed: 0}}"
    yield from _published_lines(facts)
    has_attention = any(operator.site.op in ATTENTION for operator in operators)
    yield f"scheme: {'int8_vit' if has_attention else 'int8'}"
    yield from _variant_lines(operators, has_attention, first)


def _base_lines(base: Base, facts: WeightsFacts, sha256: str | None) -> Iterator[str]:
    yield "base:"
    yield f"  source: {base.source}"
    yield f"  architecture: {_scalar(base.architecture)}"
    if facts.tag is None and base.source == OWN_CODE:
        yield f"  # weights: {base.architecture}.safetensors  # a state dict: its path, or its name in QZOO_WEIGHTS_DIR"
    elif facts.tag is None:
        yield f"  # {facts.library} has no weights for it: without them it is random"
    else:
        yield f"  weights: {_scalar(facts.tag)}"
    if sha256 is not None:
        yield f"  sha256: {_scalar(sha256)}  # of {facts.path.name if facts.path else facts.files[0]}"
    elif facts.files:
        yield f"  # sha256: not known, because {facts.files[0]} is not here (put it into QZOO_WEIGHTS_DIR)"
    form = input_format(base)
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (form.mean, form.std))
    yield (
        f"# The transform comes with the weights: {form.size}x{form.size}, {form.interpolation}, "
        f"mean ({mean}), std ({std})."
    )


def _published_lines(facts: WeightsFacts) -> Iterator[str]:
    if facts.top1 is None:
        yield '# published: {top1: 0.0, tolerance: 0.1, source: "who measured it, and where it stands"}'
    else:
        yield f'published: {{top1: {facts.top1:g}, tolerance: 0.1, source: "{facts.library}, weights metadata"}}'


def _variant_lines(operators: list[Operator], has_attention: bool, first: str) -> Iterator[str]:
    percentile = "99.999" if has_attention else "99.99"
    yield "# Of this base alone; one that has the name of an included one replaces it."
    yield "variants:"
    yield f"  int8: {{input: {{calibrator: {{percentile: {percentile}}}}}}}"
    blocks = list(dict.fromkeys(o.module or "the model itself" for o in operators if o.skip))
    if blocks:
        count = sum(operator.skip is not None for operator in operators)
        places = ", ".join(blocks[:2]) + (f" ... {blocks[-1]}" if len(blocks) > 2 else "")
        yield f"  # {count} residual additions, in the forward of {places}; for ONNX Runtime both operands:"
        yield "  # int8_both: {from: int8, residual: both}"
    yield "  # Rules speak of layers by name or type (`weighted`: all with a weight that int8 quantizes); the last that"
    yield "  # matches wins. For example, to keep the first in float:"
    yield f'  # mine: {{from: int8, rules: [{{match: {{name: "{first}"}}, weight: false, input: false, why: "..."}}]}}'


def _scalar(text: str) -> str:
    """Returns text that YAML reads back as text: in quotes where it might be a number, `781e5279`, or hold signs."""
    return text if re.fullmatch(r"[A-Za-z_/.][\w./-]*", text) else json.dumps(text)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
