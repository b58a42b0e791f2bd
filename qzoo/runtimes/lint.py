"""Holding a quantized graph against the rules of a runtime, without running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qzoo.errors import WeightsError
from qzoo.results.export import ByLevel, Finding
from qzoo.results.readable import Readable
from qzoo.runtimes.graph import nodes
from qzoo.runtimes.graph_file import read_graph
from qzoo.runtimes.passes.stored_weight import dequantizer
from qzoo.runtimes.rules import layers, pairs, processors, tensors
from qzoo.runtimes.runtime import Runtime

Rule = Callable[[ir.Graph, Runtime], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    pairs.unpaired, pairs.other_scale, pairs.bad_scale, pairs.half_scale, pairs.per_channel_activation,
    pairs.zero_point, pairs.weight_zero_point, layers.half_float, layers.without_kernel, layers.between,
    layers.batch_norm, layers.weight_axis, layers.stored_as_float, layers.padding, layers.padded_average,
    layers.mixed_types, tensors.several_quantizers, tensors.signed_after_activation, tensors.requantized,
    tensors.residual, processors.saturation,
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class LintReport(Readable, ByLevel):
    """What the rules found.

    Attributes:
        runtime: whose rules.
        findings: errors first.
        quantized: layers that read dequantized inputs alone.
        layers: all.
    """

    runtime: Runtime
    findings: list[Finding]
    quantized: int
    layers: int


def lint(model: ir.Model, runtime: Runtime) -> LintReport:
    """Returns what the rules of a runtime find in a graph."""
    graph = model.graph
    findings = sorted(_found(graph, runtime), key=lambda one: one.level)
    found, in_float = list(nodes(graph, *layers.LAYERS)), list(nodes(graph, *layers.IN_FLOAT))
    quantized = sum(all(dequantizer(value) is not None for value in node.inputs[:2]) for node in found)
    return LintReport(runtime, findings, quantized, len(found) + len(in_float))


def lint_file(path: Path, runtime: Runtime) -> LintReport:
    """Returns what the rules of a runtime find in a file.

    Raises:
        WeightsError: the file is missing, damaged, no valid ONNX, or names files outside its folder.
    """
    if not path.exists():
        raise WeightsError(f"There is no file {path}. `qzoo export NAME --runtime {runtime.name}` writes one.")
    return lint(read_graph(path), runtime)


def _found(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    for rule in RULES:
        yield from rule(graph, runtime)
