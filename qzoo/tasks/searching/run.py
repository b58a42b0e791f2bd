"""A search, step by step: score, measure a curve, solve, try neighbours, measure the solution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from qzoo.errors import DataError
from qzoo.progress import Progress
from qzoo.results.search import SearchCandidate, SearchGroup, SearchPoint, SearchReport
from qzoo.results.sensitivity import Deviation
from qzoo.schema.resolution.call import with_call
from qzoo.tasks.inputs.kept_batches import KeptBatches, kept_batches
from qzoo.tasks.measuring.running import measuring
from qzoo.tasks.searching.curve import curve, point_of, with_front, without_doubles
from qzoo.tasks.searching.latencies import Latencies
from qzoo.tasks.searching.measured import measure
from qzoo.tasks.searching.neighbours import neighbours
from qzoo.tasks.searching.problem import Problem
from qzoo.tasks.searching.programme import next_best, solve
from qzoo.tasks.searching.question import Question, SearchImages
from qzoo.tasks.searching.resume import begun, key_of
from qzoo.tasks.searching.scoring import losses_of, score
from qzoo.tasks.searching.space import Space

REFINEMENTS = 3
"""How often a drop that may be lost is approached from above: each halves the step between two points."""
ROUNDS = 4
"""How often neighbours of the best choice so far are tried."""
CPU = torch.device("cpu")


@dataclass
class Search:
    """A search under way.

    Attributes:
        space: what can be chosen.
        images: what is looked at.
        question: what is asked.
        latencies: latency of groups in float; None where nobody asks for it.
        folder: keeps scores; None: nowhere.
        progress: shown the batches.
        measured: every point that was.
        float_deviation: the float model beside itself, which has its top-1.
        tried: neighbours.
        better: how often one of them was.
    """

    space: Space
    images: SearchImages
    question: Question
    latencies: Latencies | None
    folder: Path | None
    progress: Progress
    measured: list[SearchPoint] = field(default_factory=list)
    float_deviation: Deviation | None = None
    seen: int = 0
    tried: int = 0
    better: int = 0

    def report(self) -> SearchReport:
        """Carries it out, and returns what was found."""
        question = self.question
        with self.scoring() as (problem, batches):
            self.measure(curve(problem, list(self.space.changes), question.cost, question.limits, question.points))
            solution = self._solution(problem, batches)
            by_cost = sorted(self.measured, key=lambda point: (point.cost[question.cost], point.lost))
            points = with_front(without_doubles([solution, *by_cost]), question.cost)
            return self._told(problem, points, batches.images)

    @contextmanager
    def scoring(self) -> Iterator[tuple[Problem, KeptBatches]]:
        """Yields losses and costs, and the images that losses were computed from."""
        scored = self.images.calibration if self.images.scored is None else self.images.scored
        most = self.question.score_images
        with kept_batches(scored, CPU, self.images.to_inputs, self.progress, most, most) as batches:
            yield self._problem(batches), batches

    def best(self, problem: Problem, limits: Mapping[str, float], batches: KeptBatches) -> Mapping[str, str]:
        """Returns the choice of least loss within limits, its neighbours looked at."""
        return self._improved(problem, solve(problem, limits), limits, batches)

    def _problem(self, batches: KeptBatches) -> Problem:
        mixture, costs, names = self.space.mixture, self.space.costs, list(self.space.changes)
        key = key_of(self.space.variant.digest, self.space.changes, list(self.question.keep), batches.digest)
        known, keep = begun(self.folder and self.folder / "scores.json", key)
        with measuring(mixture.model):
            losses = score(mixture, batches, known, self.images.logits, self.progress, keep).losses()
        loss = {group: {name: of_group[name] for name in names} for group, of_group in losses.items()}
        by_cost, rest, saved = dict(costs.by_cost), dict(costs.rest), {}
        if self.latencies is not None:
            by_cost["latency"], rest["latency"] = self.latencies.costs(names), self.latencies.rest
            saved["latency"] = self.latencies.saved
        return Problem([group.name for group in self.space.groups], loss, by_cost, rest, saved)

    def _solution(self, problem: Problem, batches: KeptBatches) -> SearchPoint:
        question, most = self.question, self.question.budget.get("max_drop")
        limits = dict(question.limits)
        if most is None:
            choice = self.best(problem, limits, batches)
            return self.measure([point_of(problem, choice, "solution")])[0]
        cheapest = self._within(problem)
        limits[question.cost] = cheapest.cost[question.cost]
        choice = self._improved(problem, cheapest.choice, limits, batches)
        better = self.measure([point_of(problem, choice, "neighbour of the cheapest")])[0]
        # Neighbours lose less on the images that were scored; those that were not have the last word.
        chosen = better if better.lost <= max(most, cheapest.lost) else cheapest
        return chosen.model_copy(update={"name": "solution"})

    def _within(self, problem: Problem) -> SearchPoint:
        """Returns the cheapest measured point that loses no more than it may; if there is none, what loses least."""
        cost = self.question.cost
        for _ in range(REFINEMENTS):
            best = self._cheapest()
            below = [point.cost[cost] for point in self.measured if best and point.cost[cost] < best.cost[cost]]
            if best is None or not below:
                break
            middle = (max(below) + best.cost[cost]) / 2
            choice = solve(problem, {**self.question.limits, cost: middle})
            self.measure([point_of(problem, choice, f"{cost} {middle:.3g}")])
        return self._cheapest() or min(self.measured, key=lambda point: point.lost)

    def _cheapest(self) -> SearchPoint | None:
        cost = self.question.cost
        good = [point for point in self.measured if self.question.keeps(point)]
        return min(good, key=lambda point: (point.cost[cost], point.lost), default=None)

    def _improved(
        self, problem: Problem, choice: Mapping[str, str], limits: Mapping[str, float], batches: KeptBatches
    ) -> Mapping[str, str]:
        """Returns the best of a choice and its neighbours, measured as wholes on the images that were scored."""
        for number in range(ROUNDS if self.question.neighbours else 0):
            most = self.question.neighbours
            beside = list(neighbours(problem, choice, limits, most))
            if number == 0:  # which are near in what they are predicted to lose, though not in what they choose
                others = [*next_best(problem, limits, choice, most), solve(problem.with_deviations(), limits)]
                beside += [one for one in others if one not in beside and one != choice]
            losses = self._losses([choice, *beside], batches, f"neighbours, round {number + 1}")
            self.tried += len(beside)
            best = min(range(len(losses)), key=losses.__getitem__)
            if best == 0:
                break
            choice, self.better = beside[best - 1], self.better + 1
        return choice

    def _losses(self, choices: list[Mapping[str, str]], batches: KeptBatches, what: str) -> list[float]:
        mixture = self.space.mixture
        with measuring(mixture.model):
            return losses_of(mixture, choices, batches, self.images.logits, self.progress, what)

    def measure(self, points: list[SearchPoint]) -> list[SearchPoint]:
        """Returns points with what was measured, and notes them; what is known already is not measured again."""
        known = {frozenset(point.choice.items()): point for point in self.measured}
        new = [point for point in points if frozenset(point.choice.items()) not in known]
        if new:
            found, of_float, self.seen = measure(
                self.space.solved.float_model, new, self.made, self.images.evaluation, to_inputs=self.images.to_inputs,
                logits=self.images.logits, progress=self.progress, count=self.images.counts[1],
            )  # fmt: skip
            self.float_deviation = of_float
            self.measured += found
            known |= {frozenset(point.choice.items()): point for point in found}
        return [known[frozenset(point.choice.items())].model_copy(update={"name": point.name}) for point in points]

    def made(self, point: SearchPoint) -> nn.Module:
        """Returns the model that the rules of a point make, calibrated, and optimized where the variant says so."""
        return self.space.solved.model(with_call(self.space.variant, rules=self.space.rules(point.choice)))

    def _told(self, problem: Problem, points: list[SearchPoint], scored: int) -> SearchReport:
        if self.float_deviation is None:
            raise DataError("There are no images to measure on.")
        return SearchReport(
            name=self.space.variant.name,
            budget=dict(self.question.budget),
            minimize=self.question.minimize if "max_drop" in self.question.budget else "loss",
            candidates=[SearchCandidate(name=name, changes=said) for name, said in self.space.changes.items()],
            groups=[self._group(problem, place) for place in range(len(problem.groups))],
            rest=dict(problem.rest),
            scored_images=scored,
            images=self.seen,
            float_top1=self.float_deviation.top1,
            points=points,
            latency=None if self.latencies is None else self.latencies.source,
            neighbours_tried=self.tried,
            neighbours_better=self.better,
            seconds=0.0,
        )

    def _group(self, problem: Problem, place: int) -> SearchGroup:
        group = self.space.groups[place]
        layers = self.space.costs.layers[group.name]
        return SearchGroup(
            name=group.name,
            layers=layers,
            weights=sum(self.space.costs.known[name].weights for name in layers),
            macs=sum(self.space.costs.known[name].macs for name in layers),
            rules=group.rules,
            unchanged=self.space.unchanged[group.name],
            loss=dict(problem.loss[group.name]),
            cost={cost: dict(of_groups[group.name]) for cost, of_groups in problem.cost.items()},
        )
