"""Functions of torch that are written in Python, and would hide from a mode what they evaluate.

`F.multi_head_attention_forward` hands itself to a `TorchFunctionMode` as one operator, with four projections and two
matrix products inside. A twin of it runs the same code of torch, but does not ask for a mode first: so the mode sees
what is evaluated inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_QUESTION = "has_torch_function"


def _twin(function: Any) -> Callable[..., Any]:
    # In a torch that asks otherwise the function stays one operator, whose parts are in float.
    if _QUESTION not in function.__code__.co_names:
        return function  # type: ignore[no-any-return]
    names = {**function.__globals__, _QUESTION: _no}
    twin = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _no(_: Any) -> bool:
    return False


_ATTENTION = _twin(F.multi_head_attention_forward)


def opened(function: Any) -> Callable[..., Any] | None:
    """Returns what computes the same as a function of torch and lets a mode see how; None for an operator.

    Example:
        >>> opened(F.multi_head_attention_forward) is None, opened(F.linear) is None
        (False, True)
    """
    is_opened = function is F.multi_head_attention_forward and _ATTENTION is not function
    return _ATTENTION if is_opened else None


class OperatorMode(TorchFunctionMode, ABC):
    """A mode that sees each operator, those inside functions of torch too."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if (inner := opened(func)) is not None:
            with self:
                return inner(*args, **kwargs)
        return self.evaluated(func, args, kwargs)

    @abstractmethod
    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns what an operator gives, or what the model is to get in its place."""
