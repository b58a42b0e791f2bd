"""OpenVINO on CPUs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from qzoo.runtimes.runtime import Array, Feeds, Kernel, Runtime, Session, require

FACTS = ("primitiveType", "runtimePrecision", "originalLayersNames")


@functools.cache
def _core() -> Any:
    # One for the process, for good. A core's plugin gives the thread a signal stack of its own, and puts back the one
    # before when it goes: of two cores that go first one first, a freed stack is left, and the next signal crashes.
    return require("openvino").Core()


class _Session:
    def __init__(self, path: Path, threads: int | None, optimized: bool) -> None:
        graph = require("onnx_ir").load(path).graph
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        # Otherwise it may compute float layers in bfloat16, where the processor can.
        options["INFERENCE_PRECISION_HINT"] = "f32"
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        compiled = _core().compile_model(str(path), "CPU", options)
        self.request = compiled.create_infer_request()
        # A port has the names of all values that are one to OpenVINO, and what nothing reads has no port.
        names = [value.name for value in graph.inputs]
        self.ports = {name: port for name in names for port in compiled.inputs if name in port.get_names()}
        self.outputs = {value.name: compiled.output(value.name) for value in graph.outputs}

    def run(self, feeds: Feeds) -> dict[str, Array]:
        cast = {
            port: feeds[name].astype(port.get_element_type().to_dtype(), copy=False)
            for name, port in self.ports.items()
        }
        found = self.request.infer(cast)
        return {name: found[port].copy() for name, port in self.outputs.items()}


def session(path: Path, threads: int | None = None, optimized: bool = True) -> Session:
    """Loads a file; see `Runtime.session`. OpenVINO always optimizes."""
    return _Session(path, threads, optimized)


def kernels(path: Path) -> dict[str, Kernel]:
    """Returns what runs the nodes of a file, by their names, after the runtime's own optimizations."""
    compiled = _core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: dict[str, Kernel] = {}
    for operator in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: operator.rt_info[key].astype(str) for key in FACTS if key in operator.rt_info}
        name = facts.get("primitiveType", "?")
        # What is told beside is the type of its input, which float kernels are given in integers too.
        kernel = Kernel(name, facts.get("runtimePrecision") in ("u8", "i8") and not name.endswith("_f32"))
        # What is fused is told of as its first node, then by what was fused.
        found |= {name: kernel for name in facts.get("originalLayersNames", "").split(",") if name}
    return found


RUNTIME = Runtime(
    name="openvino",
    title="OpenVINO",
    folds=True,
    symmetric=False,
    weight_zero_points=False,
    shifted=False,
    half=False,
    residual="both",
    scheme="int8_ort",
    package="openvino",
    session=session,
    pads_zero_points=False,
    kernels=kernels,
)
