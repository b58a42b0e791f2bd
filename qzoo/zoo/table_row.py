"""One row of the zoo's table: what a recipe's facts, receipts, ranges and kept latencies say of a base or a variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from qzoo.results.facts import Need, RecipeFacts, VariantFacts
from qzoo.results.zoo import Latency, Measured, Place, ZooRow
from qzoo.runtimes.registry import RUNTIMES
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.calibration import Source
from qzoo.weights.kinds import BENCHMARK, KINDS, MODEL, RECEIPT, Kind
from qzoo.weights.stated import stated
from qzoo.zoo.latency import latencies

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Folder:
    """A folder of artifacts, which may not exist.

    Attributes:
        path: the path of the folder.
        place: what is said of what lies there.
    """

    path: Path
    place: Literal["shipped", "at hand"]

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the files, read once: a stat for each of thousands that might lie there takes longer."""
        return frozenset(one.name for one in self.path.iterdir()) if self.path.is_dir() else frozenset()

    def files(self, name: str, ending: str) -> Iterator[Path]:
        """Yields the file of that name, if there is one."""
        if f"{name}{ending}" in self.names:
            yield self.path / f"{name}{ending}"


def base_row(name: str, facts: RecipeFacts, variants: Sequence[ZooRow]) -> ZooRow:
    """Returns the row of a base.

    Args:
        name: of the base.
        facts: of its recipe.
        variants: their rows: receipts hold the float model's figures too.
    """
    size = facts.size
    receipts = [row.measured for row in variants if row.measured is not None]
    best = max(receipts, key=lambda one: (one.complete, one.images), default=None)
    return ZooRow(
        **_common(name, facts), name=name, variant=None, published=[], targets=[],
        latency=_of_float(variants),
        measured=None if best is None else best.model_copy(update={"top1": best.float_top1}),
        bits=None if size is None else 32.0, bytes=None if size is None else size.bytes,
        integer_share=None if size is None else 0.0,
    )  # fmt: skip


def _of_float(variants: Sequence[ZooRow]) -> list[Latency]:
    """Returns the latencies of the base in the first run of each runtime in which it stood beside a variant."""
    found: dict[tuple[str, int], Latency] = {}
    for one in (one for row in variants for one in row.latency):
        found.setdefault((one.runtime, one.batch), one.model_copy(update={"ms": one.float_ms}))
    return list(found.values())


def variant_row(
    base: str, variant: str, facts: RecipeFacts, folders: Sequence[Folder], on_hub: Mapping[str, str]
) -> ZooRow:
    """Returns the row of a variant.

    Args:
        base: the name of its base.
        variant: its name in the recipe.
        facts: of the recipe.
        folders: where its artifacts may lie, the first that has one wins.
        on_hub: by full name, where released variants lie.
    """
    own, name = facts.variants[variant], f"{base}_{variant}"
    source, place = _ranges(name, own, folders)
    costs = own.costs
    return ZooRow(
        **_common(base, facts), name=name, variant=variant, method=own.method, published=own.published,
        measured=_measured(name, own, folders), latency=_latency(name, own, folders),
        bits=None if costs is None else costs.bits, bytes=None if costs is None else costs.bytes,
        integer_share=None if costs is None else costs.integer_share,
        targets=[] if costs is None else [one.name for one in RUNTIMES.values() if takes(one, costs.needs)],
        ranges=source, ranges_at=place or ("on the hub" if name in on_hub else None),
    )  # fmt: skip


def _common(base: str, facts: RecipeFacts) -> dict[str, Any]:
    size = facts.size
    return {
        "base": base,
        "version": facts.version,
        "dataset": facts.dataset,
        "architecture": facts.architecture,
        "published_float": facts.published,
        "parameters": None if size is None else size.parameters,
        "macs": None if size is None else size.macs,
        "float_bytes": None if size is None else size.bytes,
    }


def takes(runtime: Runtime, needs: Sequence[Need]) -> bool:
    """Whether a runtime takes the formats of a variant as they are, by what its record says.

    Example:
        >>> takes(RUNTIMES["tensorrt"], ["fp8"]), takes(RUNTIMES["onnxruntime"], ["fp8"])
        (True, False)
    """
    refused: set[Need] = set() if runtime.on_gpu else {"fp8"}
    refused |= {"unsigned", "zero_points"} if runtime.symmetric else set()
    refused |= set() if runtime.weight_zero_points else {"weight_zero_points"}
    return refused.isdisjoint(needs)


def _ranges(name: str, own: VariantFacts, folders: Sequence[Folder]) -> tuple[Source | None, Place | None]:
    kind = BY_NAME[own.made_by]
    for folder in folders:
        for path in folder.files(name, kind.suffix):
            source = stated(path, kind).get("calibration_source", "images")
            return source if source in get_args(Source) and kind is not MODEL else None, folder.place
    return None, None


def _measured(name: str, own: VariantFacts, folders: Sequence[Folder]) -> Measured | None:
    """Returns the figures of a receipt of this state of the recipe: of all images, if there is such a one."""
    found = [
        one
        for folder in folders
        for path in folder.files(name, RECEIPT.suffix)
        if (one := _of_receipt(path, own.digest, folder.place)) is not None
    ]
    return max(found, key=lambda one: one.complete, default=None)


def _of_receipt(path: Path, digest: str, place: Place) -> Measured | None:
    info = stated(path, RECEIPT)
    if info.get("recipe_sha256") != digest:
        return None
    with suppress(KeyError, TypeError, ValidationError):  # it has no labels, or is of another version of qzoo
        return Measured(
            float_top1=float(info["top1"]["float"]), top1=float(info["top1"]["quantized"]), images=info["images"],
            complete=info["complete"], date=info["date"], cpu=str(info["environment"].get("cpu", "")),
            place=place, file=path.name,
        )  # fmt: skip
    return None


def _latency(name: str, own: VariantFacts, folders: Sequence[Folder]) -> list[Latency]:
    found: dict[str, list[Latency]] = {}
    for folder in folders:
        for runtime in RUNTIMES:
            for path in folder.files(f"{name}.{runtime}", BENCHMARK.suffix):
                found.setdefault(runtime, latencies(path, own.digest))
    return [one for timings in found.values() for one in timings]
