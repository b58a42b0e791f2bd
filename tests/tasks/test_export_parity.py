"""What a comparison found wrong, in words: the reason, and the flag that mends it."""

from __future__ import annotations

import pytest

from qzoo.results.export import NodeParity, Parity
from qzoo.tasks.export import fault_of

RIGHT = Parity(
    images=32, own_runtime=True, agreement_plain=100, agreement=100, logit_difference_plain=0.01, logit_difference=0.4,
    largest_logit=10, logit_limit=0.5, nodes=[],
)  # fmt: skip
NODE = NodeParity(node="b.input_quantizer", alone=0, plain=0, plain_share=0, optimized=33, optimized_share=0.1)


def told(**what: object) -> str | None:
    return fault_of(RIGHT.model_copy(update=what), "ONNX Runtime")


def test_within_the_limits_nothing_is_wrong() -> None:
    assert told() is None
    assert told(agreement=90.0) is None
    assert told(logit_limit=None, logit_difference=9) is None, "compared by an older qzoo"


@pytest.mark.parametrize("off", [{"agreement": 89.9}, {"logit_difference": 0.51}])
def test_beyond_them_the_cause_is_that_of_the_measurement(off: dict[str, float]) -> None:
    assert "Without optimizations the graph is right" in str(told(**off))
    assert "Without optimizations the graph is right" in str(told(**off, seven_bit_difference=0.6)), (
        "off with 7 bits too"
    )
    overflowing = str(told(**off, seven_bit_difference=0.2, first_overflowing="a.input_quantizer"))
    assert "overflow 16 bits on this CPU, which has no VNNI, first at a.input_quantizer" in overflowing
    assert "Export with --reduce-range, in Python reduce_range=True" in overflowing
    assert "off without optimizations too" in str(told(**off, agreement_plain=50))
    assert "off without optimizations too" in str(told(**off, own_runtime=False))


def test_figures_are_told() -> None:
    assert told(logit_difference=2).startswith("ONNX Runtime's logits are off by 2 of 10, beyond 0.5.")  # type: ignore
    changed = (
        "ONNX Runtime's own optimizations change 20.0 % of the predictions of this graph; logits are off by 2 of 10"
    )
    assert str(told(agreement=80, logit_difference=2)).startswith(changed)


def test_a_layer_that_is_wrong_is_named_first() -> None:
    wrong = {"first_diverging": "b.input_quantizer", "agreement": 20, "seven_bit_difference": 0}
    assert told(**wrong, nodes=[NODE.model_copy(update={"alone": 2})]) == (
        "b.input_quantizer is 2 steps off though it is fed rightly: the graph is wrong."
    )
    optimized = str(told(**wrong, nodes=[NODE.model_copy(update={"optimized_alone": 33})]))
    assert "b.input_quantizer is 33 steps off though it is fed rightly, once ONNX Runtime optimizes" in optimized
    assert "The logits are wrong" in str(told(first_diverging="logits", nodes=[NODE]))
