"""Base models of qzoo's own architectures."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from qzoo.models import architectures
from qzoo.models.architectures.weights import find_weights, transform_of
from qzoo.models.base_model import BaseCard, BaseModel, InputFormat, WeightsFacts
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import find_file, load_into, read_weights


def create(base: Base, pretrained: bool, keywords: dict[str, Any]) -> BaseModel:
    """Returns the architecture, with its weights if requested."""
    model = architectures.create(base.architecture, **keywords)
    if not pretrained and base.weights is None:
        return BaseModel(model)
    found = find_weights(base.architecture, base.weights)
    if not pretrained:
        return BaseModel(model)
    sha256 = base.sha256 or found.sha256
    state = found.strip(read_weights(found.file, url=found.url, sha256=sha256, packaged=found.packaged))
    return BaseModel(model, load_into(model, state, found.file, keywords.get("num_classes")))


def transform(base: Base) -> Any:
    """Returns the evaluation transform of the weights."""
    return transform_of(find_weights(base.architecture, base.weights))


def input_format(base: Base) -> InputFormat:
    """Returns what the weights expect of an image."""
    found = find_weights(base.architecture, base.weights)
    return InputFormat(found.input_size[-1], found.mean, found.std)


def weights_facts(base: Base) -> WeightsFacts:
    """Returns what qzoo says of the weights."""
    found = find_weights(base.architecture, base.weights)
    path = find_file(found.file, found.packaged)
    return WeightsFacts(f"qzoo {version('qzoo')}", base.weights, (found.file,), path, found.sha256)


def card(base: Base) -> BaseCard:
    """Returns license and classes of the weights."""
    found = find_weights(base.architecture, base.weights)
    return BaseCard(found.license, found.classes)
