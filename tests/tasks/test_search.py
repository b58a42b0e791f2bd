import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import ArgumentError, CalibrationError, UnknownNameError, UnsupportedError
from qzoo.models.bases import create_base
from qzoo.progress import silent
from qzoo.results.latency_table import GroupLatency, LatencyTable
from qzoo.results.search import SearchReport
from qzoo.runtimes.registry import runtime_named
from qzoo.schema.candidates import candidates
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.tasks.measuring.running import measuring
from qzoo.tasks.search import search_variant, space_of_question
from qzoo.tasks.searching.question import Question, SearchImages
from qzoo.tasks.searching.run import Search
from qzoo.tasks.searching.scoring import losses_of
from qzoo.zoo.name_lookup import find
from tests.each import for_each


def on_digits(
    budget: dict[Any, float], *names: str, variant: str = "int8", images: int = 200, **how: Any
) -> SearchReport:
    model = find(f"resnet8_digits_{variant}")
    calibration = calibration_images(model.base, model.dataset, model.resolved.calibration, images=64)
    looked_at = SearchImages(calibration, evaluation_images(model.base, model.dataset, images=images))
    question = Question(budget, candidates(names), score_images=32, **how)
    return search_variant(create_base(model.base, pretrained=True), model.resolved, looked_at, question)


def test_the_solution_keeps_to_its_budget_and_is_what_its_rules_make() -> None:
    report = on_digits({"bits": 3.5}, "w8a8", "w4a8", "w2a8", points=3, neighbours=4)
    solution = report.solution
    weights = {group.name: group.weights for group in report.groups}
    bits = {"w8a8": 8, "w4a8": 4, "w2a8": 2}
    average = sum(weights[name] * bits[one] for name, one in solution.choice.items()) / sum(weights.values())
    assert solution.cost["bits"] == pytest.approx(average)
    assert average <= 3.5
    model = find("resnet8_digits_int8")
    images = calibration_images(model.base, model.dataset, model.resolved.calibration, images=64)
    made = qzoo.quantize(create_base(model.base, pretrained=True), model.resolved, rules=report.rules())
    qzoo.calibrate(made, images)
    found = qzoo.evaluate(made, evaluation_images(model.base, model.dataset, images=200))
    assert solution.measured is not None
    assert found.top1 == pytest.approx(solution.measured.top1)


def test_every_uniform_choice_and_a_curve_are_measured_once() -> None:
    report = on_digits({"bits": 4}, "w8a8", "w2a8", points=4, neighbours=0)
    names = [point.name for point in report.points]
    assert {"solution", "uniform w8a8", "uniform w2a8"} <= set(names)
    assert len(names) == len({frozenset(point.choice.items()) for point in report.points})
    assert [point.cost["bits"] for point in report.points[1:]] == sorted(one.cost["bits"] for one in report.points[1:])
    for point in report.points:
        beaten = any(
            other.cost["bits"] <= point.cost["bits"] and other.lost <= point.lost
            and (other.cost["bits"], other.lost) != (point.cost["bits"], point.lost)
            for other in report.points
        )  # fmt: skip
        assert point.on_front is not beaten


def test_the_cheapest_choice_that_loses_little_is_found() -> None:
    report = on_digits({"max_drop": 1.0}, "w8a8", "w3a8", "w2a8", points=4, neighbours=4, images=597)
    assert report.minimize == "size"
    assert report.is_met
    cheaper = [point for point in report.points if point.cost["size"] < report.solution.cost["size"] - 1e-9]
    assert cheaper
    assert all(point.lost > 1.0 for point in cheaper)


def test_a_drop_that_nothing_keeps_to_is_told() -> None:
    report = on_digits({"max_drop": 0.0}, "w2a2", "w2a3", points=2, neighbours=0)
    assert not report.is_met
    assert report.solution.lost == min(point.lost for point in report.points)


def test_both_budgets_are_kept_to() -> None:
    report = on_digits({"max_drop": 50.0, "macs_int": 0.7}, "int8", "float", points=3, neighbours=0)
    assert report.solution.cost["macs_float"] <= 0.3 + 1e-9


@pytest.mark.slow
@for_each("names, budgets", [(("w8a8", "w3a8"), (3.5, 4.5, 5.5, 6.5)), (("w4a8", "w2a8"), (2.3, 2.8, 3.3))])
def test_the_solution_is_within_2_percent_of_the_best_of_all(
    names: tuple[str, str], budgets: tuple[float, ...]
) -> None:
    model = find("resnet8_digits_int8")
    calibration = calibration_images(model.base, model.dataset, model.resolved.calibration, images=512)
    looked_at = SearchImages(calibration, evaluation_images(model.base, model.dataset, images=100))
    question = Question({"bits": 4}, candidates(names), score_images=128)
    space = space_of_question(create_base(model.base, pretrained=True), model.resolved, looked_at, question, silent)
    run = Search(space, looked_at, question, None, None, silent)
    with run.scoring() as (problem, batches):
        layers = [group for group in problem.groups if group != "avgpool"]
        every = [
            {**dict(zip(layers, chosen, strict=True)), "avgpool": names[0]}
            for chosen in itertools.product(names, repeat=len(layers))
        ]
        assert len(every) == 2**8
        with measuring(space.mixture.model):
            losses = losses_of(space.mixture, every, batches, None, silent, "")
        for most in budgets:
            best = min(loss for loss, one in zip(losses, every, strict=True) if problem.costs_of(one)["bits"] <= most)
            found = losses[every.index({**run.best(problem, {"bits": most}, batches)})]
            assert found <= 1.02 * best, f"{names} at {most} bits: {found:.5f} against {best:.5f}"


