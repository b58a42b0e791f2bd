"""Base models of timm: the library's own classes, weights and transforms."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlparse

import timm
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn

from qzoo.build.base_model import BaseModel, InputFormat
from qzoo.errors import UnknownNameError, WeightsError, did_you_mean
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import NewHeadWarning, check_sha256, find_file


def create(base: Base, pretrained: bool, keywords: dict[str, Any]) -> BaseModel:
    """Returns the architecture, with the library's weights if asked for.

    The weights come through timm's own loader: from `QZOO_WEIGHTS_DIR` or torch's cache by file name, else from the hub.
    """
    name = _known(base)
    if not pretrained:
        return BaseModel(timm.create_model(name, pretrained=False, **keywords))
    classes = keywords.pop("num_classes", None)
    model = _pretrained(base, name, keywords)
    if classes is None or classes == model.num_classes:
        return BaseModel(model)
    return BaseModel(model, _replace_head(model, name, classes))


def transform(base: Base) -> Any:
    """Returns the evaluation transform of the weights."""
    return EvaluationTransform(create_transform(**_data_config(base)))


def input_format(base: Base) -> InputFormat:
    """Returns what the weights expect of an image."""
    config = _data_config(base)
    return InputFormat(config["input_size"][-1], config["mean"], config["std"], config["interpolation"])


@dataclass(frozen=True)
class EvaluationTransform:
    """timm's transform, which takes PIL images, for uint8 tensors `(..., C, H, W)` too."""

    of_image: Any

    def __call__(self, image: Any) -> Tensor:
        """Returns the normalized float32 image."""
        return self.of_image(image.float() / 255 if isinstance(image, Tensor) else image)  # type: ignore[no-any-return]


def _known(base: Base) -> str:
    if not timm.is_model(base.architecture):
        known = timm.list_models()
        raise UnknownNameError(f"timm has no model '{base.architecture}'. {did_you_mean(base.architecture, known)}")
    architecture, _, tag = base.architecture.partition(".")
    if base.weights is None:
        return base.architecture
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if base.weights not in tags:
        raise UnknownNameError(f"{architecture} has no weights '{base.weights}'. {did_you_mean(base.weights, tags)}")
    return f"{architecture}.{base.weights or tag}"


def _data_config(base: Base) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(_known(base), allow_unregistered=False)
    return resolve_data_config(pretrained_cfg=config.to_dict())  # type: ignore[no-any-return]


def _pretrained(base: Base, name: str, keywords: dict[str, Any]) -> Any:
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    local = next((path for file in _file_names(config) if (path := find_file(file))), None)
    overlay = None
    if local is not None:
        check_sha256(local, base.sha256)
        overlay = {"file": str(local)}
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **keywords)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"Can't load the weights of {name} from {local or config.hf_hub_id or config.url} ({error}). Without a "
            f"network, put {' or '.join(_file_names(config))} into a folder and set QZOO_WEIGHTS_DIR to it."
        ) from error


def _file_names(config: Any) -> list[str]:
    """Returns what the weights' file may be called: after the name on the hub, or as in its older address."""
    names = [f"{PurePosixPath(config.hf_hub_id).name}.safetensors"] if config.hf_hub_id else []
    return [*names, PurePosixPath(urlparse(config.url).path).name] if config.url else names


def _replace_head(model: Any, name: str, classes: int) -> dict[str, Tensor]:
    """Gives the model a random classifier, in place, and returns the tensors of the old one."""
    before = {key: value.detach().clone() for key, value in _head_of(model).items()}
    model.reset_classifier(classes)
    warnings.warn(
        f"{', '.join(before)} of {name} are left out: num_classes differs, so the classifier is random.",
        NewHeadWarning,
        stacklevel=5,
    )
    return before


def _head_of(model: nn.Module) -> dict[str, Tensor]:
    heads = model.pretrained_cfg["classifier"]  # type: ignore[index]
    prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    return {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
