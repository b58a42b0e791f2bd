"""The operators of a model that rules can speak of: all that are no layer's own, with the residual additions marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.models.example import example_inputs, how_to_give_one
from qzoo.models.functional_layers import class_names
from qzoo.models.residual import skip_operand
from qzoo.models.tracing import OperatorCall, Trace, trace
from qzoo.quant.inputs import takes
from qzoo.quant.layers import is_quantizable
from qzoo.schema.resolution.plan import Operator

OTHER = {"left": "right", "right": "left"}
OF_ATTENTION = ("query", "key", "value", "softmax")
"""The operands of attention, also those that are parameters, as learned queries: see `quant/operators/attention.py`."""


def find_operators(model: nn.Module, example: Any = None) -> list[Operator]:
    """Returns the operators of a float model in the order of evaluation.

    Args:
        model: runs once on the example, in evaluation mode; not changed. On the meta device this costs no arithmetic.
        example: a tensor, a tuple of arguments, or a dict of them by name; default: random values of the size that the
            model is made for.

    Raises:
        UnsupportedError: the model can't run on the example, or none is given and its size can't be told.

    Example:
        >>> class Skip(nn.Linear):
        ...     def forward(self, x):
        ...         return super().forward(x) + x
        >>> find_operators(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))[0].name
        '0.relu'
    """
    return operators_of(model, traced(model, example))


def traced(model: nn.Module, example: Any = None) -> Trace:
    """Returns what a float model evaluates on an example, or on the first likely one that it runs on.

    Raises:
        UnsupportedError: the model can't run on it.
    """
    faults: list[Exception] = []
    for inputs in [example] if example is not None else example_inputs(model):
        try:
            return trace(model, inputs)
        except Exception as error:  # whatever a model says of an input that it was not made for
            faults.append(error)
    if not faults:
        raise UnsupportedError(_not_run(model, "it has no convolution or linear layer to tell its input from", example))
    reason = f"{type(faults[-1]).__name__}: {str(faults[-1]).partition(chr(10))[0]}"
    raise UnsupportedError(_not_run(model, reason, example)) from faults[-1]


def _not_run(model: nn.Module, reason: str, example: Any) -> str:
    found = f"What {type(model).__name__} computes is found by running it once, which failed"
    if example is None:
        return f"{found} ({reason}). {how_to_give_one(model)}"
    return f"{found} on the example that was given ({reason}). Its forward takes {takes(model)}."


def operators_of(model: nn.Module, found: Trace) -> list[Operator]:
    """Returns the operators in a trace of a model, in the order of evaluation."""
    return list(_numbered(model, found))


def _numbered(model: nn.Module, found: Trace) -> Iterator[Operator]:
    numbers: Counter[tuple[str, str]] = Counter()
    for evaluation in found.evaluations:
        if not _can_be_named(model, evaluation):
            continue
        assert evaluation.site is not None
        skip = skip_operand(found, evaluation)
        numbers[evaluation.module, evaluation.op] += 1
        numbers[evaluation.module, ""] += skip is not None
        yield Operator(
            module=evaluation.module,
            types=class_names(model.get_submodule(evaluation.module)),
            site=evaluation.site,
            operands=OF_ATTENTION if evaluation.op == "sdpa" else tuple(evaluation.operands),
            number=numbers[evaluation.module, evaluation.op],
            skip=skip,
            main=OTHER[skip] if skip else None,
            residual_number=max(1, numbers[evaluation.module, ""]),
            calls=found.calls[evaluation.module],
        )


def _can_be_named(model: nn.Module, evaluation: OperatorCall) -> bool:
    if evaluation.site is None or not evaluation.operands or evaluation.reads:
        return False
    # A layer's convolution is the layer; what else its forward does stays inside it.
    return not is_quantizable(model.get_submodule(evaluation.module))
