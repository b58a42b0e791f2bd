"""A table of latencies: how long a model takes in a runtime with each group of its quantizers left in float."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError, UnknownNameError, UnsupportedError, did_you_mean
from qzoo.models.bases import variant_name
from qzoo.models.example import runnable_example
from qzoo.progress import Progress, phase, silent
from qzoo.quant.inputs import tensors, with_images
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.results.latency_table import GroupLatency, LatencyTable, NeighbourLatency
from qzoo.runtimes.registry import runnable_runtime, runtime_named
from qzoo.runtimes.runtime import Runtime, Session, require
from qzoo.tasks.export import versions
from qzoo.tasks.measuring.machine import cpu_flags, environment
from qzoo.tasks.measuring.running import measuring

if TYPE_CHECKING:
    from qzoo.runtimes.timing import Paired

PAIRS, PAIRS_OF_FLOAT = 11, 31
"""Pairs of blocks at least; with the float model's, that all predictions are held to."""
MOST_BEFORE = 3
"""Groups right before one that are measured together with it, the nearest: a layer of a DenseNet has all before it."""

Groups = Mapping[str, Sequence[str]]


@checked
def latency_table(
    model: nn.Module,
    runtime: str,
    groups: Groups,
    *,
    threads: int | None = None,
    batch: int = 1,
    example: Any = None,
    progress: Progress = silent,
) -> LatencyTable:
    """Returns the latencies of a calibrated model in a runtime, with each group of quantizers left in float.

    The model is traced once. Each graph is the one that would be exported with those quantizers off; it takes turns
    with that of the whole quantized model, so that what else the machine does slows both.

    Args:
        model: calibrated, on the CPU; not changed. Quantizers that are off stay off.
        runtime: `onnxruntime` or `openvino`.
        groups: by name, the paths of the quantizers that are left in float together: each that is on in one group.
        threads: the threads of the runtime; default: as many as torch uses.
        batch: images at a time.
        example: what the model is called with, as for `qzoo.export`; default: an image of the size that it is made for.
        progress: shown the graphs that are timed.

    Raises:
        UnsupportedError: the runtime does not run here or is not timed by qzoo, or torch can't trace the model.
        ArgumentError: a quantizer is in no group, or in two.
        UnknownNameError: a group names a quantizer that the model does not have on; with the nearest.

    Example:
        >>> from qzoo.quant.ranges import quantizers
        >>> model = qzoo.create("resnet8_digits_int8", pretrained=True)
        >>> groups = {"first": [path for path in quantizers(model) if path.startswith("conv1.")]}
        >>> groups["others"] = [path for path in quantizers(model) if not path.startswith("conv1.")]
        >>> table = latency_table(model, "onnxruntime", groups, threads=1)
        >>> abs(table.of_choice(["first", "others"]) - table.float_ms[1]) < 1e-9
        True
    """
    started, target = time.perf_counter(), timed_runtime(runtime)
    require("onnxscript")
    from qzoo.runtimes.named_inputs import named_inputs
    from qzoo.runtimes.without_quantizers import Exporter

    require_partition(model, groups)
    threads = threads or torch.get_num_threads()
    with measuring(model), tempfile.TemporaryDirectory() as folder:
        example = runnable_example(model) if example is None else example
        with phase(progress, "tracing the model"):
            exporter = Exporter(model, example, target)
        feeds = {name: one.numpy() for name, one in named_inputs(model, with_images(example, batch)).items()}
        turns = _Turns(exporter, groups, Path(folder) / "model.onnx", threads, feeds)
        neighbours = neighbouring(exporter.sources(), groups)
        work = [[*groups], *([name] for name in groups), *map(list, neighbours)]
        timed = progress(map(turns.ratio_to_quantized, work), len(work), f"timing groups in {target.title}")
        whole, *others = timed
    return LatencyTable(
        name=variant_name(model), runtime=runtime, threads=threads, batch=batch,
        **_milliseconds(whole, others, [*groups], neighbours),
        measured_of_sha256=measured_of(model, groups, example), date=str(date.today()), cpu_flags=cpu_flags(),
        environment={**environment("cpu"), **versions()}, seconds=round(time.perf_counter() - started, 1),
    )  # fmt: skip


def timed_runtime(name: str) -> Runtime:
    """Returns a runtime that runs here, and that qzoo times.

    Raises:
        UnknownNameError: there is none of that name.
        UnsupportedError: no table can be measured; says how to give one.
    """
    runtime = runtime_named(name)
    if runtime.kernels is None:
        raise UnsupportedError(
            f"qzoo measures no latency table for {runtime.title}: engines are built and timed by its own tool, "
            f"{runtime.timer}, on the GPU that they are for. Give a table of what that measured: --latency-table FILE, "
            "in the format that docs/search.md shows."
        )
    return runnable_runtime(name)


