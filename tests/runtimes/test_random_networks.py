"""Random networks of all the parts that people write: what is exported of them is right, quantizer by quantizer."""

from __future__ import annotations

import pytest

from tests.random_networks.checking import faults

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("ignore::qzoo.quant.calibration.collecting.DeadActivationWarning"),
    pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning"),
]

TOGETHER = 8
"""Networks of one export."""


def check(first: int, *, dynamic: bool) -> None:
    found = faults(range(first, first + TOGETHER), "onnxruntime", dynamic=dynamic)
    assert not found, "\n\n".join(map(str, found))


@pytest.mark.parametrize("first", range(0, 40, TOGETHER))
def test_each_quantizer_is_within_a_step(first: int) -> None:
    check(first, dynamic=False)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(40, 200, TOGETHER))
def test_each_quantizer_of_more_is_within_a_step(first: int) -> None:
    check(first, dynamic=False)


@pytest.mark.slow
@pytest.mark.parametrize("first", [40, 120])
def test_each_quantizer_is_within_a_step_in_batches_of_any_size(first: int) -> None:
    check(first, dynamic=True)