class Two(nn.Module):
    """Two inputs, and logits among other outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.left(a) + self.right(b))
        return {"hidden": hidden, "logits": self.head(hidden)}


def pairs(count: int, seed: int) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(2, 8, 6, generator=generator) for _ in range(count)]
    return [((a, b), torch.randint(3, (8,), generator=generator)) for a, b in made]


def test_any_model_is_searched() -> None:
    torch.manual_seed(0)
    model, images = Two().eval(), pairs(4, 0)
    example = images[0][0]
    report = qzoo.search(
        model, images, pairs(4, 1), bits=5, candidates=["w8a8", "w3a8"], points=2, example=example, score_images=20
    )
    assert report.scored_images == 20
    assert report.images == 32
    assert {layer for group in report.groups for layer in group.layers} == {"left", "right", "head"}
    made = qzoo.quantize(model, "int8", rules=report.rules(), example=example)
    specs = {name: made.get_submodule(name).weight_quantizer.spec.bits for name in ("left", "right", "head")}
    assert specs == {name: int(report.solution.choice[name][1]) for name in specs}
    assert isinstance(model.left, nn.Linear)
    assert type(model.left) is nn.Linear, "the model is not changed"


@for_each(
    "arguments, error, told",
    [
        ({}, ArgumentError, "A search needs a budget: max_drop, points of top-1 that may be lost"),
        ({"bits": 40}, ArgumentError, "The budget bits=40 is not from 1 to 32: the average bits of a weight"),
        ({"macs_int": 1.5}, ArgumentError, "The budget macs_int=1.5 is not from 0 to 1"),
        ({"bits": 4, "candidates": ["w4"]}, ArgumentError, "at least two candidates"),
        ({"bits": 4, "target": "onnxrt"}, UnknownNameError, "Unknown runtime 'onnxrt'. Did you mean 'onnxruntime'?"),
        ({"bits": 1.5, "points": 0}, UnsupportedError, "bits 1.5 was asked for, and these candidates reach 2 to 8"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error) as raised:
        qzoo.search("resnet8_digits_int8", **arguments)
    assert told in str(raised.value)


def test_a_module_needs_images() -> None:
    with pytest.raises(ArgumentError, match=r"search\(\) got no labelled; only the name of a variant has images"):
        qzoo.search(nn.Linear(2, 2), [torch.ones(2, 2)], bits=4)
    with pytest.raises(CalibrationError, match="no image was given"):
        qzoo.search(nn.Linear(2, 2), [], [], bits=4, example=torch.ones(1, 2))


def test_a_report_survives_its_json(tmp_path: Path) -> None:
    report = on_digits({"bits": 6}, "w8a8", "w4a8", points=0, neighbours=0)
    file = tmp_path / "search.json"
    file.write_text(report.to_json())
    from qzoo.commands.search_again import load_search

    assert load_search(file) == report


def test_a_choice_that_is_measured_to_be_slower_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(model: nn.Module, groups: Mapping[str, Sequence[str]]) -> tuple[LatencyTable, Path]:
        found = [GroupLatency(name=name, left_in_float_ms=-1.0, interval_ms=(-1.2, -0.8)) for name in groups]
        times = {"float_ms": (9.0, 10.0, 11.0), "quantized_ms": (19.0, 20.0, 21.0)}
        return LatencyTable(runtime="onnxruntime", threads=1, batch=1, groups=found, **times), Path("table.json")

    def timed(models: Mapping[str, nn.Module], *_: object) -> dict[str, float]:
        return {"float": 1.0, **{name: 0.5 if name.startswith("uniform") else 2.0 for name in models}}

    monkeypatch.setattr("qzoo.tasks.search.timed", timed)
    model = find("resnet8_digits_int8")
    calibration = calibration_images(model.base, model.dataset, model.resolved.calibration, images=64)
    looked_at = SearchImages(calibration, evaluation_images(model.base, model.dataset, images=100))
    question = Question({"max_drop": 5.0}, candidates(["int8", "float"]), minimize="latency", score_images=16, points=2)
    report = search_variant(
        create_base(model.base, pretrained=True), model.resolved, looked_at, question,
        target=runtime_named("onnxruntime"), tabled=table,
    )  # fmt: skip
    solution, predicted = report.points[:2]
    assert (solution.name, set(solution.choice.values()), solution.latency_ms) == ("solution", {"int8"}, 0.5)
    assert (predicted.name, set(predicted.choice.values()) - {"int8"}) == ("predicted to be faster", {"float"})
    assert predicted.cost["latency"] < solution.cost["latency"]
