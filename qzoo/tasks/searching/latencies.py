"""Latency as a cost of a search, from a table that was measured in a runtime; and models timed side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qzoo.progress import Progress
from qzoo.quant.ranges import quantizers
from qzoo.results.latency_table import LatencyTable
from qzoo.results.search import LatencySource
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.measuring.running import measuring

Tabled = Callable[[nn.Module, Mapping[str, Sequence[str]]], tuple[LatencyTable, Path]]
"""Gives the table of a calibrated model for groups of quantizers, and the file that it is kept in."""


@dataclass(frozen=True)
class Latencies:
    """What groups add to the latency where they are left in float, in shares of the float model's.

    Integer kernels of 8 bits take equally long, however ranges were found. What may be noise in the table does not
    count, see `LatencyTable.certain`.

    Attributes:
        table: measured in the runtime.
        file: that it is kept in.
    """

    table: LatencyTable
    file: Path

    def costs(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Returns the cost of every candidate of every group.

        Args:
            names: those of the candidates.
        """
        return {
            group: {name: added / self.table.float_ms[1] if name == FLOAT else 0.0 for name in names}
            for group, added in self.table.certain().added_ms().items()
        }

    @property
    def rest(self) -> float:
        """The latency of the model with every group on integers."""
        return self.table.quantized_ms[1] / self.table.float_ms[1]

    @property
    def saved(self) -> dict[tuple[str, str], float]:
        """What two groups in float save of the sum of what both add."""
        certain = self.table.certain().neighbours
        return {pair.groups: pair.saved_ms / self.table.float_ms[1] for pair in certain}

    @property
    def source(self) -> LatencySource:
        """Where it comes from, for the report."""
        return LatencySource(
            file=str(self.file), runtime=self.table.runtime, threads=self.table.threads,
            float_ms=self.table.float_ms[1], quantized_ms=self.table.quantized_ms[1],
        )  # fmt: skip


def timed(
    models: Mapping[str, nn.Module], float_model: nn.Module, runtime: Runtime, example: Any, progress: Progress
) -> dict[str, float]:
    """Returns the median latency of models in a runtime by name, and of the float model, `float`, in milliseconds.

    Args:
        models: calibrated, by name.
        float_model: the reference.
        runtime: that runs here.
        example: one input; the batch that is timed.
        progress: shown the runs.
    """
    import onnx_ir as ir

    from qzoo.runtimes.named_inputs import named_inputs
    from qzoo.runtimes.timing import BLOCK, BLOCKS, latency, side_by_side
    from qzoo.runtimes.to_onnx import float_to_onnx, to_onnx

    with tempfile.TemporaryDirectory() as folder:
        sessions, threads = {}, torch.get_num_threads()
        for place, (name, model) in enumerate({FLOAT: float_model, **models}.items()):
            file = Path(folder) / f"{place}.onnx"
            with measuring(model):
                is_quantized = bool(quantizers(model))
                ir.save(to_onnx(model, example, runtime) if is_quantized else float_to_onnx(model, example), file)
            sessions[name] = runtime.session(file, threads, True)
        feeds = {name: tensor.numpy() for name, tensor in named_inputs(float_model, example).items()}
        found: dict[str, list[int]] = {name: [] for name in sessions}
        runs = len(sessions) * BLOCKS * BLOCK
        for name, nanoseconds in progress(side_by_side(sessions, feeds), runs, f"timing in {runtime.title}"):
            found[name].append(nanoseconds)
    return {name: round(latency(of_model).median, 4) for name, of_model in found.items()}
