"""The figures of a model card: measured ones beside published ones, and the commands that recompute them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qzoo.report.card_facts import CardFacts, Measured
from qzoo.report.card_words import reproduce_command, verify_command, where
from qzoo.report.markdown import fenced, plain, table
from qzoo.schema.published import Claim

HEADINGS = ["model", ">top-1", ">top-5", ">drop of top-1", ">same prediction as float", ">published top-1"]
FIRST = ("qzoo", "torch")
"""Versions that are named before the others."""
MACHINE = ("cpu", "device", "processes", "threads")
"""What else the environment tells."""


def figures(facts: CardFacts) -> Iterator[str]:
    """Yields the section's paragraphs."""
    yield "## Figures"
    yield _remark(facts.measured)
    yield table(HEADINGS, [_float_row(facts), _quantized_row(facts)])
    yield from _sources(facts)
    yield _commands(facts)
    if facts.measured is not None:
        yield _circumstances(facts.measured)


def _remark(measured: Measured | None) -> str:
    if measured is None:
        return "**Not measured**: there is no receipt among the files, so no figure here is its own."
    if measured.complete:
        return f"In percent, measured on {where(measured)}."
    return (
        f"In percent. **Partial**: measured on {where(measured)}, which are not all that published figures are "
        f"measured on. One image is {100 / measured.images:.2g} points; the drop is surer than the two figures that "
        "it lies between, for both models saw the same images."
    )


def _float_row(facts: CardFacts) -> list[str]:
    found, claims = facts.measured, _claims(facts.published_float)
    if found is None:
        return ["float", "", "", "", "", claims]
    return ["float", _percent(found.float_top1), _percent(found.float_top5), "", "", claims]


def _quantized_row(facts: CardFacts) -> list[str]:
    found, claims = facts.measured, _claims(facts.published)
    if found is None:
        return ["quantized", "", "", "", "", claims]
    drop = "" if found.float_top1 is None or found.top1 is None else f"{found.float_top1 - found.top1 + 0.0:+.2f}"
    accuracy = [f"**{_percent(value)}**" if value is not None else "" for value in (found.top1, found.top5)]
    return ["quantized", *accuracy, drop, _percent(found.agreement), claims]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _claims(claims: Sequence[Claim]) -> str:
    return "; ".join(f"{claim}{' (own)' if claim.own else ''}" for claim in claims) or "none"


def _sources(facts: CardFacts) -> Iterator[str]:
    models = {"float": facts.published_float, "quantized": facts.published}
    by_source: dict[str, list[str]] = {}
    for model, claims in models.items():
        for claim in claims:
            source = f"an earlier run of our own, {plain(claim.source)}" if claim.own else plain(claim.source)
            by_source.setdefault(source, []).append(f"{model} {claim}")
    if by_source:
        lines = [f"- {', '.join(stated)}: {source}" for source, stated in by_source.items()]
        head = "Sources of what is published; a figure is met by a run that differs by no more than what follows the ±:"
        yield "\n".join([head, "", *lines])


def _commands(facts: CardFacts) -> str:
    lines = ["# Both rows: calibrates as the recipe says, measures both models, compares with what was published.",
             reproduce_command(facts)]  # fmt: skip
    if facts.measured is not None:
        lines += ["# The quantized row: recomputes the predictions behind it and compares them image by image.",
                  verify_command(facts)]  # fmt: skip
    return "To get these figures yourself:\n\n" + fenced("\n".join(lines), "bash")


def _circumstances(measured: Measured) -> str:
    known = {name: value for name, value in measured.environment.items() if name not in MACHINE}
    versions = [f"{name} {known[name]}" for name in sorted(known, key=lambda name: (name not in FIRST, name))]
    cpu, device, processes, threads = (measured.environment.get(name) for name in MACHINE)
    machine = [str(part) for part in (cpu, None if device == "cpu" else device) if part]
    counts = [f"{what}: {count}" for what, count in (("processes", processes), ("threads", threads)) if count]
    return f"Measured on {plain(measured.date)} with {plain(', '.join([*versions, *machine, *counts]))}."
