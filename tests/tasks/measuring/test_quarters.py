"""What is shown goes to each quarter in turn, and one odd quarter does not decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.solvers import solve
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.tasks.calibrate import collect
from qzoo.tasks.inputs.batches import as_batches
from qzoo.tasks.measuring.quarters import Quarters, pieces

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def sizes(*batches: int) -> list[int]:
    return [piece.images for piece in pieces(as_batches([torch.zeros(size, 2) for size in batches], CPU))]


def test_pieces_are_small_and_at_least_four_of_a_batch() -> None:
    assert sizes(64) == [8] * 8
    assert sizes(250) == [8] * 31 + [2]
    assert sizes(9, 1) == [2, 2, 2, 2, 1, 1]
    assert sizes(3) == [1, 1, 1]
    (first, *_) = pieces(as_batches([(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))], CPU))
    assert first.labels is None


def model(calibrator: Any = "max", **spec: Any) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    scheme = {"weight": {}, "input": {"calibrator": calibrator, **spec}}
    rule = {"match": {"type": "Linear"}, **scheme}
    return qzoo.calibrate(qzoo.quantize(net, "int8", rules=[rule]), torch.randn(64, 2))


def shown(net: nn.Module, images: Tensor) -> Quarters:
    quarters = Quarters(net)
    for batch in pieces(as_batches(images, CPU)):
        with quarters.next():
            net(batch.inputs)
    return quarters


def test_all_quarters_together_are_what_calibrating_sees() -> None:
    net, images = model({"percentile": 99.0}), torch.randn(50, 2)
    quarters, whole = shown(net, images), collect(net, images)
    for path, seen in quarters.seen().items():
        assert torch.equal(seen.histogram().counts, whole[path].histogram().counts)  # type: ignore[union-attr]
        assert (seen.amin, seen.amax) == (whole[path].amin, whole[path].amax)


def test_the_smallest_range_is_that_without_the_quarter_that_makes_it_largest() -> None:
    net, images = model(), torch.randn(64, 2)
    images[17] *= 50
    found = shown(net, images).smallest_ranges()["0.input_quantizer"].amax
    in_turn: list[list[Tensor]] = [[], [], [], []]
    for number, piece in enumerate(images.split(8)):
        in_turn[number % 4].append(piece)
    without = [torch.cat([x for other, part in enumerate(in_turn) if other != one for x in part]) for one in range(4)]
    assert found == min(float(part.abs().max()) for part in without) < images.abs().max() / 10


def test_the_sign_that_calibration_found_stays() -> None:
    net: Any = model("mse", unsigned="auto", bits=4)
    qzoo.calibrate(net, torch.rand(64, 2))
    assert bool(net[0].input_quantizer.unsigned)
    piece = torch.rand(8, 2) - 0.1
    assert bool((piece < 0).any())
    found = shown(net, piece.repeat(8, 1)).smallest_ranges()["0.input_quantizer"].amax
    alone = HistogramCollector()
    alone.collect(piece)
    specs = [QuantizerSpec.model_validate({"calibrator": "mse", "bits": 4, "unsigned": sign}) for sign in (True, False)]
    unsigned, signed = solve([alone.histogram()] * 2, specs)
    assert found == unsigned != signed


def test_quantizers_that_are_off_are_not_watched_and_stay_off() -> None:
    net: Any = model()
    net[0].input_quantizer.state = "off"
    quarters = shown(net, torch.randn(16, 2))
    assert list(quarters.quantizers) == ["2.input_quantizer"]
    assert net[0].input_quantizer.state == "off"
    assert net[2].input_quantizer.state == "quantizing"
