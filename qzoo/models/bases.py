"""Base models by source, one module a library with `create`, `transform` and `input_format`; their identity."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from qzoo.data import Augmentation, train_transform
from qzoo.errors import ArgumentError, QzooError, shown
from qzoo.models.base_model import BaseCard, BaseModel, InputFormat, WeightsFacts
from qzoo.models.provenance import Provenance, provenance, ranges_from, remember
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.recipe import Base
from qzoo.weights.artifact import combined_digest, entry_digests, versions


def create_base(base: Base, pretrained: bool = False, **keywords: Any) -> nn.Module:
    """Returns the float model, in evaluation mode: the library's own class.

    Args:
        base: source, architecture and weights.
        pretrained: load the weights; else they are random.
        keywords: keyword arguments of the library's constructor (`num_classes`, `in_chans` ...).

    Raises:
        UnknownNameError: the library has no such architecture or weights; with the nearest names.
        ArgumentError: the library's constructor does not take the keywords; says what it says.
        WeightsError: the weights are missing, can't be downloaded, are damaged, or not the file that the recipe names.

    Warns:
        NewHeadWarning: `num_classes` differs from the weights', so the classifier is random.
    """
    try:
        made: BaseModel = _source(base).create(base, pretrained, dict(keywords))
    except QzooError:
        raise
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        if not keywords:
            raise
        said = ", ".join(f"{name}={shown(repr(value), 60)}" for name, value in keywords.items())
        says = str(error).partition("\n")[0]
        raise ArgumentError(f"{base.architecture} can't be made with {said}: {says}") from error
    remember(made.model, Provenance(base, repr(sorted(keywords.items())), entry_digests(made.old_head)))
    return made.model.eval()


def create_bare(base: Base) -> nn.Module:
    """Returns the float model as it is with its weights, but with random ones: to be given others."""
    keywords: dict[str, Any] = getattr(_source(base), "WITH_WEIGHTS", {}).get(base.architecture, {})
    return create_base(base, **keywords)


def meta_model(base: Base) -> nn.Module:
    """Returns the float model on the meta device: names and shapes, without memory for its weights."""
    try:
        with torch.device("meta"):
            return create_base(base)
    except NotImplementedError:
        # torchvision's RegNet computes its widths with tensors, which need values; its weights need none.
        with _AllocatingNothing():
            return create_base(base).to("meta")


class _AllocatingNothing(TorchFunctionMode):
    """Puts what layers allocate for their weights on the meta device, and nothing else."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


def base_transform(base: Base) -> Any:
    """Returns the evaluation transform that belongs to the base's weights: from an image to a float32 tensor."""
    return _source(base).transform(base)


def base_train_transform(base: Base, dataset: str, seed: int) -> Augmentation:
    """Returns the training transform of a dataset at the input format of the base's weights, seeded per image."""
    form = input_format(base)
    return train_transform(
        dataset, size=form.size, mean=form.mean, std=form.std, interpolation=form.interpolation, seed=seed
    )


def input_format(base: Base) -> InputFormat:
    """Returns what the base's weights expect of an image."""
    return _source(base).input_format(base)  # type: ignore[no-any-return]


def weights_facts(base: Base) -> WeightsFacts:
    """Returns what a library says of the weights of one of its models, without loading them.

    Raises:
        UnknownNameError: the library has no such architecture or weights; with the nearest names.
    """
    return _source(base).weights_facts(base)  # type: ignore[no-any-return]


def base_card(base: Base) -> BaseCard:
    """Returns what a library says of a base that a model card tells: license, classes, repository."""
    return _source(base).card(base)  # type: ignore[no-any-return]


def base_digest(model: nn.Module) -> str:
    """Returns the content digest of a model's float weights, quantized or not.

    A classifier that was replaced when the model was made counts as the one in the weights file, so that the ranges
    of all other layers still fit. Batch norm's counter of batches does not count: no prediction depends on it.
    """
    quantizers = tuple(
        f"{name}."
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, TensorQuantizer)
    )
    state = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith(quantizers) and not key.endswith("num_batches_tracked")
    }
    made = provenance(model)
    found = combined_digest(entry_digests(state) | (made.old_head if made else {}))
    # An optimized model is its base, and what a rounding file holds.
    return made.optimized.base_sha256 if made and made.optimized and made.optimized.sha256 == found else found


def _source(base: Base) -> Any:
    # Imported when it is requested: a digits model needs no timm.
    return import_module(f"qzoo.models.from_{base.source}")


def variant_name(model: nn.Module) -> str:
    """Returns the full name of the variant that a model is; empty for one that no recipe describes."""
    made = provenance(model)
    return made.variant.name if made and made.variant else ""


def identity(model: nn.Module) -> dict[str, Any]:
    """Returns the fields of `ArtifactInfo`: variant, version and digest of the recipe, digest of the float weights.

    Also what its ranges were made from. A model that no recipe describes has empty ones.

    Args:
        model: float or quantized.
    """
    made = provenance(model)
    variant = made.variant if made else None
    return {
        "name": variant_name(model),
        "version": variant.version if variant else 0,
        "recipe_sha256": variant.digest if variant else "",
        "base_sha256": base_digest(model),
        "calibration_source": ranges_from(model),
        **versions(),
    }
