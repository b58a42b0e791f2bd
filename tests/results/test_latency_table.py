"""Predicting the latency of a choice, against sums made by hand."""

from __future__ import annotations

import pytest

from qzoo.errors import UnknownNameError
from qzoo.results.latency_table import GroupLatency, LatencyTable, NeighbourLatency


def table(alone: dict[str, float], saved: dict[tuple[str, str], float], float_ms: float) -> LatencyTable:
    """A table whose quantized model takes 10 ms."""
    return LatencyTable(
        runtime="onnxruntime", threads=1, batch=1,
        float_ms=(float_ms - 1, float_ms, float_ms + 1), quantized_ms=(9.0, 10.0, 11.0),
        groups=[GroupLatency(name=name, left_in_float_ms=ms, interval_ms=(ms, ms)) for name, ms in alone.items()],
        neighbours=[NeighbourLatency(groups=pair, saved_ms=ms, interval_ms=(ms, ms)) for pair, ms in saved.items()],
    )  # fmt: skip


def test_what_neighbours_share_counts_once_and_the_rest_is_shared_out_by_size() -> None:
    # 4 + 2 - 2 alone, less 1 + 0.5 shared: 2.5. To a float model of 14.5 ms 2 more are missing: 1, 0.5 and 0.5.
    found = table({"a": 4.0, "b": 2.0, "c": -2.0}, {("a", "b"): 1.0, ("b", "c"): 0.5}, 14.5)
    assert found.added_ms() == pytest.approx({"a": 5.0, "b": 2.5, "c": -1.5})
    expected = {
        (): 10.0, ("a",): 15.0, ("b",): 12.5, ("c",): 8.5, ("a", "b"): 16.5, ("a", "c"): 13.5, ("b", "c"): 10.5,
        ("a", "b", "c"): 14.5,
    }  # fmt: skip
    for choice, milliseconds in expected.items():
        assert found.of_choice(choice) == pytest.approx(milliseconds)
        assert found.of_choice(choice[::-1]) == pytest.approx(milliseconds)


def test_nothing_in_float_is_the_quantized_model_and_all_the_float_model_whatever_was_measured() -> None:
    for alone in ({"a": 3.0, "b": 5.0}, {"a": -3.0, "b": 3.0}, {"a": 0.0, "b": 0.0}, {"only": 7.0}):
        for float_ms in (4.0, 10.0, 30.0):
            found = table(alone, {}, float_ms)
            assert found.of_choice([]) == 10.0
            assert found.of_choice(alone) == pytest.approx(float_ms)


def test_a_group_named_twice_counts_once() -> None:
    found = table({"a": 4.0, "b": 2.0}, {}, 16.0)
    assert found.of_choice(["a", "a"]) == found.of_choice(["a"]) == 14.0


def test_a_group_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no group 'layer1\.convl'\. Did you mean 'layer1\.conv1'"):
        table({"layer1.conv1": 1.0}, {}, 11.0).of_choice(["layer1.convl"])


def test_a_table_is_read_as_it_was_written() -> None:
    found = table({"a": 4.0, "b": 2.0}, {("a", "b"): 1.0}, 16.0)
    assert LatencyTable.model_validate_json(found.model_dump_json()) == found


def test_of_a_noisy_table_an_even_share_counts_as_far_as_it_may() -> None:
    def group(name: str, low: float, high: float) -> GroupLatency:
        return GroupLatency(name=name, left_in_float_ms=(low + high) / 2, interval_ms=(low, high))

    table = LatencyTable(
        runtime="onnxruntime", threads=1, batch=1, float_ms=(9.0, 9.0, 9.0), quantized_ms=(5.0, 5.0, 5.0),
        groups=[group("a", 1.0, 3.0), group("b", -4.0, 1.0), group("c", -2.0, -0.5), group("d", 0.5, 9.0)],
        neighbours=[
            NeighbourLatency(groups=("a", "d"), saved_ms=6.0, interval_ms=(4.0, 8.0)),
            NeighbourLatency(groups=("a", "b"), saved_ms=6.0, interval_ms=(4.0, 8.0)),
            NeighbourLatency(groups=("c", "d"), saved_ms=-0.3, interval_ms=(-0.5, -0.1)),
        ],
    )  # fmt: skip
    certain = table.certain()
    assert [one.left_in_float_ms for one in certain.groups] == [1.0, 1.0, -0.5, 1.0]
    assert [one.saved_ms for one in certain.neighbours] == [1.0, 1.0, -0.1]
    assert certain.of_choice([]) == 5.0
    assert certain.of_choice(["a", "b", "c", "d"]) == pytest.approx(9.0)
