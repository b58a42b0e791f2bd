"""Measuring a table, and what it refuses to measure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import ArgumentError, UnknownNameError, UnsupportedError
from qzoo.quant.ranges import quantizers
from qzoo.tasks.latency_table import latency_table, measured_of, neighbouring, require_partition


def model(images: int = 4, width: int = 8, **call: Any) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3, stride=2), nn.Flatten())
    x = torch.randn(images, 3, 9, 9)
    return qzoo.calibrate(qzoo.quantize(layers.eval(), "int8_ort", example=x[:1], **call), [x])


GROUPS = {
    "first": ["0.input_quantizer", "0.weight_quantizer"],
    "second": ["2.input_quantizer", "2.weight_quantizer"],
}
X = torch.zeros(1, 3, 9, 9)


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_table_has_each_group_and_its_neighbours_and_leaves_the_model_as_it_was(runtime: str) -> None:
    quantized, shown = model(), []

    def progress(items: Iterable[Any], images: int | None, what: Any) -> Iterable[Any]:
        shown.append((images, what))
        return items

    before = {key: value.clone() for key, value in quantized.state_dict().items()}
    found = latency_table(quantized, runtime, GROUPS, threads=1, batch=2, example=X, progress=progress)
    assert found.names == ["first", "second"]
    assert [pair.groups for pair in found.neighbours] == [("first", "second")]
    assert (found.runtime, found.threads, found.batch) == (runtime, 1, 2)
    for low, middle, high in (found.float_ms, found.quantized_ms):
        assert 0 < low <= middle <= high
    for group in found.groups:
        assert group.interval_ms[0] <= group.left_in_float_ms <= group.interval_ms[1]
        assert found.quantized_ms[1] + group.left_in_float_ms > 0
    assert found.of_choice(["first", "second"]) == pytest.approx(found.float_ms[1])
    assert found.measured_of_sha256 == measured_of(quantized, GROUPS, X)
    assert found.environment[runtime]
    # The float model, each group, and both together.
    assert [count for count, _ in shown] == [0, 4]
    assert all(torch.equal(before[key], value) for key, value in quantized.state_dict().items())
    assert {one.state for one in quantizers(quantized).values()} == {"quantizing"}


def test_tensorrt_is_refused_and_a_table_asked_for() -> None:
    with pytest.raises(UnsupportedError) as refused:
        latency_table(model(), "tensorrt", GROUPS, example=X)
    assert str(refused.value).startswith("qzoo measures no latency table for TensorRT: engines are built and timed by")
    assert "trtexec" in str(refused.value)
    assert "--latency-table FILE" in str(refused.value)


def test_an_unknown_runtime_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown runtime 'onnxruntim'\. Did you mean 'onnxruntime'"):
        latency_table(model(), "onnxruntim", GROUPS, example=X)


def test_every_quantizer_is_in_one_group() -> None:
    quantized = model()
    with pytest.raises(ArgumentError, match=r"2 of 4 quantizers are in no group: 2\.input_quantizer, 2\.weight_quan"):
        require_partition(quantized, {"first": GROUPS["first"]})
    with pytest.raises(
        ArgumentError, match=r"0\.input_quantizer is in the groups 'first' and 'more'\. It can be in one"
    ):
        require_partition(quantized, GROUPS | {"more": ["0.input_quantizer"]})
    with pytest.raises(
        UnknownNameError, match=r"'first' names '0\.inputs_quantizer', no quantizer that is on\. Did you"
    ):
        require_partition(quantized, GROUPS | {"first": ["0.inputs_quantizer"]})
    for path in GROUPS["second"]:
        quantizers(quantized)[path].state = "off"
    require_partition(quantized, {"first": GROUPS["first"]})
    with pytest.raises(UnknownNameError, match=r"'second' names '2\.input_quantizer', no quantizer that is on"):
        require_partition(quantized, GROUPS)


def test_of_many_groups_right_before_one_the_nearest_are_measured_with_it() -> None:
    groups = {name: [f"{name}.q"] for name in "abcdef"}
    dense = {f"{name}.q": {f"{before}.q" for before in "abcdef"[:place]} for place, name in enumerate("abcdef")}
    found = neighbouring(dense, groups)
    assert [pair for pair in found if "f" in pair] == [("c", "f"), ("d", "f"), ("e", "f")]
    assert ("a", "b") in found
    assert neighbouring({"a.q": {"b.q"}}, groups) == [("a", "b")]  # whichever comes first among the groups
    assert neighbouring({}, groups) == []


def test_the_digest_is_of_what_decides_latency_and_of_nothing_else() -> None:
    own = measured_of(model(), GROUPS, X)
    assert own == measured_of(model(images=6), GROUPS, X)  # other ranges
    assert own == measured_of(model(), dict(reversed(GROUPS.items())), X)
    assert own == measured_of(model(), GROUPS, X.expand(8, -1, -1, -1))
    off = model()
    quantizers(off)["0.input_quantizer"].state = "off"
    others = {
        "width": measured_of(model(width=12), GROUPS, X),
        "stride": measured_of(_with_stride(model()), GROUPS, X),
        "bits": measured_of(model(rules=[{"match": {"name": "0"}, "weight": {"bits": 4}}]), GROUPS, X),
        "off": measured_of(off, GROUPS, X),
        "groups": measured_of(model(), {"all": [*GROUPS["first"], *GROUPS["second"]]}, X),
        "size": measured_of(model(), GROUPS, torch.zeros(1, 3, 12, 12)),
    }
    assert len({own, *others.values()}) == 7


def _with_stride(changed: nn.Module) -> nn.Module:
    layer = changed.get_submodule("2")
    layer.stride = (1, 1)  # type: ignore[assignment]
    return changed
