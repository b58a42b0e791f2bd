"""`histograms.safetensors`: what a calibration collected, so that any other range can be solved without its images.

For each activation quantizer three tensors: `<path>.counts` (integers), `<path>.bounds` (float32: smallest and largest
value seen), and where the bins lie: `<path>.exponent` (int64: aligned bins are `2**exponent` wide) or `<path>.edges`
(float64, reference binning). Where the calibration told signs apart and saw negative values, `<path>.negatives`
says how many of the counted values are negative. The info holds the recipe itself, so that the file alone says what to
solve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from qzoo.errors import WeightsError, shown
from qzoo.quant.calibration.histogram import ALIGNED_BINS, Histogram, aligned_edges, exponent_of
from qzoo.quant.calibration.histogram_fault import histogram_fault
from qzoo.schema.model import ModelName
from qzoo.weights.artifact import ArtifactInfo, Digest, Header, read_artifact, write_artifact
from qzoo.weights.kinds import HISTOGRAMS

MOST_BINS = 1_000_000
EXPONENTS = range(-126, 117)
"""The exponents of aligned bins: those that float32 values need."""
_DTYPES = {
    "counts": ("I32", "I64"),
    "negatives": ("I32", "I64"),
    "bounds": ("F32",),
    "exponent": ("I64",),
    "edges": ("F64",),
}
_SIZES = {"bounds": (2,), "exponent": ()}


class HistogramsInfo(ArtifactInfo):
    """What a histograms file says of itself."""

    base: ModelName
    """The base's name."""
    variant: ModelName
    """The variant's name in the recipe."""
    recipe: str = Field(max_length=1_000_000)
    """The recipe of that variant, self-contained YAML."""
    binning: Literal["aligned", "reference"]
    """The binning of all histograms in the file."""
    calibration_images: int = Field(ge=0, lt=2**63)
    """How many images were seen."""
    calibration_sha256: Digest
    """The digest of those images."""


def save_histograms(path: Path, histograms: Mapping[str, Histogram], info: HistogramsInfo) -> None:
    """Writes histograms by path of their quantizer; a file of that name is replaced in one step."""
    tensors = {f"{place}.{name}": part for place, one in histograms.items() for name, part in _parts(one)}
    write_artifact(path, HISTOGRAMS, tensors, info)


def load_histograms(path: Path) -> tuple[dict[str, Histogram], HistogramsInfo]:
    """Returns the histograms by path of their quantizer, and what the file says of itself.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, no histograms file, or holds what is no histogram.
    """
    tensors, info = read_artifact(path, HISTOGRAMS, HistogramsInfo, _fault)
    places = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    histograms: dict[str, Histogram] = {}
    for place in places:
        one = _histogram(place, tensors, info)
        if fault := _exponent_fault(place, tensors) if one is None else histogram_fault(one):
            raise WeightsError(f"{path}: {shown(place)} is no histogram: {fault}. {HISTOGRAMS.remedy}")
        assert one is not None
        histograms[place] = one
    return histograms, info


def _parts(histogram: Histogram) -> Iterator[tuple[str, Tensor]]:
    counted = torch.int32 if int(histogram.counts.max()) < 2**31 else torch.int64
    yield "counts", histogram.counts.to(counted)
    if histogram.negatives is not None and histogram.amin < 0:
        yield "negatives", histogram.negatives.to(counted)
    yield "bounds", torch.tensor([histogram.amin, histogram.amax], dtype=torch.float32)
    if histogram.binning == "aligned":
        yield "exponent", torch.tensor(exponent_of(histogram))
    else:
        yield "edges", histogram.edges


def _histogram(place: str, tensors: Mapping[str, Tensor], info: HistogramsInfo) -> Histogram | None:
    amin, amax = tensors[f"{place}.bounds"].tolist()
    if info.binning == "aligned":
        exponent = int(tensors[f"{place}.exponent"])
        if exponent not in EXPONENTS:
            return None
        edges = aligned_edges(exponent)
    else:
        edges = tensors[f"{place}.edges"]
    negatives = tensors.get(f"{place}.negatives")
    return Histogram(
        tensors[f"{place}.counts"].to(torch.int64), edges, amin, amax, info.binning,
        None if negatives is None else negatives.to(torch.int64),
    )  # fmt: skip


def _fault(header: Header, info: HistogramsInfo) -> str | None:
    where = "exponent" if info.binning == "aligned" else "edges"
    places = {key.rpartition(".")[0] for key in header}
    expected = {f"{place}.{name}" for place in places for name in ("counts", "bounds", where)}
    optional = {f"{place}.negatives" for place in places} if info.binning == "aligned" else set()
    if odd := sorted((expected - header.keys()) | (header.keys() - expected - optional)):
        return f"{odd[0]} is missing or unknown"
    for key, (dtype, shape) in header.items():
        place, _, name = key.rpartition(".")
        bins = header[f"{place}.counts"].shape
        if len(bins) != 1 or not 1 <= bins[0] <= MOST_BINS:
            return f"{place}.counts has the shape {list(bins)}, expected one dimension of at most {MOST_BINS:,} bins"
        if dtype not in _DTYPES[name]:
            return f"{key} is {dtype} {list(shape)}"
        if info.binning == "aligned" and bins[0] != ALIGNED_BINS:
            return f"{key} has {bins[0]} bins, aligned histograms have {ALIGNED_BINS}"
        if shape != {**_SIZES, "counts": bins, "negatives": bins, "edges": (bins[0] + 1,)}[name]:
            return f"{key} is {dtype} {list(shape)}"
    return None


def _exponent_fault(place: str, tensors: Mapping[str, Tensor]) -> str:
    given = int(tensors[f"{place}.exponent"])
    return f"its bins are 2**{given} wide, expected an exponent of {EXPONENTS[0]} to {EXPONENTS[-1]}"
