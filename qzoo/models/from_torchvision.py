"""Base models of torchvision: the library's own classes, weights and transforms."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from qzoo.errors import UnknownNameError, did_you_mean, shown
from qzoo.models.base_model import BaseCard, BaseModel, InputFormat, WeightsFacts
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import find_file, load_into, read_weights

WITH_WEIGHTS: dict[str, dict[str, Any]] = {
    # These two were trained on differently normalized images; their builders say so only where they load weights.
    "googlenet": {"transform_input": True},
    "inception_v3": {"transform_input": True},
}
ALWAYS: dict[str, dict[str, Any]] = {
    # No sampled initialization, which takes minutes; no auxiliary classifiers, which only a training from scratch runs.
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}


def create(base: Base, pretrained: bool, keywords: dict[str, Any]) -> BaseModel:
    """Returns the architecture, with the library's weights if requested."""
    name, weights = _known(base.architecture), _weights(base)
    with_weights = WITH_WEIGHTS.get(name, {}) if pretrained else {}
    model = torchvision.models.get_model(name, weights=None, **ALWAYS.get(name, {}) | with_weights | keywords)
    if not pretrained:
        return BaseModel(model)
    file = PurePosixPath(urlparse(weights.url).path).name
    state = _renamed(model, read_weights(file, url=weights.url, sha256=base.sha256 or _digits_in(file)))
    return BaseModel(model, load_into(model, state, file, keywords.get("num_classes")))


def transform(base: Base) -> Any:
    """Returns the evaluation transform of the weights."""
    return _weights(base).transforms()


def input_format(base: Base) -> InputFormat:
    """Returns what the weights expect of an image."""
    preset = _weights(base).transforms()
    return InputFormat(preset.crop_size[0], tuple(preset.mean), tuple(preset.std), preset.interpolation.value)


def weights_facts(base: Base) -> WeightsFacts:
    """Returns what torchvision says of the weights."""
    weights = _weights(base)
    file = PurePosixPath(urlparse(weights.url).path).name
    top1 = weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    version = torchvision.__version__.partition("+")[0]
    return WeightsFacts(f"torchvision {version}", weights.name, (file,), find_file(file), _digits_in(file), top1)


def card(base: Base) -> BaseCard:
    """Returns license and classes of the weights."""
    # torchvision's own; for some weights the dataset's or author's terms come on top, which it does not name.
    return BaseCard("bsd-3-clause", tuple(_weights(base).meta["categories"]))


def _known(name: str) -> str:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        advice = did_you_mean(name, known)
        raise UnknownNameError(
            f"torchvision has no classifier '{shown(name)}'. {advice}", field=("base", "architecture")
        )
    return name


def _weights(base: Base) -> WeightsEnum:
    known = torchvision.models.get_model_weights(_known(base.architecture)).__members__
    tag = base.weights or "DEFAULT"
    if tag not in known:
        advice = did_you_mean(tag, known)
        raise UnknownNameError(
            f"{base.architecture} has no weights '{shown(tag)}'. {advice}", field=("base", "weights")
        )
    return known[tag]


def _renamed(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights under the names of today, without those of auxiliary classifiers that the model lacks."""
    absent = tuple(f"{name}." for name in ("aux1", "aux2", "AuxLogits") if getattr(model, name, None) is None)
    for key in list(state):
        value = state.pop(key)
        if not key.startswith(absent):
            # DenseNet's files are older than its code: norm.1 is norm1 now.
            state[re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)] = value
    return state


def _digits_in(file: str) -> str | None:
    """Returns the first digits of the SHA-256 that stand in torchvision's file names: `resnet50-0676ba61.pth`."""
    digits = PurePosixPath(file).stem.rpartition("-")[2]
    return digits if re.fullmatch(r"[0-9a-f]{8,64}", digits) else None
