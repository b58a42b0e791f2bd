"""Base models of timm: the library's own classes, weights and transforms."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from huggingface_hub import hf_hub_download
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import Tensor

from qzoo.errors import QzooError, UnknownNameError, WeightsError, did_you_mean, shown
from qzoo.hub.errors import retries_in_one_line, unreached
from qzoo.models.base_model import BaseCard, BaseModel, InputFormat, WeightsFacts
from qzoo.redaction import redacted_logs
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import NewHeadWarning, check_sha256, find_file, local_file, read_file
from qzoo.weights.packages import in_order, install_command, read_package

IMAGENET_CLASSES = 1000


def create(base: Base, pretrained: bool, keywords: dict[str, Any]) -> BaseModel:
    """Returns the architecture, with the library's weights if requested.

    The weights pass timm's own loader: from `QZOO_WEIGHTS_DIR` by file name, else from the package that the recipe
    names, if it is installed, else from torch's cache or the hub.
    """
    name = _known(base)
    if not pretrained:
        return BaseModel(timm.create_model(name, pretrained=False, **keywords))
    # The old classifier is loaded, noted and only then replaced: the identity of the weights includes it.
    classes = keywords.pop("num_classes", None)
    model = _pretrained(base, name, keywords)
    if classes is None or classes == getattr(model, "num_classes", classes):
        return BaseModel(model)
    return BaseModel(model, _replace_head(model, name, classes))


def transform(base: Base) -> Any:
    """Returns the evaluation transform of the weights."""
    return EvaluationTransform(create_transform(**_data_config(base)))


def input_format(base: Base) -> InputFormat:
    """Returns what the weights expect of an image."""
    config = _data_config(base)
    return InputFormat(config["input_size"][-1], config["mean"], config["std"], config["interpolation"])


def weights_facts(base: Base) -> WeightsFacts:
    """Returns what timm says of the weights."""
    config = timm.get_pretrained_cfg(_known(base), allow_unregistered=False)
    files = _file_names(config) if config.has_weights else []
    path = next(filter(None, map(find_file, files)), None)
    tag = (config.tag or None) if config.has_weights else None
    return WeightsFacts(f"timm {timm.__version__}", tag, tuple(files), path)


def card(base: Base) -> BaseCard:
    """Returns license, classes and repository of the weights."""
    config = timm.get_pretrained_cfg(_known(base), allow_unregistered=False)
    classes = tuple(ImageNetInfo().label_descriptions()) if config.num_classes == IMAGENET_CLASSES else ()
    return BaseCard(config.license, classes, config.hf_hub_id)


@dataclass(frozen=True)
class EvaluationTransform:
    """timm's transform, which takes PIL images, for uint8 tensors `(..., C, H, W)` too."""

    of_image: Any

    def __call__(self, image: Any) -> Tensor:
        """Returns the normalized float32 image."""
        return self.of_image(image.float() / 255 if isinstance(image, Tensor) else image)  # type: ignore[no-any-return]


def _known(base: Base) -> str:
    """Returns timm's name, `resnet18.a1_in1k`; the recipe's `weights` go before a tag in the architecture."""
    architecture, _, tag = base.architecture.partition(".")
    if not timm.is_model(architecture):
        advice = did_you_mean(architecture, timm.list_models())
        raise UnknownNameError(f"timm has no model '{shown(architecture)}'. {advice}", field=("base", "architecture"))
    tag = base.weights or tag
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        advice = did_you_mean(tag, tags)
        raise UnknownNameError(f"{architecture} has no weights '{shown(tag)}'. {advice}", field=("base", "weights"))
    return f"{architecture}.{tag}" if tag else architecture


def _data_config(base: Base) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(_known(base), allow_unregistered=False)
    return resolve_data_config(pretrained_cfg=config.to_dict())  # type: ignore[no-any-return]


def _pretrained(base: Base, name: str, keywords: dict[str, Any]) -> Any:
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if not config.has_weights:
        known = {known.partition(".")[0] for known in timm.list_pretrained()}
        advice = did_you_mean(name, known)
        raise UnknownNameError(f"timm has no weights for '{name}'. {advice}", field=("base", "weights"))
    model, problem = None, ""
    try:
        with redacted_logs(), retries_in_one_line():
            overlay = _weights_overlay(config, base)
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **keywords)
    except QzooError:
        raise
    except Exception as error:  # the hub's client passes on whatever its network library raises
        problem = unreached(error) or str(error)
    if model is None:
        # Not from the client's error, in which a token may stand.
        raise WeightsError(
            f"Can't load the weights of {name} from {config.hf_hub_id or config.url} ({problem.rstrip('.')}). "
            f"{_without_network(config, base)}"
        )
    # Else every copy of the model would carry its weights twice.
    getattr(model, "pretrained_cfg", {}).pop("state_dict", None)
    return model


def _without_network(config: Any, base: Base) -> str:
    put = (
        f"put {' or '.join(_file_names(config))} into a folder and set QZOO_WEIGHTS_DIR to it: it is looked into first."
    )
    return f"`{install_command(base.package)}` brings them, or {put}" if base.package else f"Without a network, {put}"


def _weights_overlay(config: Any, base: Base) -> dict[str, Any] | None:
    """Returns what makes timm load weights that were found here and checked; None leaves the download to timm."""
    path = next(filter(None, map(local_file, _file_names(config))), None)
    if path is None and base.package and (state := read_package(base.package)):
        return {"state_dict": in_order(state, _state_on_meta(_known(base)), base.package.file)}
    path = path or next(filter(None, map(find_file, _file_names(config))), None)
    if path is None and base.sha256 and config.hf_hub_id:
        # timm's own download can't be held against a digest.
        path = Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    if path is None:
        return None
    if path.suffix == ".npz":
        check_sha256(path, base.sha256)
        return {"file": str(path)}
    return {"state_dict": read_file(path, base.sha256)}


def _state_on_meta(name: str) -> dict[str, Tensor]:
    """Returns names, shapes and dtypes of a model's tensors, in order."""
    with torch.device("meta"):
        return timm.create_model(name).state_dict()  # type: ignore[no-any-return]


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


def _head_of(model: Any) -> dict[str, Tensor]:
    heads = model.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    return {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
