"""What batch norms remember of the images that a model was trained on, and whether that can be believed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.errors import CalibrationError, UnsupportedError, some
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import run
from qzoo.quant.operators.composite import OperatorMode

MOST_NAMED = 3


class UntrainedStatisticsWarning(UserWarning):
    """Batch norms have the statistics that they were made with, so they tell nothing of any image."""


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm, as an operator sees it.

    Attributes:
        path: of its module.
        mean: of each channel of its input, as it is remembered, `(channels,)`; the model's own buffer.
        variance: the same of the variance.
    """

    path: str
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class BatchNormCall:
    """One evaluation of a batch norm.

    Attributes:
        x: its input, `(N, channels, ...)`.
        mean: the running mean that it is given, `(channels,)`; None where it takes that of the batch.
        variance: the running variance, likewise.
    """

    x: Tensor
    mean: Tensor | None
    variance: Tensor | None

    def with_input(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        """Returns the arguments of the evaluation, with another input."""
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "input": x})


def batch_norm_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> BatchNormCall | None:
    """Returns what an operator is given, if it is batch norm: every class of it ends in this one function of torch."""
    if func is not F.batch_norm:
        return None
    given = dict(zip(("input", "running_mean", "running_var"), args, strict=False)) | kwargs
    return BatchNormCall(given["input"], given.get("running_mean"), given.get("running_var"))


def batch_norms(model: nn.Module, example: Any) -> dict[int, BatchNorm]:
    """Returns the batch norms that can be believed, by the `id` of their running mean, in the order of evaluation.

    Left out are those that are called more than once, since what they remember is of all their inputs together, and
    those that were never trained.

    Args:
        model: float or quantized; run once, in evaluation mode.
        example: an input of it.

    Raises:
        UnsupportedError: it evaluates none that remembers anything.
        CalibrationError: a running mean or variance is NaN, or a variance negative; names the modules.

    Warns:
        UntrainedStatisticsWarning: all that some remember is mean 0 and variance 1.
    """
    seen = _Seen()
    with torch.no_grad(), evaluation_mode(model), seen:
        run(model, example)
    # The paths of modules, whose buffers the operator is given.
    paths = {id(tensor): key.rpartition(".")[0] for key, tensor in model.named_buffers()}
    found = {key: BatchNorm(paths.get(key, "a batch norm"), *one) for key, one in seen.statistics.items()}
    if not found:
        raise UnsupportedError(
            f"{type(model).__name__} evaluates no batch norm, which is what `statistics` are read from. Calibrate it "
            "on images that need no data either: `synthetic`."
        )
    _require_possible(found.values())
    once = {key: one for key, one in found.items() if seen.calls[key] == 1}
    trained = {key: one for key, one in once.items() if not _is_untrained(one)}
    untrained = [one.path for key, one in once.items() if key not in trained]
    if untrained:
        warnings.warn(
            f"{len(untrained)} of {len(found)} batch norms have mean 0 and variance 1, as before any training "
            f"({some(untrained, MOST_NAMED)}): what they are given stays as it is. Load trained weights first.",
            UntrainedStatisticsWarning,
            stacklevel=3,
        )
    return trained


class _Seen(OperatorMode):
    """Notes the running statistics of each batch norm, and how often it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics: dict[int, tuple[Tensor, Tensor]] = {}
        self.calls: Counter[int] = Counter()

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = batch_norm_call(func, args, kwargs)
        if call is not None and call.mean is not None and call.variance is not None:
            self.statistics[id(call.mean)] = call.mean, call.variance
            self.calls[id(call.mean)] += 1
        return func(*args, **kwargs)


def _require_possible(norms: Collection[BatchNorm]) -> None:
    faults = {
        "negative variances": [one.path for one in norms if bool((one.variance < 0).any())],
        "NaN or Inf": [one.path for one in norms if not bool((one.mean + one.variance).isfinite().all())],
    }
    for what, paths in faults.items():
        if paths:
            raise CalibrationError(
                f"The running statistics of {some(paths, MOST_NAMED)} hold {what}, which no images leave behind: the "
                "weights are damaged. Load the float weights again, or calibrate on `synthetic` images."
            )


def _is_untrained(norm: BatchNorm) -> bool:
    return not bool(norm.mean.any()) and bool((norm.variance == 1).all())
