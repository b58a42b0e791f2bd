import itertools
from pathlib import Path

import pytest

from qzoo.results.latency_table import GroupLatency, LatencyTable, NeighbourLatency
from qzoo.tasks.searching.latencies import Latencies
from qzoo.tasks.searching.problem import Problem

ADDED = {"a": 2.0, "b": 3.0, "c": -0.5}
TABLE = LatencyTable(
    runtime="onnxruntime", threads=2, batch=1, float_ms=(9.0, 10.0, 11.0), quantized_ms=(3.0, 4.0, 5.0),
    groups=[GroupLatency(name=n, left_in_float_ms=ms, interval_ms=(ms, ms)) for n, ms in ADDED.items()],
    neighbours=[NeighbourLatency(groups=("a", "b"), saved_ms=1.0, interval_ms=(0.5, 1.5))],
)  # fmt: skip


def test_costs_of_a_choice_are_what_the_table_predicts() -> None:
    found = Latencies(TABLE, Path("table.json"))
    cost = found.costs(["int8", "int8_mse", "float"])
    problem = Problem([*"abc"], cost, {"latency": cost}, {"latency": found.rest}, {"latency": found.saved})
    for names in itertools.product(["int8", "int8_mse", "float"], repeat=3):
        choice = dict(zip("abc", names, strict=True))
        in_float = [group for group, name in choice.items() if name == "float"]
        # In shares of the float model's 10 ms.
        assert problem.costs_of(choice)["latency"] == pytest.approx(TABLE.certain().of_choice(in_float) / 10)
    assert problem.costs_of(dict.fromkeys("abc", "float"))["latency"] == pytest.approx(1)
    assert problem.costs_of(dict.fromkeys("abc", "int8"))["latency"] == pytest.approx(0.4)


def test_the_source_is_told() -> None:
    source = Latencies(TABLE, Path("table.json")).source
    assert (source.file, source.runtime, source.float_ms, source.quantized_ms) == ("table.json", "onnxruntime", 10, 4)
