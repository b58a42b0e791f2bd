"""What a model is given: a tensor, a tuple of its arguments, or a dict of them by name; in them tensors, nested or not.

Numbers, text and None among the arguments are passed as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from qzoo.arguments import signature_text

_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns what a model is called with, by place and by name.

    Example:
        >>> arguments({"pixel_values": 1}), arguments((1, 2)), arguments(1)
        (((), {'pixel_values': 1}), ((1, 2), {}), ((1,), {}))
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def run(model: Callable[..., Any], inputs: Any) -> Any:
    """Returns what a model makes of its inputs."""
    args, kwargs = arguments(inputs)
    return model(*args, **kwargs)


def tensors(inputs: Any) -> list[Tensor]:
    """Returns the tensors among the inputs, in order."""
    return [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]


def batch_size(inputs: Any) -> int:
    """Returns the length of the tensor with the most dimensions, of several the first: images beside their masks.

    Example:
        >>> batch_size({"sizes": torch.zeros(2), "pixel_values": torch.zeros(4, 3, 8, 8)})
        4
    """
    most = max(tensors(inputs), key=Tensor.dim, default=None)
    return 0 if most is None or not most.dim() else len(most)


def on_batches(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """Returns the inputs with each tensor changed that has an element for each image; all others are shared by all."""
    size = batch_size(inputs)
    return tree_map(lambda leaf: function(leaf) if is_batched(leaf, size) else leaf, inputs)


def is_batched(leaf: Any, size: int) -> bool:
    """Whether an argument holds an element for each of `size` images."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == size


def to_device(inputs: Any, device: torch.device) -> Any:
    """Returns the inputs with all tensors on a device, without a history of gradients."""
    return tree_map(
        lambda leaf: leaf.detach().to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf, inputs
    )


def with_images(inputs: Any, images: int) -> Any:
    """Returns inputs of so many images: the first ones, over and over where there are fewer.

    Example:
        >>> with_images((torch.tensor([1, 2]), torch.zeros(())), 3)
        (tensor([1, 2, 1]), tensor(0.))
    """
    rows = torch.arange(images) % max(batch_size(inputs), 1)
    return on_batches(lambda tensor: tensor[rows.to(tensor.device)], inputs)


def split(inputs: Any, images: int) -> Iterator[Any]:
    """Yields inputs of so many images each, the last perhaps of fewer."""
    for start in range(0, batch_size(inputs), images):
        yield on_batches(lambda tensor, start=start: tensor[start : start + images], inputs)  # type: ignore[misc]


def signature(model: nn.Module) -> inspect.Signature:
    """Returns what a model's forward takes, as its own class says it: a derived class passes on whatever it gets."""
    forwards = [vars(kind)["forward"] for kind in type(model).__mro__ if "forward" in vars(kind)]
    own = [model.forward] if "forward" in vars(model) else []
    for forward in (*own, *(forward.__get__(model) for forward in forwards)):
        found = inspect.signature(forward)
        if not found.parameters or any(one.kind not in _OPEN for one in found.parameters.values()):
            return found
    return inspect.signature(model.forward)


def takes(model: nn.Module) -> str:
    """Returns the names of the arguments that a model takes, those with defaults in brackets.

    Example:
        >>> takes(nn.Conv2d(1, 1, 1))
        'input'
    """
    return signature_text(signature(model))


def needed(model: nn.Module) -> list[str]:
    """Returns the names of the arguments that a model can't do without.

    Example:
        >>> needed(nn.Bilinear(2, 2, 1))
        ['input1', 'input2']
    """
    parameters = signature(model).parameters.values()
    return [one.name for one in parameters if one.default is one.empty and one.kind not in _OPEN]
