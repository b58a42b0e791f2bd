"""What a search chooses from: groups of a model, and the model as each candidate has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from qzoo.models.example import runnable_example
from qzoo.models.layer_costs import layer_costs
from qzoo.models.quantize import carry_out
from qzoo.models.select_layers import plan_quantizers
from qzoo.models.survey import survey
from qzoo.progress import Progress
from qzoo.quant.derived import copy_model
from qzoo.quant.ranges import quantizers
from qzoo.schema.candidates import FLOAT, Changes
from qzoo.schema.chosen_rules import RuleText, chosen_rules, same_for_all
from qzoo.schema.optimize import OptimizeSpec
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.plan import Plan
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.searching.costs import CostTable, cost_table
from qzoo.tasks.searching.groups import Group, movable_groups
from qzoo.tasks.searching.mixture import Mixture
from qzoo.tasks.solved_variants import SolvedVariants


@dataclass(frozen=True)
class Space:
    """What can be chosen.

    Attributes:
        variant: what choices are changes of.
        groups: of the mixture's model.
        changes: by candidate, what it changes of the variant.
        unchanged: by group, the candidates that say of it what the variant says itself.
        solved: makes the model of a choice.
        mixture: holds the candidates' models, for scoring.
        costs: of every candidate of every group.
    """

    variant: ResolvedVariant
    groups: Sequence[Group]
    changes: Mapping[str, Changes]
    unchanged: Mapping[str, list[str]]
    solved: SolvedVariants
    mixture: Mixture
    costs: CostTable

    def rules(self, choice: Mapping[str, str]) -> list[RuleText]:
        """Returns the rules that make of the variant what a choice says."""
        return chosen_rules(
            (group.rules, self.changes[choice[group.name]], choice[group.name])
            for group in self.groups
            if choice[group.name] not in self.unchanged[group.name]
        )


def space_of(
    float_model: nn.Module, variant: ResolvedVariant, candidates: Mapping[str, Changes], images: Any, *,
    keep: Sequence[str] = (), to_inputs: ToInputs = None, example: Any = None, progress: Progress,
    count: int | None = None,
) -> Space:  # fmt: skip
    """Returns what can be chosen for a model; one pass over the images gives every candidate its ranges.

    Args:
        float_model: not changed.
        variant: what choices are changes of.
        candidates: by name, what each changes.
        images: to calibrate on, as for `qzoo.calibrate`.
        keep: globs over names of layers that stay as the variant has them.
        to_inputs: as for `qzoo.calibrate`.
        example: an input, to find operators with.
        progress: shown the batches.
        count: how many images there are, if known.

    Raises:
        CalibrationError: a quantizer saw nothing, NaN or Inf.
        RuleError: a candidate does not go with what the variant says.
        UnsupportedError: nothing can be chosen.
    """
    seen = survey(float_model, example)
    plan = plan_quantizers(float_model, variant, example, seen=seen)
    board = _outline(float_model, plan)
    groups = movable_groups(board, runnable_example(float_model) if example is None else example, keep)
    names = {group.name: group.rules for group in groups}
    quantized = {name: changes for name, changes in candidates.items() if name != FLOAT}
    variants = {name: with_call(variant, rules=same_for_all(names, said, name)) for name, said in quantized.items()}
    solved = SolvedVariants(
        float_model, [variant, *variants.values()], images, to_inputs=to_inputs, example=example, progress=progress,
        count=count,
    )  # fmt: skip
    plans = {name: solved.plan(one) for name, one in variants.items()}
    solved.solve(board)
    models = {name: solved.model(_scored(one)) for name, one in variants.items()}
    costs = cost_table(float_model, groups, list(candidates), models, layer_costs(float_model, seen))
    unchanged = {group.name: _unchanged(group, plan, plans) for group in groups}
    changes = {name: _different(said, plan, plans.get(name)) for name, said in candidates.items()}
    return Space(variant, groups, changes, unchanged, solved, Mixture(board, groups, models), costs)


def _outline(float_model: nn.Module, plan: Plan) -> nn.Module:
    """Returns a quantized copy whose quantizers are on, with any range: it tells who reads what."""
    model = copy_model(float_model).eval()
    carry_out(model, plan)
    for quantizer in quantizers(model).values():
        quantizer.set_amax(torch.ones_like(quantizer.amax))
    return model


def _scored(variant: ResolvedVariant) -> ResolvedVariant:
    """Returns a candidate as it is scored: what moves weights from layer to layer is left for the solution."""
    spec = variant.optimize
    rounds = spec is not None and bool({"round", "reconstruct"} & set(spec.steps))
    return replace(variant, optimize=OptimizeSpec.model_validate({"round": "gptq"}) if rounds else None)


def _different(changes: Changes, plan: Plan, other: Plan | None) -> Changes:
    """Returns what a candidate changes, without the role of which the variant says the same everywhere."""
    if other is None:
        return changes
    own = {one.path: one.spec for one in plan.quantizers}
    roles = {"weight" if one.of_weight else "input" for one in other.quantizers if one.spec != own[one.path]}
    roles |= {role for role, said in changes.items() if said is False}
    return {role: said for role, said in changes.items() if role in roles}


def _unchanged(group: Group, plan: Plan, plans: Mapping[str, Plan]) -> list[str]:
    def specs(one: Plan) -> dict[str, QuantizerSpec]:
        return {planned.path: planned.spec for planned in one.quantizers if planned.path in group.by_path}

    return [name for name, other in plans.items() if specs(other) == specs(plan)]
