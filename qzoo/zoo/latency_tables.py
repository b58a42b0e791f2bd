"""The latency table of a model: given as a file, kept from an earlier measurement, or measured now."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from qzoo import environment
from qzoo.errors import WeightsError, shown
from qzoo.files import require_writable, write_text
from qzoo.models.example import runnable_example
from qzoo.progress import Progress, silent
from qzoo.results.latency_table import LatencyTable
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.model import read_json_file
from qzoo.tasks.export import versions
from qzoo.tasks.latency_table import Groups, latency_table, measured_of, timed_runtime
from qzoo.tasks.measuring.machine import cpu_flags, cpu_name
from qzoo.tasks.searching.latencies import Tabled

MOST_NOISE = 0.05
"""The noise of a table beyond which it is said that the machine was busy."""
MOST_NAMED = 3
"""The groups that a message names."""


@dataclass(frozen=True)
class FoundTable:
    """A latency table, and where it comes from.

    Attributes:
        table: the table.
        file: where it lies.
        origin: given as a file, kept from an earlier measurement, or measured now.
        why: a sentence that says so, for people.
    """

    table: LatencyTable
    file: Path
    origin: Literal["given", "kept", "measured"]
    why: str


def kept_or_measured(
    model: nn.Module,
    runtime: str,
    groups: Groups,
    *,
    given: Path | None = None,
    threads: int | None = None,
    batch: int = 1,
    example: Any = None,
    progress: Progress = silent,
) -> FoundTable:
    """Returns the latency table of a model: that of a file, one that was kept, or a new one, which is kept.

    One is kept in `QZOO_HOME/latency` for each model, grouping, runtime, number of threads and images, and processor.
    It is measured anew where the runtime has another release.

    Args:
        model: as for `latency_table`.
        runtime: as for `latency_table`; with `given` also one that qzoo does not time.
        groups: as for `latency_table`.
        given: a file that is taken in place of a measurement.
        threads: as for `latency_table`; of a given table it is checked only if it is said.
        batch: as for `latency_table`.
        example: as for `latency_table`.
        progress: as for `latency_table`.

    Raises:
        WeightsError: the file is no latency table, or of another runtime, model, grouping, threads or batch.
        UnsupportedError: there is no file, and the runtime does not run here or is not timed by qzoo.
        OSError: nothing can be kept in the folder.
    """
    example = runnable_example(model) if example is None else example
    digest = measured_of(model, groups, example)
    if given is not None:
        table = _given(Path(given), runtime_named(runtime), groups, digest, threads, batch)
        return FoundTable(table, Path(given), "given", f"Latencies are those of {given}.")
    target, threads = timed_runtime(runtime), threads or torch.get_num_threads()
    file = environment.home() / "latency" / _file_name(digest, target, threads, batch)
    kept, reason = _kept(file, target, digest)
    if kept is not None:
        why = f"Latencies were measured on {kept.date or 'an earlier day'}: {file}.{_noise(kept)}"
        return FoundTable(kept, file, "kept", why)
    require_writable(file.parent)
    table = latency_table(model, runtime, groups, threads=threads, batch=batch, example=example, progress=progress)
    write_text(file, table.model_dump_json(indent=1))
    why = f"Latencies were measured now ({reason}) and kept: {file}.{_noise(table)}"
    return FoundTable(table, file, "measured", why)


def is_timed(runtime: Runtime | None, given: Path | None = None) -> bool:
    """Whether there is a latency table for a runtime, or one can be measured here."""
    return given is not None or (runtime is not None and runtime.kernels is not None and runtime.missing() is None)


def tabled(runtime: Runtime, given: Path | None, example: Any, progress: Progress) -> Tabled:
    """Returns what gives a search the latency table of its model: kept, given or measured, as `kept_or_measured`."""

    def table_of(model: nn.Module, groups: Groups) -> tuple[LatencyTable, Path]:
        found = kept_or_measured(model, runtime.name, groups, given=given, example=example, progress=progress)
        return found.table, found.file

    return table_of


def _noise(table: LatencyTable) -> str:
    if table.noise <= MOST_NOISE:
        return ""
    return (
        f" The machine was busy: what a group adds is known to {100 * table.noise:.0f} % of the model's latency only. "
        "Delete the file and measure again when nothing else runs."
    )


def _file_name(digest: str, runtime: Runtime, threads: int, batch: int) -> str:
    cpu = re.sub(r"[^a-z0-9]+", "-", f"{cpu_name()} {' '.join(cpu_flags())}".lower()).strip("-")
    return f"{digest[:12]}.{runtime.name}.threads{threads}.batch{batch}.{cpu[:100]}.json"


def _kept(file: Path, runtime: Runtime, digest: str) -> tuple[LatencyTable | None, str]:
    """Returns a table that was kept, if it holds for this machine as it is now; or why there is none."""
    if not file.is_file():
        return None, f"there was no table of this model in {runtime.title} on this processor"
    try:
        table = read_json_file(file, LatencyTable, "It is measured anew.")
    except WeightsError:
        return None, "the one that was kept can't be read"
    now = {"cpu": cpu_name(), runtime.package: versions().get(runtime.package)}
    for what, is_now in now.items():
        if (was := table.environment.get(what)) != is_now:
            return None, f"the one that was kept is of {what} {shown(str(was))}, this is {is_now}"
    if table.measured_of_sha256 != digest or table.cpu_flags != cpu_flags():
        return None, "the one that was kept is of another model or processor"
    return table, ""


def _given(file: Path, runtime: Runtime, groups: Groups, digest: str, threads: int | None, batch: int) -> LatencyTable:
    """Returns the table of a file of the user's, which has to be one for this search."""
    hint = "Give a latency table, as docs/search.md shows one, or leave out --latency-table to have it measured."
    table = read_json_file(file, LatencyTable, hint)
    wanted = {"runtime": runtime.name, "batch": batch} | ({} if threads is None else {"threads": threads})
    for field, value in wanted.items():
        if (told := getattr(table, field)) != value:
            raise WeightsError(f"{file} is a latency table with {field} {shown(str(told))}, but {value} is asked for.")
    _require_groups(file, table, groups)
    if table.measured_of_sha256 not in (None, digest):
        name = f" ({shown(table.name)})" if table.name else ""
        raise WeightsError(
            f"{file} was measured of another model{name}: its layers, quantizers, formats or input size differ, though "
            "its groups have the same names. If its latencies hold all the same, leave out measured_of_sha256."
        )
    return table


def _require_groups(file: Path, table: LatencyTable, groups: Groups) -> None:
    repeated = [name for place, name in enumerate(table.names) if name in table.names[:place]]
    missing = [name for name in groups if name not in table.names]
    unknown = [name for name in table.names if name not in groups]
    unknown += [name for pair in table.neighbours for name in pair.groups if name not in table.names]
    for names, what in ((repeated, "twice"), (missing, "not at all"), (unknown, "though the model has no such group")):
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            listed = ", ".join(shown(name) for name in names[:MOST_NAMED])
            raise WeightsError(f"{file} lists {listed}{more} {what}. This model's groups are: {_listed([*groups])}.")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
