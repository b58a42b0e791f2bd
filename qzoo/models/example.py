"""An input for a model that nobody gave one: of the size that the model is made for, as far as it can be told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.models.bases import input_format
from qzoo.models.provenance import provenance
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import needed, takes
from qzoo.quant.layers import WEIGHTED

COMMON_SIZES = (224, 299, 256, 64, 32)


def example_inputs(model: nn.Module, images: int = 1) -> Iterator[Tensor]:
    """Yields inputs that the model may take, the likeliest first: normal random values, always the same.

    Channels are those of its first layer, height and width what timm says of the model (`pretrained_cfg`), or what the
    weights of its base want, or sizes that are common.

    Args:
        model: any.
        images: in the batch.
    """
    first = next((layer for layer in model.modules() if isinstance(layer, WEIGHTED)), None)
    if first is not None:
        for shape in dict.fromkeys(_shapes(model, first)):
            yield _random(model, (images, *shape))


def runnable_example(model: nn.Module) -> Tensor:
    """Returns the likeliest image that a model runs on, `(1, C, H, W)`.

    Args:
        model: run in evaluation mode, once for each image that is tried.

    Raises:
        UnsupportedError: it runs on no image of a usual size.
    """
    for x in example_inputs(model):
        try:
            with torch.no_grad(), evaluation_mode(model):
                model(x)
        except (RuntimeError, ValueError, TypeError, AssertionError):
            continue
        return x
    raise UnsupportedError(f"This model runs on no image of a usual size. {how_to_give_one(model)}")


def how_to_give_one(model: nn.Module) -> str:
    """Returns the sentence that ends a message about a model that runs on no image."""
    names = needed(model)
    if len(names) < 2:
        return "Give one: example=torch.zeros(1, 3, 224, 224)."
    by_name = ", ".join(f"'{name}': ..." for name in names)
    return f"It takes {takes(model)}. Give them, as a tuple or by name: example={{{by_name}}}."


def _shapes(model: nn.Module, first: nn.Module) -> Iterator[tuple[int, ...]]:
    is_linear = isinstance(first, nn.Linear)
    for shape in _timm_shapes(model):
        if not is_linear:
            yield (_channels(first), *shape[1:])
        # The first layer need not see the images: they may be cut into patches, or transformed, before it.
        yield shape
    if is_linear:
        yield (int(first.in_features),)  # type: ignore[arg-type]
    else:
        yield from ((_channels(first), *(size,) * _dims(first)) for size in chain(_sizes(model), COMMON_SIZES))


def _channels(layer: nn.Module) -> int:
    return int(layer.in_channels)  # type: ignore[arg-type]


def _dims(layer: nn.Module) -> int:
    return len(layer.kernel_size)  # type: ignore[arg-type]


def _timm_shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    for config in (getattr(model, "pretrained_cfg", None), getattr(model, "default_cfg", None)):
        if config and config.get("input_size"):
            yield tuple(map(int, config["input_size"]))


def _sizes(model: nn.Module) -> Iterator[int]:
    made = provenance(model)
    if made is not None and made.base is not None:
        with suppress(UnsupportedError):  # images that are not square
            yield input_format(made.base).size


def _random(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    like = next((t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point()), torch.empty(0))
    if like.is_meta:
        return torch.empty(shape, dtype=like.dtype, device="meta")
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(like.device, like.dtype)
