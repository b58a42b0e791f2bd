"""What `qzoo benchmark` measured of a variant: kept among the artifacts of this machine, and found again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from qzoo import environment
from qzoo.errors import WeightsError
from qzoo.files import write_text
from qzoo.results.benchmark import BenchmarkReport
from qzoo.results.zoo import Latency
from qzoo.schema.model import read_json_file
from qzoo.weights.kinds import BENCHMARK

if TYPE_CHECKING:
    from qzoo.zoo.zoo_model import ZooModel


def keep_report(zoo_model: ZooModel, report: BenchmarkReport) -> Path | None:
    """Writes what a benchmark measured to where `qzoo list` finds it; the last one of a runtime is kept.

    Args:
        zoo_model: the variant, as its recipe says; what has no name in the catalogue is not kept.
        report: of it.

    Returns:
        The path of the file.
    """
    if not zoo_model.entry.source.in_catalog:
        return None
    path = environment.artifacts() / f"{zoo_model.name}.{report.runtime}{BENCHMARK.suffix}"
    kept = report.model_copy(update={"recipe_sha256": zoo_model.resolved.digest})
    write_text(path, kept.model_dump_json(indent=1) + "\n")
    return path


def latencies(path: Path, digest: str) -> list[Latency]:
    """Returns the latencies of a kept report; none where it is of another state of the recipe, or can't be read.

    Args:
        path: the path of the file.
        digest: of the resolved variant.
    """
    with suppress(WeightsError):
        report = read_json_file(path, BenchmarkReport, BENCHMARK.remedy)
        if report.recipe_sha256 == digest:
            return Latency.of_report(report)
    return []
