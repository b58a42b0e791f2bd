"""One model through the generic int8 recipe with quantizers on skip branches, and what became of it."""

from __future__ import annotations

import copy
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import qzoo
from benchmarks.coverage.architectures import Architecture
from benchmarks.coverage.other_spellings import other_skip_additions
from benchmarks.coverage.without_data import Impossible, calibrate_without_data
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.operators.spellings import MOVES
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.plan import Plan
from qzoo.schema.resolution.resolve import resolve_scheme

IMAGES = 2


class Failure(Exception):
    """A check that a model did not pass, in a few words."""


@dataclass
class Result:
    """What became of one architecture.

    Attributes:
        architecture: which one.
        size: height and width of the images.
        quantizers: how many of each role.
        additions: residual additions that were found.
        other_additions: spellings of skip additions that are not quantized.
        float_operators: how often each operator that computes is left in float.
        without_data: what its ranges were made from without an image.
        seconds: building, quantizing, calibrating and all runs.
        failure: in a few words; empty if all went well.
    """

    architecture: Architecture
    size: int = 0
    quantizers: Counter[str] = field(default_factory=Counter)
    additions: int = 0
    other_additions: Counter[str] = field(default_factory=Counter)
    float_operators: Counter[str] = field(default_factory=Counter)
    without_data: str = ""
    seconds: float = 0.0
    failure: str = ""

    def note(self, plan: Plan) -> None:
        """Counts what a plan quantizes and leaves."""
        self.quantizers = Counter(planned.kind for planned in plan.quantizers)
        left = [operator for operator in plan.float_operators if operator.site.op not in MOVES]
        self.float_operators = Counter(operator.site.op for operator in left)
        self.additions = self.quantizers["residual"] + sum(operator.skip is not None for operator in left)


def check(architecture: Architecture) -> Result:
    """Builds, quantizes, compares, calibrates and runs one architecture; never raises on its account."""
    result, start = Result(architecture), time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check(architecture, result)
    except Failure as failure:
        result.failure = str(failure)
    except Exception as error:  # whatever a model says
        first_line = str(error).strip().split("\n", 1)[0]
        result.failure = f"{type(error).__name__}: {first_line[:100]}"
    result.seconds = time.perf_counter() - start
    return result


def _check(architecture: Architecture, result: Result) -> None:
    model = architecture.build()
    images, expected = _expected(model, architecture.sizes())
    result.size = images.shape[-1]
    result.other_additions = other_skip_additions(model, images[:1])
    # On images of this size: a weight that is computed may be of another shape for others.
    result.note(quantize_in_place(model, with_call(resolve_scheme("int8"), residual="skip"), images))
    for mode, before, after in zip(("evaluation", "training"), expected, _both_modes(model, images), strict=True):
        if not _equal(before, after):
            raise Failure(f"differs from float in {mode}, quantizers off")
    qzoo.calibrate(model, images)
    with torch.no_grad():
        outputs = list(_tensors(model.eval()(images)))
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise Failure("the quantized output is not finite")
    try:
        result.without_data = calibrate_without_data(model, result.size)
    except Impossible as error:
        raise Failure(str(error)) from error


def _expected(model: nn.Module, sizes: list[int]) -> tuple[Tensor, list[Any]]:
    """Returns images of the first size that a model takes, and its float outputs of them; it stays as it is."""
    for size in sizes:
        images = torch.randn(IMAGES, 3, size, size, generator=torch.Generator().manual_seed(size))
        try:
            return images, _both_modes(copy.deepcopy(model), images)
        except Exception:
            if size == sizes[-1]:
                raise
    raise AssertionError("no sizes")


def _both_modes(model: nn.Module, images: Tensor) -> list[Any]:
    """Returns a model's outputs in evaluation and in training; the latter with dropout of one seed, and gradients."""
    with torch.no_grad():
        evaluated = model.eval()(images)
    torch.manual_seed(1)
    trained = model.train()(images)
    return [evaluated, trained]


def _equal(before: Any, after: Any) -> bool:
    pairs = zip(_tensors(before), _tensors(after), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
