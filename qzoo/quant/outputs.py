"""What a model gives, as tensors with names: one tensor; or a tuple, list, dict or dataclass of such, nested or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from qzoo.errors import DataError, UnsupportedError

LOGITS = "logits"


def named_tensors(output: Any) -> dict[str, Tensor]:
    """Returns the tensors of a model's output by name.

    Keys of dicts and fields of dataclasses and named tuples are names; places of tuples and lists are numbers, behind
    `output_` where nothing stands before; names of nested ones follow a dot. A single tensor is called `logits`. What
    is None is left out.

    Raises:
        UnsupportedError: something else is among them, or nothing is.

    Example:
        >>> import torch
        >>> one = torch.zeros(1)
        >>> list(named_tensors((one, {"boxes": [one, one]})))
        ['output_0', 'output_1.boxes.0', 'output_1.boxes.1']
    """
    if isinstance(output, Tensor):
        return {LOGITS: output}
    found: dict[str, Tensor] = {}
    for path, tensor in _walk(output, ()):
        name = ".".join([f"output_{path[0]}" if isinstance(path[0], int) else str(path[0]), *map(str, path[1:])])
        found[name if name not in found else f"{name}_{len(found)}"] = tensor
    if not found:
        raise UnsupportedError(f"The model gives {type(output).__name__} without a tensor in it. {_WRAP}")
    return found


def primary(names: list[str]) -> int:
    """Returns the place of the output that a model is judged by: that called `logits`, or else the first."""
    return names.index(LOGITS) if LOGITS in names else 0


def primary_tensor(output: Any) -> Tensor:
    """Returns the tensor of a model's output that a runtime is compared by; see `primary`."""
    found = named_tensors(output)
    return [*found.values()][primary([*found])]


def logits_of(output: Any) -> Tensor:
    """Returns the one tensor of a model's output, or that of several which is called `logits`.

    Raises:
        DataError: there are several, and none is called so.
    """
    if isinstance(output, Tensor):
        return output
    found = named_tensors(output)
    if len(found) > 1 and LOGITS not in found:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in [*found.items()][:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise DataError(f"The model gives {len(found)} tensors ({shapes}{more}); none is called logits. {_WRAP}")
    return [*found.values()][primary([*found])]


_WRAP = "Wrap it in a module whose forward gives the logits alone, or a dict that has them as 'logits'."


def _walk(output: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(output, Tensor):
        yield path, output
        return
    for key, value in _items(output, path):
        if value is not None:
            yield from _walk(value, (*path, key))


def _items(output: Any, path: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        return list(output.items())
    if dataclasses.is_dataclass(output):
        return [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    if isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", range(len(output)))
        return list(zip(names, output, strict=True))
    where = f", in {'.'.join(map(str, path))}" if path else ""
    raise UnsupportedError(
        f"The model gives a value of type {type(output).__name__}{where}; qzoo takes a tensor, or tuples, lists, dicts "
        f"and dataclasses of tensors. {_WRAP}"
    )
