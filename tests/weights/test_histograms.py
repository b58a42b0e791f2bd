from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import WeightsError
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.histogram import Histogram
from qzoo.weights.artifact import write_artifact
from qzoo.weights.histograms import HistogramsInfo, load_histograms, save_histograms
from qzoo.weights.kinds import HISTOGRAMS
from tests.each import for_each

INFO = HistogramsInfo(
    name="x_int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, qzoo="0.1.0", torch="2.15.0", base="x",
    variant="int8", recipe="{}", binning="aligned", calibration_images=4, calibration_sha256="c" * 64,
)  # fmt: skip


def collected(binning: str, *tensors: torch.Tensor) -> HistogramCollector:
    collector = HistogramCollector(binning)
    for x in tensors:
        collector.collect(x)
    return collector


def equal(one: Histogram, other: Histogram) -> bool:
    same = torch.equal(one.counts, other.counts) and torch.equal(one.edges, other.edges)
    return same and (one.amin, one.amax, one.binning) == (other.amin, other.amax, other.binning)


@pytest.mark.parametrize("binning", ["aligned", "reference"])
@given(scale=st.sampled_from([1e-38, 1e-6, 1.0, 3.0, 1e30]), signed=st.booleans(), seed=st.integers(0, 5))
def test_come_back_as_they_were(
    binning: str, scale: float, signed: bool, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    x = torch.rand(200, generator=torch.Generator().manual_seed(seed)) * scale
    histogram = collected(binning, x - (scale / 2 if signed else 0), x).histogram()
    path = tmp_path_factory.mktemp("h") / "x.histograms.safetensors"
    save_histograms(path, {"a.input_quantizer": histogram}, INFO.model_copy(update={"binning": binning}))
    read, info = load_histograms(path)
    assert equal(read["a.input_quantizer"], histogram)
    assert info.recipe == "{}"
    again = HistogramCollector.recorded(read["a.input_quantizer"])
    assert equal(again.histogram(), histogram)
    assert not again.empty
    assert not again.nonfinite


def test_both_signs_come_back(tmp_path: Path) -> None:
    seen = {"both": torch.randn(300), "one": torch.rand(300), "below": -torch.rand(300)}
    written = {}
    for path, x in seen.items():
        collector = HistogramCollector(two_sided=True)
        collector.collect(x)
        written[path] = collector.histogram()
    save_histograms(tmp_path / "x.histograms.safetensors", written, INFO)
    read, _ = load_histograms(tmp_path / "x.histograms.safetensors")
    assert all(equal(read[path], written[path]) for path in seen)
    assert torch.equal(read["both"].negatives, written["both"].negatives)  # type: ignore[arg-type]
    assert torch.equal(read["below"].negatives, read["below"].counts)  # type: ignore[arg-type]
    assert read["one"].negatives is None, "nothing is stored where there is nothing to tell"


def test_a_recorded_collector_goes_on_as_if_it_had_seen_the_tensors() -> None:
    x, y = torch.randn(300), torch.randn(300) * 5
    recorded = HistogramCollector.recorded(collected("aligned", x).histogram())
    recorded.collect(y)
    assert equal(recorded.histogram(), collected("aligned", x, y).histogram())


def tensors(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    counts = torch.ones(4096, dtype=torch.int32)
    own = {"counts": counts, "bounds": torch.tensor([0.0, 1.0]), "exponent": torch.tensor(-12)}
    return {f"q.{name}": tensor for name, tensor in (own | changes).items()}


@for_each(
    ("changes", "text"),
    [
        ({"counts": torch.ones(4095, dtype=torch.int32)}, "has 4095 bins, aligned histograms have 4096"),
        ({"counts": torch.ones(4096)}, r"q\.counts is F32 \[4096\]"),
        ({"bounds": torch.ones(3)}, r"q\.bounds is F32 \[3\]"),
        ({"exponent": torch.tensor([1, 2])}, r"q\.exponent is I64 \[2\]"),
        ({"more": torch.ones(1)}, r"q\.more is missing or unknown"),
        ({"negatives": torch.ones(4096)}, r"q\.negatives is F32 \[4096\]"),
        ({"negatives": torch.ones(4095, dtype=torch.int32)}, r"q\.negatives is I32 \[4095\]"),
        ({"negatives": torch.full((4096,), 2, dtype=torch.int32)}, "q is no histogram"),
        ({"negatives": torch.ones(4096, dtype=torch.int32)}, "q is no histogram"),
        ({"counts": torch.full((4096,), -1, dtype=torch.int32)}, "q is no histogram"),
        ({"bounds": torch.tensor([1.0, 0.0])}, "q is no histogram"),
        ({"bounds": torch.tensor([0.0, torch.inf])}, "q is no histogram"),
    ],
)
def test_what_is_no_histogram_is_refused(changes: dict[str, torch.Tensor], text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.histograms.safetensors"
    write_artifact(path, HISTOGRAMS, tensors(), INFO)
    load_histograms(path)
    write_artifact(path, HISTOGRAMS, tensors(**changes), INFO)
    with pytest.raises(WeightsError, match=text):
        load_histograms(path)


def test_edges_that_do_not_rise_and_a_million_bins_are_refused(tmp_path: Path) -> None:
    path, info = tmp_path / "x.histograms.safetensors", INFO.model_copy(update={"binning": "reference"})
    for bins, text in ((8, "q is no histogram"), (1_000_001, "at most 1,000,000 bins")):
        content = tensors(counts=torch.ones(bins, dtype=torch.int32), edges=torch.zeros(bins + 1).double())
        del content["q.exponent"]
        write_artifact(path, HISTOGRAMS, content, info)
        with pytest.raises(WeightsError, match=text):
            load_histograms(path)
