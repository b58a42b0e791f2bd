"""What a model gives, as tensors with names: one tensor; or a tuple, list, dict or dataclass of such, nested or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from qzoo.errors import DataError, UnsupportedError, did_you_mean

LOGITS = "logits"
Logits: TypeAlias = str | Callable[[Any], Tensor] | None
"""Which of a model's outputs are its logits: the name of one, see `named_tensors`; a function that makes them of the
output; or None: the only one, or that which is called `logits`."""
MOST_NAMED = 5


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
    for path, leaf in walk(output):
        if not isinstance(leaf, Tensor) and leaf is not None:
            where = f", in {'.'.join(map(str, path))}" if path else ""
            raise UnsupportedError(
                f"The model gives a value of type {type(leaf).__name__}{where}; qzoo takes a tensor, or tuples, lists, "
                f"dicts and dataclasses of tensors. {_WRAP}"
            )
    return _tensors(output)


def primary(names: list[str]) -> int:
    """Returns the place of the output that a model is judged by: that called `logits`, or else the first."""
    return names.index(LOGITS) if LOGITS in names else 0


def chosen(names: Mapping[str, Tensor], logits: str | None) -> int:
    """Returns the place of the output that a model is judged by: the named one, or `primary`.

    Raises:
        DataError: none has that name; lists those that there are.
    """
    return primary([*names]) if logits is None else [*names].index(_known(names, logits))


def logits_of(output: Any, logits: Logits = None) -> Tensor:
    """Returns the tensor of a model's output that is its logits; values that are no tensors don't matter.

    Args:
        output: what the model gave.
        logits: which of its tensors; default: the only one, or that which is called `logits`.

    Raises:
        DataError: there are several, and none is called so; or none has the name.
        UnsupportedError: there is none.

    Example:
        >>> import torch
        >>> logits_of({"out": torch.ones(1), "aux": torch.zeros(1)}, "out")
        tensor([1.])
    """
    if callable(logits):
        made = logits(output)
        if not isinstance(made, Tensor):
            raise DataError(f"The function logits= gives {type(made).__name__}; expected a tensor (images, classes).")
        return made
    found = _tensors(output)
    if logits is not None:
        return found[_known(found, logits)]
    if len(found) > 1 and LOGITS not in found:
        raise DataError(
            f"The model gives {_listed(found)}; none is called logits. Say which they are: logits='{next(iter(found))}'"
            ", or a function that makes them of the output."
        )
    return [*found.values()][primary([*found])]


_WRAP = "Wrap it in a module whose forward gives the logits alone, or a dict that has them as 'logits'."


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields whatever lies in tuples, lists, dicts and dataclasses, with the keys that lead there, in order."""
    items = _items(value)
    if items is None:
        yield path, value
        return
    for key, inner in items:
        yield from walk(inner, (*path, key))


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, (tuple, list)):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    return None


def _tensors(output: Any) -> dict[str, Tensor]:
    if isinstance(output, Tensor):
        return {LOGITS: output}
    found: dict[str, Tensor] = {}
    for path, tensor in walk(output):
        if isinstance(tensor, Tensor):
            name = ".".join([f"output_{path[0]}" if isinstance(path[0], int) else str(path[0]), *map(str, path[1:])])
            found[name if name not in found else f"{name}_{len(found)}"] = tensor
    if not found:
        raise UnsupportedError(f"The model gives {type(output).__name__} without a tensor in it. {_WRAP}")
    return found


def _known(found: Mapping[str, Tensor], logits: str) -> str:
    if logits not in found:
        raise DataError(f"The model gives {_listed(found)}; none is called {logits}. {did_you_mean(logits, found)}")
    return logits


def _listed(found: Mapping[str, Tensor]) -> str:
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in [*found.items()][:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"{len(found)} tensor{'s' if len(found) > 1 else ''} ({shapes}{more})"
