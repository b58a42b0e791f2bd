"""Names in a recipe that stand for something else: `from`, `scheme`, `top1_below`; and what comes of a `from` chain.

They are looked up in plain data of any shape, so that they are reported together with what else is wrong in a file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from qzoo.errors import LONGEST_NAME, did_you_mean, shown, some
from qzoo.schema.datasets import dataset_named
from qzoo.schema.finetune import schedule_problems
from qzoo.schema.limits import MOST_RULES_APPLIED, FieldPath, mapping_or_empty
from qzoo.schema.named_sources import SOURCES, source_fault

Problem = tuple[FieldPath, str]
Variants = Mapping[str, Mapping[str, Any]]
INCLUDE, FLOAT = "include", "float"
MOST_VARIANTS = 300
MOST_SUGGESTED = 10
"""Names that stand for nothing, for which similar ones are looked for: each is compared with all that are known."""
Unknown = tuple[FieldPath, str, str, Collection[str]]
"""Field, what it names, the name, and the known ones."""


def reference_problems(recipe: Mapping[str, Any], schemes: Collection[str] | None = None) -> Iterator[Problem]:
    """Yields the field and the fault of every name that stands for nothing.

    Args:
        recipe: as read from a file, valid or not; what has the wrong shape is passed over.
        schemes: the names of the known schemes; None if they are not known here.

    Example:
        >>> list(reference_problems({"variants": {"int8": {}, "qat": {"from": "int7"}}}))
        [(('variants', 'qat', 'from'), "unknown variant 'int7'. Did you mean 'int8'? Known: int8, qat.")]
    """
    suggested = 0
    for found in _problems(recipe, schemes):
        if len(found) == 2:
            yield found
            continue
        path, what, given, known = found
        advice = did_you_mean(given, known) if suggested < MOST_SUGGESTED else f"There are {len(known):,} others."
        suggested += 1
        yield path, f"unknown {what} '{shown(given, LONGEST_NAME)}'. {advice}"


def _problems(recipe: Mapping[str, Any], schemes: Collection[str] | None) -> Iterator[Problem | Unknown]:
    variants = {name: mapping_or_empty(variant) for name, variant in mapping_or_empty(recipe.get("variants")).items()}
    including = bool(recipe.get(INCLUDE))  # of sets that are not known here
    if not including and "variants" not in recipe:
        yield ("variants",), "this field is missing. By name: {int8: {}} takes the scheme as it is."
    if len(variants) > MOST_VARIANTS:  # following all their chains would take minutes
        yield ("variants",), f"{len(variants):,} variants; a recipe has at most {MOST_VARIANTS}. Write several recipes."
        return
    yield from _splits(recipe, variants)
    sources = mapping_or_empty(recipe.get(SOURCES))
    yield from _sources(recipe, (), sources)
    yield from _claims(recipe, (), variants, including)
    for name, variant in variants.items():
        if name == FLOAT:
            yield ("variants", name), f"'{FLOAT}' is what reports call the base itself. Choose another name."
        yield from _sources(variant, ("variants", name), sources)
        yield from _parents(name, variants, including)
        yield from () if including else _schedules(name, variants)
        yield from _claims(variant, ("variants", name), variants, including)
    yield from _rules_applied(recipe, variants)
    if schemes is not None:
        yield from _schemes(recipe, variants, {*mapping_or_empty(recipe.get("schemes")), *schemes})


def dotted(path: FieldPath) -> str:
    """Returns a field as messages name it.

    Example:
        >>> dotted(("variants", "int8", "rules", 0))
        'variants.int8.rules.0'
    """
    return ".".join(map(str, path))


def _parents(name: str, variants: Variants, including: bool) -> Iterator[Problem | Unknown]:
    parent, chain = variants[name].get("from"), _chain(name, variants)
    if isinstance(parent, str) and parent not in variants and not including:
        yield ("variants", name, "from"), "variant", parent, variants
    # One message for each circle: the first of its variants in the alphabet speaks for all.
    if chain[0] in chain[1:] and name == chain[0] == min(chain):
        yield (
            ("variants", name, "from"),
            f"the chain {some(chain).replace(', ', ' <- ')} never ends. Drop one `from` of it.",
        )


def _schedules(name: str, variants: Variants) -> Iterator[Problem]:
    if variants[name].get("from") is None or not isinstance(variants[name].get("finetune"), Mapping):
        return
    said: dict[str, Any] = {}
    for link in _chain(name, variants):
        said |= mapping_or_empty(variants[link].get("finetune"))
    for path, text in schedule_problems(said):
        yield ("variants", name, "finetune", *path), text


def _chain(name: str, variants: Variants) -> list[str]:
    """Returns the `from` chain, oldest first, as far as it is known; a circle ends where it meets itself."""
    chain = [name]
    while isinstance(parent := variants[chain[0]].get("from"), str) and parent in variants:
        chain.insert(0, parent)
        if parent in chain[1:]:
            break
    return chain


def _splits(recipe: Mapping[str, Any], variants: Variants) -> Iterator[Problem]:
    dataset = recipe.get("dataset")
    known = dataset_named(dataset).splits if isinstance(dataset, str) else ()
    holders: dict[FieldPath, Mapping[str, Any]] = {(): recipe}
    holders |= {("variants", name): variant for name, variant in variants.items()}
    for path, holder in holders.items() if known else ():
        split = mapping_or_empty(holder.get("calibration")).get("split")
        if isinstance(split, str) and split not in known:
            fault = f"{dataset} has no split '{shown(split, LONGEST_NAME)}'. {did_you_mean(split, known)}"
            yield (*path, "calibration", "split"), fault


def _rules_applied(recipe: Mapping[str, Any], variants: Variants) -> Iterator[Problem]:
    """Looks at how much work it is to bind all variants: a short file can ask for hours by `from`."""
    schemes = {name: _count(scheme) for name, scheme in mapping_or_empty(recipe.get("schemes")).items()}
    applied = 0
    for name in variants:
        links = [variants[link] for link in _chain(name, variants)]
        scheme = next((link["scheme"] for link in reversed(links) if link.get("scheme")), recipe.get("scheme"))
        applied += sum(map(_count, links)) + (schemes.get(scheme, 0) if isinstance(scheme, str) else 0)
    if applied > MOST_RULES_APPLIED:
        most = f"a recipe has at most {MOST_RULES_APPLIED:,}. Write several recipes, or one glob for many layers."
        yield ("variants",), f"{applied:,} rules, those of schemes and `from` counted for each variant; {most}"


def _count(holder: Any) -> int:
    rules = mapping_or_empty(holder).get("rules")
    return len(rules) if isinstance(rules, list) else 0


def _fields_of_claims(holder: Mapping[str, Any], path: FieldPath, name: str) -> Iterator[tuple[FieldPath, Any]]:
    published = holder.get("published")
    numbered = enumerate(published) if isinstance(published, list) else [(None, published)]
    for n, claim in numbered:
        yield (*path, "published", *(() if n is None else (n,)), name), mapping_or_empty(claim).get(name)


def _sources(holder: Mapping[str, Any], path: FieldPath, sources: Mapping[str, Any]) -> Iterator[Problem | Unknown]:
    for field, source in _fields_of_claims(holder, path, "source"):
        if fault := source_fault(source, sources):
            name, text = fault
            yield (field, "source", name, sources) if text is None else (field, text)


def _claims(
    holder: Mapping[str, Any], path: FieldPath, variants: Variants, including: bool
) -> Iterator[Problem | Unknown]:
    for field, other in _fields_of_claims(holder, path, "top1_below"):
        if isinstance(other, str) and other not in variants:
            yield from () if including else [(field, "variant", other, variants)]
        elif other is not None and path == ("variants", other):
            yield field, f"'{other}' can't be below itself. Name another variant."


def _schemes(recipe: Mapping[str, Any], variants: Variants, schemes: Collection[str]) -> Iterator[Unknown]:
    holders: dict[FieldPath, Mapping[str, Any]] = {(): recipe}
    holders |= {("variants", name): variant for name, variant in variants.items()}
    for path, holder in holders.items():
        scheme = holder.get("scheme")
        if isinstance(scheme, str) and scheme not in schemes:
            yield (*path, "scheme"), "scheme", scheme, schemes
