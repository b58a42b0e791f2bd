"""The result of a search: scores, costs, and the points that were measured. The `search.json` of `qzoo search`."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.results.sensitivity import Deviation
from qzoo.schema.chosen_rules import chosen_rules
from qzoo.schema.model import StrictModel
from qzoo.schema.reading.yaml_source import yaml_line

Budget = Literal["max_drop", "bits", "size", "macs_int", "latency"]
Cost = Literal["bits", "size", "macs_float", "latency"]
"""What a choice costs: average bits of a weight; storage, multiply-accumulates in float and latency in shares of the
float model's."""


class SearchCandidate(Readable, StrictModel):
    """One way in which a group of layers may be quantized."""

    name: str
    """As it was asked for: `w4a8`, `int8_mse`, `float`."""
    changes: dict[str, Any]
    """What a rule says for it, `weight` and `input`; empty for what the variant says itself."""


class SearchGroup(Readable, StrictModel):
    """Layers and quantizers that move together, and what each candidate does to them."""

    name: str
    """The name of its first layer."""
    layers: list[str]
    """Names of its layers with weights; none where it has only quantizers at operators."""
    weights: int
    """The number of values of its weights."""
    macs: int
    """Multiply-accumulates for one image."""
    rules: list[dict[str, Any]]
    """The rules that leave it in float: they name its quantizers."""
    unchanged: list[str]
    """Candidates that say of it what the variant says itself, so that no rule is needed."""
    loss: dict[str, float]
    """By candidate: the loss with this group alone quantized so; the mean Kullback-Leibler divergence of the
    predictions from the float model's, in nats."""
    cost: dict[str, dict[str, float]]
    """By cost, then by candidate: its part of the model's; bits and shares add up over groups, with `rest`."""


class SearchPoint(Readable, StrictModel):
    """One choice of a candidate for each group, and what it came to."""

    name: str
    """`solution`, `uniform w4a8`, or that of a point of the curve: `bits 4.5`."""
    choice: dict[str, str]
    """By group, the name of its candidate."""
    predicted_loss: float
    """The sum of the groups' losses, in nats: what is made small under a budget."""
    predicted_deviation: float
    """The sum of the roots of the groups' losses. Where choices differ much, it ranks them as their measured drops do:
    large deviations add up rather than their squares."""
    cost: dict[str, float]
    """By cost."""
    measured: Deviation | None = None
    agreement: float | None = None
    """Images with the same first prediction as the float model's, in percent."""
    drop: float | None = None
    """Points of top-1 below the float model; null without labels."""
    drop_ci95: tuple[float, float] | None = None
    """The paired 95 % confidence interval of the drop, in points."""
    latency_ms: float | None = None
    """Measured in the target's runtime, side by side with the float model: the median of one image, in milliseconds."""
    on_front: bool = False
    """Whether no other measured point is as good for less."""

    @property
    def lost(self) -> float:
        """Points of top-1 that are lost; without labels, the share of other first predictions, which is no less."""
        return self.drop if self.drop is not None else 100 - (0.0 if self.agreement is None else self.agreement)


Minimized = Literal["loss", "bits", "size", "macs_float", "latency"]


class LatencySource(Readable, StrictModel):
    """Where latencies come from: a table measured in the target's runtime, on this machine."""

    file: str
    runtime: str
    threads: int
    float_ms: float
    quantized_ms: float
    """Every group on integers."""


class SearchReport(Readable, StrictModel):
    """What `qzoo search` found. Another budget is solved from it without data: `solved`."""

    name: str
    """The variant that choices are changes of: `resnet20_cifar10_int8`."""
    variant: str | None = None
    """Its name in the recipe."""
    version: int | None = None
    dataset: str | None = None
    split: str | None = None
    target: str | None = None
    """The runtime."""
    budget: dict[Budget, float]
    minimize: Minimized
    """What was minimized under the budget."""
    candidates: list[SearchCandidate]
    groups: list[SearchGroup]
    rest: dict[str, float]
    """By cost: the part of the float layers, norms and biases that no candidate changes."""
    scored_images: int
    images: int
    """Those that points were measured on."""
    float_top1: float | None
    points: list[SearchPoint]
    """Measured: the solution first, then the uniform choices and the curve, cheapest first."""
    float_latency_ms: float | None = None
    """Of the float model, where points were timed: the median of one image, in milliseconds."""
    latency: LatencySource | None = None
    neighbours_tried: int = 0
    neighbours_better: int = 0
    """How often trying neighbours of a solution found a better one."""
    recipe_sha256: str | None = None
    environment: dict[str, str | int] = Field(default_factory=dict)
    seconds: float

    @property
    def solution(self) -> SearchPoint:
        """The point that meets the budget."""
        return self.points[0]

    @property
    def is_met(self) -> bool:
        """Whether the solution was measured to keep to the budget."""
        return self.solution.lost <= self.budget.get("max_drop", 100.0)

    def rules(self, point: SearchPoint | None = None) -> list[dict[str, Any]]:
        """Returns the rules that make of the variant what a point has chosen; default: the solution's.

        Each says why: the candidate's name, and what the layers of the rule lose together.
        """
        chosen = (point or self.solution).choice
        changes = {one.name: one.changes for one in self.candidates}
        total: dict[str, float] = {}
        for group in self.groups:
            total[chosen[group.name]] = total.get(chosen[group.name], 0.0) + group.loss[chosen[group.name]]
        why = {name: f"search: {name} here, together {loss:.2g} nats" for name, loss in total.items()}
        return chosen_rules(
            (group.rules, changes[chosen[group.name]], why[chosen[group.name]])
            for group in self.groups
            if chosen[group.name] not in group.unchanged
        )

    def rules_yaml(self, point: SearchPoint | None = None) -> str:
        """Returns those rules as YAML that goes under `rules:` of a variant, one a line."""
        return "".join(f"- {yaml_line(rule)}\n" for rule in self.rules(point))

    def to_json(self) -> str:
        """Returns the JSON."""
        return json.dumps({"schema": 1, **self.model_dump(mode="json")}, indent=1)
