"""Base models of one's own: classes and functions that whoever runs qzoo gives, see `own_models`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.environment import expanded
from qzoo.errors import ArgumentError, QzooError, WeightsError, shown
from qzoo.models.base_model import BaseCard, BaseModel, InputFormat, WeightsFacts
from qzoo.models.image_transform import (
    CROPPED,
    IMAGENET,
    default_transform,
    format_of_config,
    format_of_transform,
    transform_of,
)
from qzoo.models.own_code import told
from qzoo.models.own_models import OwnModel, own_model
from qzoo.quant.derived import copy_model
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import find_file, load_into, read_file, read_weights


def create(base: Base, pretrained: bool, keywords: dict[str, Any]) -> BaseModel:
    """Returns what the factory makes, with weights if requested.

    These are of the file that the recipe or `register_model` names; without one they are the factory's own.
    """
    own = own_model(base.architecture)
    file = _weights_file(base, own)
    if pretrained and file is None:
        return BaseModel(_with_own_weights(base, own, keywords))
    model = _made(base, own, keywords)
    if not pretrained or file is None:
        return BaseModel(model)
    return BaseModel(model, load_into(model, _state(base, file), file.name, keywords.get("num_classes")))


def transform(base: Base) -> Any:
    """Returns the evaluation transform that goes with the class."""
    found, config = _said_of_images(base)
    if found is not None:
        return found
    if config is not None:
        return transform_of(format_of_config(config), float(config.get("crop_pct") or CROPPED))
    return default_transform(_name(base))


def input_format(base: Base) -> InputFormat:
    """Returns what the class expects of an image, as its transform shows."""
    found, config = _said_of_images(base)
    if found is not None:
        return format_of_transform(found, _name(base))
    return IMAGENET if config is None else format_of_config(config)


def weights_facts(base: Base) -> WeightsFacts:
    """Returns what is known of the weights' file."""
    own = own_model(base.architecture)
    file = _weights_file(base, own)
    if file is None:
        return WeightsFacts(own.where, None, (), None)
    return WeightsFacts(own.where, base.weights or file.name, (file.name,), file if file.is_file() else None)


def card(base: Base) -> BaseCard:
    """Returns that nothing is known of a license or of classes."""
    return BaseCard(None, ())


def _name(base: Base) -> str:
    return f"python/{shown(base.architecture)}"


def _weights_file(base: Base, own: OwnModel) -> Path | None:
    """Returns the path of the weights, or their bare name where no such file was found; None where none are named.

    The recipe says which file it is, `register_model` where it lies.
    """
    if base.weights is None or (own.weights and own.weights.name == Path(base.weights).name):
        return own.weights
    path = expanded(base.weights, "The recipe's base.weights")
    return path if path.is_file() else find_file(base.weights) or path


def _state(base: Base, file: Path) -> dict[str, Tensor]:
    if file.is_file():
        return read_file(file, base.sha256)
    if len(file.parts) > 1:
        raise WeightsError(f"The weights of {_name(base)} are to be {file}, and there is no such file. Correct it.")
    return read_weights(file.name, sha256=base.sha256)


def _made(base: Base, own: OwnModel, keywords: dict[str, Any], pretrained: bool = False) -> nn.Module:
    """Returns a module that nobody else holds; on the meta device where that is the default one."""
    device = torch.get_default_device()
    try:
        return _called(base, own, keywords, pretrained).to(device)
    except ArgumentError:
        if device.type != "meta":
            raise
    # A constructor may need the values of what it computes: `torch.linspace(0, rate, depth)[i].item()`.
    with torch.device("cpu"):
        return _called(base, own, keywords, pretrained).to(device)


def _called(base: Base, own: OwnModel, keywords: dict[str, Any], pretrained: bool) -> nn.Module:
    if isinstance(own.factory, nn.Module):
        made: Any = own.factory
        if keywords:
            raise ArgumentError(f"{_name(base)} is a module already, which takes no {', '.join(keywords)}.")
    else:
        given = keywords | ({"pretrained": pretrained} if _takes_pretrained(own) else {})
        made = _result(base, own, given)
    if not isinstance(made, nn.Module):
        raise ArgumentError(f"{own.where} made a {type(made).__name__} for {_name(base)}; expected a torch.nn.Module.")
    # It may give a module that is there already, which must not be quantized under its owner's hands.
    return copy_model(made)


def _result(base: Base, own: OwnModel, keywords: dict[str, Any]) -> Any:
    try:
        return own.factory(**keywords)
    except QzooError:
        raise
    except Exception as error:  # code of the user's may raise anything
        given = ", ".join(f"{name}={shown(repr(value), 60)}" for name, value in keywords.items())
        raise ArgumentError(f"{own.where}({given}), which makes {_name(base)}, raised {told(error)}.") from error


def _takes_pretrained(own: OwnModel) -> bool:
    try:
        return "pretrained" in inspect.signature(own.factory).parameters
    except (TypeError, ValueError):  # a factory without a signature
        return False


def _with_own_weights(base: Base, own: OwnModel, keywords: dict[str, Any]) -> nn.Module:
    """Returns a model with the weights that the factory gives it each time.

    Raises:
        WeightsError: it gives others each time, so they are random.
    """
    model, again = (_made(base, own, keywords, pretrained=True) for _ in range(2))
    if not _equal(model.state_dict(), again.state_dict()):
        raise WeightsError(
            f"Nothing says which weights {_name(base)} has: {own.where} gives random ones, others each time. Name a "
            "file in the recipe, base: {weights: tiny.safetensors}, a path or a name in QZOO_WEIGHTS_DIR; or say "
            "qzoo.register_model(..., weights=PATH); or let the factory load them."
        )
    return model


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    values = [(value, other[key]) for key, value in one.items() if isinstance(value, Tensor)]
    return all(torch.equal(ours, theirs) for ours, theirs in values)


def _said_of_images(base: Base) -> tuple[Any, dict[str, Any] | None]:
    """Returns the transform that was given, or that factory or module have as an attribute; else a `pretrained_cfg`."""
    own = own_model(base.architecture)
    if own.transform is not None:
        return own.transform, None
    if not isinstance(own.factory, nn.Module) and (found := _attribute(own.factory)) is not None:
        return found, None
    with torch.device("meta"):
        model = _made(base, own, {})
    config = getattr(model, "pretrained_cfg", None)
    return _attribute(model), config if isinstance(config, dict) and config.get("mean") else None


def _attribute(holder: Any) -> Any:
    """Returns the attribute `transform`; a method is none, nor is a part of a module, which its forward may apply."""
    found = inspect.getattr_static(holder, "transform", None)
    is_method = inspect.isfunction(found) and isinstance(holder, type | nn.Module)
    return None if found is None or is_method else getattr(holder, "transform", None)
