"""Which of several variants to ship for a runtime, of what is known of each: a pure function of facts.

What a runtime wants is in its record, `runtimes/`; what a variant is, in its rules. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qzoo.results.recommendation import Advice, KnownFigure, LeftOut, Recommendation, Unknown
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.resolution.resolve import ResolvedVariant

INTEGER_BITS = 8
"""What integer kernels compute with: fewer bits are stored in as many, and are no faster."""


@dataclass(frozen=True)
class Candidate:
    """A variant, or a point that a search measured, and what is known of it.

    Attributes:
        name: the full name of the variant.
        command: returns what to type to do something with it, as `ZooModel.command`.
        resolved: its rules.
        figures: what was measured or published of it.
        making: what to type to make it, where nothing that makes it is on this machine.
        only_calibrated: calibration alone makes it, so that adapting it loses nothing.
        receipt: the path of the receipt that would hold its accuracy.
        point: the name of the search's point, if it is one.
    """

    name: str
    command: Callable[[str, str], str]
    resolved: ResolvedVariant
    figures: Sequence[KnownFigure] = ()
    making: str | None = None
    only_calibrated: bool = True
    receipt: str = "FILE"
    point: str | None = None

    @property
    def drop(self) -> float | None:
        """The measured drop, in points."""
        return next((one.value for one in self.figures if one.quantity == "drop"), None)

    def knows(self, quantity: str) -> bool:
        """Whether there is such a figure."""
        return any(one.quantity == quantity for one in self.figures)


@dataclass(frozen=True)
class Machine:
    """What the recommendation is for.

    Attributes:
        name: the processor, as people call it.
        flags: those of its flags that matter to integers.
        sums_in_32_bits: whether it adds products of 8-bit integers in 32 bits; None where that can't be told.
    """

    name: str
    flags: Sequence[str]
    sums_in_32_bits: bool | None


def advice(runtime: Runtime, machine: Machine, wants: Sequence[str] = ()) -> Advice:
    """Returns the flags to export with.

    Args:
        runtime: the target.
        machine: where it runs.
        wants: what the runtime wants otherwise of the variant, see `wanted`.
    """
    reasons = list(wants)
    if not runtime.on_gpu and not machine.sums_in_32_bits:
        known = "has no VNNI" if machine.sums_in_32_bits is False else "may have no VNNI, which can't be told here"
        overflow = (
            f"this CPU {known}: {runtime.title} may add products of 8-bit weights in 16 bits, which overflow; of "
            "7-bit weights they can't. --reduce-range adapts, too"
        )
        return Advice(flags=["--reduce-range"], reasons=[*reasons, overflow])
    if reasons:
        return Advice(flags=["--adapt"], reasons=reasons)
    fits = f"{runtime.title} takes it as it is"
    on_cpu = [] if runtime.on_gpu else ["sums of products have 32 bits on this CPU, so weights keep their 8 bits"]
    return Advice(flags=[], reasons=[fits, *on_cpu])


def wanted(variant: ResolvedVariant, runtime: Runtime) -> list[str]:
    """Returns what a runtime wants otherwise of a variant, and `--adapt` gives it; nothing where it fits as it is."""
    inputs, weights, residual = variant.general_input(), variant.general_weight(), variant.residual
    zero_points = inputs.get("symmetric", True) is not True
    weight_zero_points = weights.get("symmetric", True) is not True
    placement = None if residual is None else residual.placement
    title = runtime.title
    said = [
        (runtime.symmetric and zero_points, f"{title} takes no zero points"),
        (runtime.symmetric and bool(inputs.get("unsigned")), f"{title} takes no unsigned activations"),
        (weight_zero_points and not runtime.weight_zero_points, f"{title} computes weights with zero points in float"),
        (
            not runtime.symmetric and not zero_points and not inputs.get("unsigned"),
            f"{title} fuses unsigned activations after ReLU, and those of the variant are signed",
        ),
        (
            placement != runtime.residual and not (runtime.symmetric and placement is None),
            f"{title} adds on integers where {_operands(runtime)} quantized",
        ),
    ]
    return [text for holds, text in said if holds]


def _operands(runtime: Runtime) -> str:
    return f"{'both operands' if runtime.residual == 'both' else 'the skip branches alone'} of residual additions are"


def recommend(
    name: str, candidates: Sequence[Candidate], runtime: Runtime, machine: Machine, *, max_drop: float | None = None
) -> Recommendation:
    """Returns which candidate to ship, with what is known of it and what is not.

    Of those that run on integers and do not lose more than `max_drop`, as far as is known: first what the runtime fuses
    as it is, then what calibration alone makes, then what lost least, then what the recipe names first. A point of a
    search is preferred where it is measured to meet `max_drop`, and no variant is.

    Args:
        name: what was asked about.
        candidates: variants in the recipe's order, then points of searches, best first.
        runtime: the target.
        machine: where it runs.
        max_drop: points of top-1 that may be lost; default: any.
    """
    asked = sum(one.point is None for one in candidates) == 1
    faults = [_fault(one, max_drop, asked) for one in candidates]
    paired = list(zip(candidates, faults, strict=True))
    chosen = _best([one for one, fault in paired if fault is None], runtime, max_drop)
    common: dict[str, Any] = {
        "name": name, "target": runtime.name, "machine": machine.name, "cpu_flags": list(machine.flags),
        "max_drop": max_drop,
        "left_out": [LeftOut(name=_called(one), reason=fault) for one, fault in paired if fault is not None],
    }  # fmt: skip
    if chosen is None:
        nothing = Advice(flags=[], reasons=["a search leaves in float, or in more bits, what loses most"])
        looking = _searching(candidates, name, runtime, max_drop)
        return Recommendation(**common, variant=None, advice=nothing, command=looking)
    how = _of_point(chosen) if chosen.point is not None else advice(runtime, machine, wanted(chosen.resolved, runtime))
    return Recommendation(
        **common, variant=chosen.name, point=chosen.point, advice=how, figures=list(chosen.figures),
        command=_command(chosen, runtime, how, max_drop), unknown=_unknown(chosen, runtime, how),
    )  # fmt: skip


def _of_point(chosen: Candidate) -> Advice:
    reason = f"a search measured its point '{chosen.point}' to meet it, and no variant is known to"
    return Advice(flags=[], reasons=[reason, "--apply adds it to your recipes; then it is exported like any variant"])


def _called(one: Candidate) -> str:
    return one.name if one.point is None else f"{one.name}, point '{one.point}' of its search"


def _fault(one: Candidate, max_drop: float | None, asked: bool) -> str | None:
    """Returns why a candidate is not recommended on any machine.

    Args:
        one: the candidate.
        max_drop: points that may be lost.
        asked: it is the only variant, and was asked about by name: its bits are what is wanted.
    """
    if max_drop is not None and one.drop is not None and one.drop > max_drop:
        return f"it lost {one.drop:.2f} points, more than {max_drop:g}"
    return None if one.point is not None else _misfit(one, asked)


def _misfit(one: Candidate, asked: bool) -> str | None:
    inputs, weights = one.resolved.general_input(), one.resolved.general_weight()
    if not inputs:
        return "it quantizes weights alone: its layers run in float"
    if (kind := inputs.get("format", "int")) != "int":
        return f"it is of {kind}, which integer kernels do not take"
    fewer = min(weights.get("bits", INTEGER_BITS), inputs.get("bits", INTEGER_BITS)) < INTEGER_BITS
    return (
        f"fewer than {INTEGER_BITS} bits run in the same kernels: no faster than int8" if fewer and not asked else None
    )


def _best(fine: Sequence[Candidate], runtime: Runtime, max_drop: float | None) -> Candidate | None:
    variants, points = [one for one in fine if one.point is None], [one for one in fine if one.point is not None]

    def rank(one: Candidate) -> tuple[bool, bool, bool, bool, float]:
        unmeasured = one.drop is None
        in_float = runtime.symmetric and one.resolved.residual is None
        adapted = bool(wanted(one.resolved, runtime))
        return adapted, not one.only_calibrated, in_float, unmeasured, 0.0 if one.drop is None else one.drop

    best = min(variants, key=rank, default=None)
    unsure = best is None or best.drop is None
    return points[0] if points and max_drop is not None and unsure else best


def _searching(candidates: Sequence[Candidate], name: str, runtime: Runtime, max_drop: float | None) -> str:
    options = f"--target {runtime.name}" + ("" if max_drop is None else f" --max-drop {max_drop:g}")
    return candidates[0].command("search", options) if candidates else f"qzoo search {name} {options}"


def _command(one: Candidate, runtime: Runtime, how: Advice, max_drop: float | None) -> str:
    if one.point is not None:
        budget = "" if max_drop is None else f" --max-drop {max_drop:g}"
        return one.command("search", f"--target {runtime.name}{budget} --apply")
    return one.command("export", " ".join(["--runtime", runtime.name, *how.flags]))


def _unknown(one: Candidate, runtime: Runtime, how: Advice) -> list[Unknown]:
    flags = " ".join(["--runtime", runtime.name, *how.flags])
    found = []
    if one.making is not None:
        found.append(Unknown(what="its ranges: none are on this machine", command=one.making))
    if one.drop is None:
        what = "its accuracy: no receipt is on this machine"
        found.append(Unknown(what=what, command=one.command("evaluate", f"--receipt {one.receipt}")))
    if how.flags and one.point is None:
        changed = f"the accuracy of what {how.flags[0]} makes of it, which is another model"
        found.append(Unknown(what=changed, command=one.command("evaluate", flags)))
    if not one.knows("latency") or how.flags:
        own = f"; {runtime.timer}, its own tool, times it" if runtime.timer else ""
        timed = one.command("benchmark", flags) if runtime.kernels is not None else None
        found.append(Unknown(what=f"its latency in {runtime.title} on this machine{own}", command=timed))
    return found
