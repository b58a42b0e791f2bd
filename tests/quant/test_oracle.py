"""Against the results of NVIDIA's pytorch-quantization 2.2.1, and against the exact definitions."""

from __future__ import annotations

import importlib.util
import json
import math
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from qzoo.quant.calibration.collectors import HistogramCollector, MaxCollector
from qzoo.quant.calibration.solvers import solve
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.schema.quantizer import Calibrator, QuantizerSpec

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle"
CASES = json.loads((ORACLE / "calibrators.json").read_text())["cases"] if ORACLE.is_dir() else []
BITS_AND_SIGNS = [(8, False), (8, True), (4, False), (4, True)]

pytestmark = pytest.mark.skipif(not CASES, reason="no results of the reference implementation beside the checkout")


@cache
def batches(case: str) -> list[torch.Tensor]:
    spec = importlib.util.spec_from_file_location("oracle_inputs", ORACLE / "inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [torch.from_numpy(x) for x in module.batches(next(c for c in CASES if c["id"] == case))]


@cache
def collected(case: str, binning: str) -> HistogramCollector:
    collector = HistogramCollector(binning)
    for batch in batches(case):
        collector.collect(batch)
    return collector


def solved(case: str, binning: str, bits: int, unsigned: bool, method: Any) -> float:
    spec = QuantizerSpec(bits=bits, unsigned=unsigned, calibrator=Calibrator.model_validate(method))
    return float(solve([collected(case, binning).histogram()], [spec])[0])


def reference(case: dict[str, Any], bits: int, unsigned: bool) -> dict[str, Any]:
    return case["results"][f"num_bits={bits},unsigned={unsigned}"]


def parametrized(test):  # type: ignore[no-untyped-def]
    test = pytest.mark.parametrize(("bits", "unsigned"), BITS_AND_SIGNS)(test)
    return pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])(test)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_reference_histogram(case: dict[str, Any]) -> None:
    histogram, expected = collected(case["id"], "reference").histogram(), case["histogram"]
    assert len(histogram.counts) == expected["num_bins"]
    assert histogram.total == expected["total"]
    assert float(histogram.edges[-1]) == pytest.approx(expected["last_edge"], rel=1e-6)


@parametrized
def test_reference_binning_agrees_with_the_reference(case: dict[str, Any], bits: int, unsigned: bool) -> None:
    width = case["histogram"]["bin_width"]
    for method, expected in reference(case, bits, unsigned).items():
        if isinstance(expected, dict):
            continue
        name, _, percentile = method.partition("_")
        given = {"percentile": float(percentile)} if percentile else name
        ours = solved(case["id"], "reference", bits, unsigned, given)
        slack = 1e-6 * abs(expected) if name in ("max", "percentile") else width * 1.001
        assert abs(ours - expected) <= slack, (method, ours, expected, width)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_aligned_max_is_exact(case: dict[str, Any]) -> None:
    collector = MaxCollector()
    for batch in batches(case["id"]):
        collector.collect(batch)
    exact = max(abs(case["min"]), abs(case["max"]))
    assert max(abs(float(collector.amin)), float(collector.amax)) == exact
    assert solved(case["id"], "aligned", 8, False, "max") == exact
    assert solved(case["id"], "aligned", 8, False, {"percentile": 100}) == exact


@pytest.mark.parametrize("percentile", [50, 99, 99.9, 99.99, 99.999])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_aligned_percentile_is_within_one_bin_above_the_quantile(case: dict[str, Any], percentile: float) -> None:
    values = torch.cat(batches(case["id"])).abs().sort().values
    # NumPy's inverted_cdf takes the share as it is in binary.
    exact = float(values[max(1, math.ceil(Fraction(str(percentile)) / 100 * len(values))) - 1])
    edges = collected(case["id"], "aligned").histogram().edges
    ours = solved(case["id"], "aligned", 8, False, {"percentile": percentile})
    assert exact <= ours <= exact + float(edges[1])


def true_error(values: torch.Tensor, amax: float, bits: int, unsigned: bool) -> float:
    quantized = fake_quantize(values, torch.tensor(amax), grid(bits=bits, unsigned=unsigned))
    return float((quantized.double() - values.double()).square().sum())


@parametrized
def test_aligned_mse_errs_no_more_than_the_reference(case: dict[str, Any], bits: int, unsigned: bool) -> None:
    expected = reference(case, bits, unsigned)["mse"]
    if isinstance(expected, dict):
        pytest.skip(str(expected))
    values = torch.cat(batches(case["id"])).abs()
    ours = true_error(values, solved(case["id"], "aligned", bits, unsigned, "mse"), bits, unsigned)
    theirs = true_error(values, expected, bits, unsigned)
    assert ours <= theirs * (1.3 if case["kind"] == "few_values" else 1.02)


@parametrized
def test_aligned_entropy_keeps_data(case: dict[str, Any], bits: int, unsigned: bool) -> None:
    amax = solved(case["id"], "aligned", bits, unsigned, "entropy")
    values = torch.cat(batches(case["id"])).abs()
    assert 0 < amax <= float(values.max())
    assert float((values <= amax).double().mean()) > 0.5
