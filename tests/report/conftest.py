"""A made-up sensitivity report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qzoo.results.sensitivity import Deviation, Excluded, LayerSensitivity, SensitivityReport


def _deviation(sqnr_db: float | None, top1: float | None = 76.0, flips: int = 0) -> Deviation:
    return Deviation(sqnr_db=sqnr_db, top1=top1, flips=flips)


def _layer(place: int, sqnr_db: float | None, labelled: bool = True) -> LayerSensitivity:
    name = f"block.{place}.conv"
    return LayerSensitivity(
        name=name, alone=_deviation(sqnr_db, flips=place), left_out=_deviation(sqnr_db),
        drop=0.5 if labelled else None, gain=-0.25 if labelled else None, rank_by_sqnr=place + 1,
        rank_by_drop=place + 1, rule={"match": {"name": name}, "input": False},
    )  # fmt: skip


def make(layers: int = 3, labelled: bool = True, **fields: Any) -> SensitivityReport:
    ratios = [10.0 + 5 * place for place in range(layers - 1)]
    return SensitivityReport(
        name="net_int8", version=2, dataset="imagenet-1k", split="val", images=400,
        float_top1=76.0 if labelled else None, quantized=_deviation(9.0, 70.0 if labelled else None, 31),
        layers=[_layer(place, ratio, labelled) for place, ratio in enumerate([*ratios, None])],
        mended=[Excluded(layers=["block.0.conv"], deviation=_deviation(12.0, 75.0), gain=5.0 if labelled else None)],
        seconds=1.0, **fields,
    )  # fmt: skip


@pytest.fixture(scope="session")
def example() -> Callable[..., SensitivityReport]:
    """Makes one with so many layers, with or without labels."""
    return make