def require_partition(model: nn.Module, groups: Groups) -> None:
    """Refuses groups that leave a quantizer out or have one twice: all of them in float have to be the float model.

    Raises:
        ArgumentError: names the quantizer.
        UnknownNameError: a group names a quantizer that the model does not have on.
    """
    on = [path for path, one in quantizers(model).items() if one.state == "quantizing"]
    group_of: dict[str, str] = {}
    for name, paths in groups.items():
        for path in paths:
            if path not in on:
                raise UnknownNameError(
                    f"Group '{name}' names '{path}', no quantizer that is on. {did_you_mean(path, on)}"
                )
            if group_of.setdefault(path, name) != name:
                raise ArgumentError(f"{path} is in the groups '{group_of[path]}' and '{name}'. It can be in one.")
    if missing := [path for path in on if path not in group_of]:
        raise ArgumentError(
            f"{len(missing)} of {len(on)} quantizers are in no group: {', '.join(missing[:3])}. Put those that are "
            "never left in float into a group too, or switch them off: all groups in float are the float model."
        )


def neighbouring(sources: Mapping[str, Collection[str]], groups: Groups) -> list[tuple[str, str]]:
    """Returns the pairs of groups of which one comes right before the other, in the order of the groups.

    Args:
        sources: by path of a quantizer, those right before it.
        groups: by name, their quantizers.

    Example:
        >>> neighbouring({"b": {"a"}, "c": {"b"}}, {"first": ["a", "b"], "second": ["c"]})
        [('first', 'second')]
    """
    group_of = {path: name for name, paths in groups.items() for path in paths}
    order = {name: place for place, name in enumerate(groups)}
    found: set[tuple[str, str]] = set()
    for name, paths in groups.items():
        before = {group_of[one] for path in paths for one in sources.get(path, ()) if one in group_of} - {name}
        nearest = sorted(before, key=lambda one: abs(order[one] - order[name]))[:MOST_BEFORE]
        found |= {(min(one, name, key=order.__getitem__), max(one, name, key=order.__getitem__)) for one in nearest}
    return sorted(found, key=lambda pair: (order[pair[0]], order[pair[1]]))


def measured_of(model: nn.Module, groups: Groups, example: Any) -> str:
    """Returns the digest of what decides the latencies of a model: everything but the values in it."""
    facts = {
        "modules": [(path, *_described(module)) for path, module in model.named_modules()],
        "tensors": [(key, list(value.shape), str(value.dtype)) for key, value in model.state_dict().items()],
        "inputs": [list(one.shape[1:]) for one in tensors(example)],
        "groups": {name: sorted(paths) for name, paths in groups.items()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _described(module: nn.Module) -> tuple[str, ...]:
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    if isinstance(module, TensorQuantizer):
        return kind, module.state, str(module.grid), str(module.zero_point is not None)
    return kind, module.extra_repr()


class _Turns:
    """The quantized model, loaded, and what takes turns with it."""

    def __init__(self, exporter: Any, groups: Groups, file: Path, threads: int, feeds: Any) -> None:
        self.exporter, self.groups, self.file, self.threads, self.feeds = exporter, groups, file, threads, feeds
        self.quantized = self._session([])

    def ratio_to_quantized(self, in_float: Sequence[str]) -> Paired:
        from qzoo.runtimes.timing import paired

        pairs = PAIRS_OF_FLOAT if len(in_float) == len(self.groups) else PAIRS
        return paired(self.quantized, self._session(in_float), self.feeds, pairs)

    def _session(self, in_float: Sequence[str]) -> Session:
        import onnx_ir as ir

        off = [path for name in in_float for path in self.groups[name]]
        ir.save(self.exporter.without(off), self.file)
        session: Session = self.exporter.runtime.session(self.file, self.threads, True)
        return session


def _milliseconds(
    whole: Paired, others: Sequence[Paired], names: Sequence[str], neighbours: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Returns the fields of a table that hold what was measured.

    A pair of blocks tells by what factor a latency is longer; times the quantized model's, that is milliseconds.
    """
    quantized = _percentiles(whole.first)
    added = [_added(one, quantized[1]) for one in others]
    alone = dict(zip(names, added, strict=False))
    groups = [GroupLatency(name=name, left_in_float_ms=ms, interval_ms=ends) for name, (ms, ends) in alone.items()]
    pairs = []
    for pair, (ms, (low, high)) in zip(neighbours, added[len(names) :], strict=True):
        both = sum(alone[name][0] for name in pair)
        pairs.append(NeighbourLatency(groups=pair, saved_ms=both - ms, interval_ms=(both - high, both - low)))
    return {
        "float_ms": _percentiles(whole.second), "quantized_ms": quantized, "groups": groups, "neighbours": pairs,
    }  # fmt: skip


def _added(one: Paired, quantized: float) -> tuple[float, tuple[float, float]]:
    from qzoo.runtimes.timing import median_interval

    low, high = median_interval(one.ratios)
    return quantized * (float(np.median(one.ratios)) - 1), (quantized * (low - 1), quantized * (high - 1))


def _percentiles(milliseconds: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = np.percentile(milliseconds, [10, 50, 90])
    return float(low), float(median), float(high)
