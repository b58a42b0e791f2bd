"""The choice of a variant, of facts that are given: no model is made, and nothing measured."""

from __future__ import annotations

from typing import Any

from qzoo.results.recommendation import KnownFigure, Recommendation
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.tasks.recommend import Candidate, Machine, advice, recommend, wanted
from qzoo.zoo.name_lookup import find
from tests.each import for_each

VNNI = Machine("a CPU", ["avx2", "avx512_vnni"], True)
PLAIN = Machine("a CPU", ["avx2"], False)
UNKNOWN = Machine("a CPU", [], None)
ORT, TRT = runtime_named("onnxruntime"), runtime_named("tensorrt")


def candidate(name: str, drop: float | None = None, **facts: Any) -> Candidate:
    """A variant of a real recipe, of which a drop is known or not."""
    zoo_model = find(name)
    measured = KnownFigure(quantity="drop", value=drop or 0.0, unit="points", of=name, source="a receipt of the test")
    figures = [] if drop is None else [measured]
    return Candidate(name, zoo_model.command, zoo_model.resolved, **{"figures": figures, **facts})


def chosen(*candidates: Candidate, runtime: str = "onnxruntime", **options: Any) -> Recommendation:
    machine = options.pop("machine", VNNI)
    return recommend("a base", candidates, runtime_named(runtime), machine, **options)


@for_each(
    ("name", "runtime", "wants"),
    [
        ("resnet18_int8_ort", "onnxruntime", []),
        ("resnet18_int8_ort", "openvino", []),
        ("resnet18_int8_ort", "tensorrt", ["unsigned activations", "skip branches alone"]),
        ("resnet18_int8", "onnxruntime", ["unsigned activations after ReLU", "both operands"]),
        ("resnet18_int8", "tensorrt", []),
        ("resnet18_int8_residual", "tensorrt", []),
        ("resnet18_int8_asym", "onnxruntime", ["both operands"]),
        ("resnet18_int8_asym", "tensorrt", ["takes no zero points"]),
    ],
)
def test_what_a_runtime_wants_otherwise_of_a_variant(name: str, runtime: str, wants: list[str]) -> None:
    found = wanted(find(name).resolved, runtime_named(runtime))
    assert len(found) == len(wants)
    assert all(part in text for part, text in zip(wants, found, strict=True)), found


def test_flags_go_by_the_processor() -> None:
    assert advice(ORT, VNNI).flags == []
    assert "32 bits on this CPU" in advice(ORT, VNNI).reasons[-1]
    assert advice(ORT, VNNI, ["something"]).flags == ["--adapt"]
    for machine, words in ((PLAIN, "has no VNNI"), (UNKNOWN, "may have no VNNI, which can't be told here")):
        for wants in ([], ["something"]):
            found = advice(ORT, machine, wants)
            assert found.flags == ["--reduce-range"]
            assert found.reasons[:-1] == wants
            assert words in found.reasons[-1]
    assert advice(TRT, PLAIN).flags == []  # which does not run on it


@for_each("runtime", RUNTIMES)
def test_what_fits_as_it_is_comes_first(runtime: str) -> None:
    names = [f"resnet18_{one}" for one in ("int8", "int8_ort", "int8_residual", "int8_asym")]
    found = chosen(*[candidate(name) for name in names], runtime=runtime)
    assert found.variant == ("resnet18_int8_residual" if runtime == "tensorrt" else "resnet18_int8_ort")
    assert found.advice.flags == []
    assert found.command == f"qzoo export {found.variant} --data PATH --runtime {runtime}"


def test_then_what_is_measured_to_lose_least() -> None:
    candidates = [candidate("resnet18_int8"), candidate("resnet18_int8_mse", 0.2), candidate("resnet18_int8_max", 0.1)]
    assert chosen(*candidates).variant == "resnet18_int8_max"
    assert chosen(*candidates[:2]).variant == "resnet18_int8_mse"
    trained = candidate("resnet18_int8_entropy", 0.0, only_calibrated=False)
    assert chosen(trained, *candidates).variant == "resnet18_int8_max"


