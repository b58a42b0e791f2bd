"""ONNX Runtime on CPUs: layers and additions run on integers between one quantizer before and one after each."""

from __future__ import annotations

from pathlib import Path

from qzoo.runtimes.packages import require
from qzoo.runtimes.runtime import Array, Runtime, Session


class _Session:
    def __init__(self, path: Path, threads: int | None, optimized: bool) -> None:
        ort = require("onnxruntime")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def run(self, x: Array) -> Array:
        logits: Array = self.session.run(None, {self.input: x})[0]
        return logits


def session(path: Path, threads: int | None = None, optimized: bool = True) -> Session:
    """Loads a file; see `Runtime.session`."""
    return _Session(path, threads, optimized)


RUNTIME = Runtime(
    name="onnxruntime",
    title="ONNX Runtime",
    folds=True,
    shifted=True,
    residual="both",
    scheme="int8_ort",
    package="onnxruntime",
    session=session,
)
