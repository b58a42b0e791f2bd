"""How much of a network is quantized, attention and functional weights included, and whether it exports."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import qzoo
from benchmarks.coverage.check import Failure, _equal, _tensors
from benchmarks.coverage.of_transformers import CLASSIFIERS, SIZE
from benchmarks.coverage.styles import STYLES, style
from qzoo.models.quantize import quantize_in_place
from qzoo.schema.resolution.resolve import resolve_scheme

SCHEME = "int8_vit"
ATTENTION = ("vit_b_16", "swin_t", "swin_v2_t", "maxvit_t")
"""Torchvision's classifiers with attention, the smallest of each kind."""


@dataclass
class Whole:
    """What became of one network.

    Attributes:
        source: `torchvision`, `transformers`, or `own class`.
        name: of the architecture, or of the style.
        weights: percent of its weights that are quantized.
        exported: how many of its layers and products are quantized in the file for ONNX Runtime, as `74 of 74`; or
            why there is none.
        seconds: everything.
        failure: in a few words; empty if all went well.
    """

    source: str
    name: str
    weights: float = 0.0
    exported: str = ""
    seconds: float = 0.0
    failure: str = ""


def networks() -> Iterator[tuple[str, str, Callable[[], tuple[nn.Module, Any]]]]:
    """Yields source, name, and what makes a network with arguments that it takes."""
    for name in ATTENTION:
        yield "torchvision", name, lambda name=name: (_of_torchvision(name), (torch.randn(2, 3, 224, 224),))
    for name, make in CLASSIFIERS.items():
        yield "transformers", name, lambda make=make: (make().eval(), (torch.randn(2, 3, SIZE, SIZE),))
    for name in STYLES:
        yield "own class", name, lambda name=name: style(name)


def _of_torchvision(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None).eval()  # type: ignore[no-any-return]


def check_whole(source: str, name: str, make: Callable[[], tuple[nn.Module, Any]]) -> Whole:
    """Quantizes, compares, calibrates and exports one network; never raises on its account."""
    result, start = Whole(source, name), time.perf_counter()
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings(), torch.no_grad(), layer_by_layer():
            warnings.simplefilter("ignore")
            _check(result, *make())
    except Failure as failure:
        result.failure = str(failure)
    except Exception as error:  # whatever a network says
        result.failure = _first_line(error)
    result.seconds = time.perf_counter() - start
    return result


def _check(result: Whole, model: nn.Module, arguments: tuple[Any, ...]) -> None:
    before = model(*arguments)
    plan = quantize_in_place(model, resolve_scheme(SCHEME), arguments)
    result.weights = 100 * (1 - sum(one.weights for one in plan.float_weights))
    if not _equal(before, model(*arguments)):
        raise Failure("differs from float, quantizers off")
    qzoo.calibrate(model, [_batch(arguments)])
    if not all(bool(one.isfinite().all()) for one in _tensors(_as_dict(model(*arguments)))):
        raise Failure("the quantized output is not finite")
    result.exported = _exported(model, arguments)


def _exported(model: nn.Module, arguments: tuple[Any, ...]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = qzoo.export(model, Path(folder) / "network.onnx", images=[_batch(arguments)])
        except Exception as error:  # whatever an exporter says
            return _first_line(error)
    wrong = report.parity.first_diverging if report.parity is not None else None
    return f"{report.quantized_layers} of {report.layers}" + (f", {wrong} is wrong" if wrong else "")


def _batch(arguments: tuple[Any, ...]) -> Any:
    alone = len(arguments) == 1 and isinstance(arguments[0], Tensor)
    return arguments[0] if alone else (arguments,)


def _as_dict(output: Any) -> Any:
    return dict(output) if hasattr(output, "items") else output


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:100]}"


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """While this lasts, torch's own attention and encoders take no native function, which rounds otherwise."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