def test_what_is_known_to_lose_more_is_left_out() -> None:
    found = chosen(candidate("resnet18_int8_ort", 0.8), candidate("resnet18_int8", 0.4), max_drop=0.5)
    assert found.variant == "resnet18_int8"
    assert found.drop == 0.4
    assert [(one.name, one.reason) for one in found.left_out] == [
        ("resnet18_int8_ort", "it lost 0.80 points, more than 0.5")
    ]
    assert chosen(candidate("resnet18_int8", 0.5), max_drop=0.5).variant == "resnet18_int8"


def test_where_nothing_is_left_a_search_comes_next() -> None:
    found = chosen(candidate("resnet18_int8_ort", 0.8), candidate("resnet18_int8", 0.6), max_drop=0.5)
    assert found.variant is None
    assert found.drop is None
    assert found.figures == []
    assert found.command == "qzoo search resnet18_int8_ort --data PATH --target onnxruntime --max-drop 0.5"


def test_a_point_of_a_search_comes_where_no_variant_is_measured_to_meet_the_budget() -> None:
    point = candidate("resnet18_int8", 0.3, point="solution")
    unmeasured, worse = candidate("resnet18_int8_ort"), candidate("resnet18_int8_ort", 0.9)
    for variant in (unmeasured, worse):
        found = chosen(variant, point, max_drop=0.5)
        assert (found.variant, found.point, found.drop) == ("resnet18_int8", "solution", 0.3)
        assert found.command == "qzoo search resnet18_int8 --data PATH --target onnxruntime --max-drop 0.5 --apply"
    assert chosen(candidate("resnet18_int8_ort", 0.4), point, max_drop=0.5).point is None
    assert chosen(unmeasured, point).point is None
    too_much = candidate("resnet18_int8", 0.7, point="solution")
    assert chosen(unmeasured, too_much, max_drop=0.5).point is None


def test_fewer_bits_and_other_formats_are_left_out_unless_asked_for() -> None:
    found = chosen(candidate("resnet20_cifar10_w4a8"), candidate("resnet20_cifar10_fp8"))
    assert found.variant is None
    assert [one.reason for one in found.left_out] == [
        "fewer than 8 bits run in the same kernels: no faster than int8",
        "it is of e4m3, which integer kernels do not take",
    ]
    assert chosen(candidate("resnet20_cifar10_w4a8")).variant == "resnet20_cifar10_w4a8"
    assert chosen(candidate("resnet20_cifar10_fp8")).variant is None


def test_where_nothing_is_known_there_is_no_figure_and_a_command_for_each() -> None:
    found = chosen(candidate("resnet18_int8", making="qzoo calibrate it"), machine=PLAIN, max_drop=1.0)
    assert found.variant == "resnet18_int8"
    assert found.figures == []
    assert found.drop is None
    assert [(one.what.partition(":")[0], one.command) for one in found.unknown] == [
        ("its ranges", "qzoo calibrate it"),
        ("its accuracy", "qzoo evaluate resnet18_int8 --data PATH --receipt FILE"),
        (
            "the accuracy of what --reduce-range makes of it, which is another model",
            "qzoo evaluate resnet18_int8 --data PATH --runtime onnxruntime --reduce-range",
        ),
        (
            "its latency in ONNX Runtime on this machine",
            "qzoo benchmark resnet18_int8 --data PATH --runtime onnxruntime --reduce-range",
        ),
    ]


def test_a_latency_is_known_only_of_what_is_exported() -> None:
    latency = KnownFigure(quantity="latency", value=3.0, unit="ms", of="x", source="measured by the test")
    as_it_is = candidate("resnet18_int8_ort", figures=[latency])
    assert not any("latency" in one.what for one in chosen(as_it_is).unknown)
    assert any("latency" in one.what for one in chosen(as_it_is, machine=PLAIN).unknown)
    tensorrt = chosen(candidate("resnet18_int8_residual"), runtime="tensorrt").unknown[-1]
    assert tensorrt.what.endswith("trtexec, its own tool, times it")
    assert tensorrt.command is None
