"""OpenVINO on CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qzoo.runtimes.packages import require
from qzoo.runtimes.runtime import Array, Runtime, Session


class _Session:
    def __init__(self, path: Path, threads: int | None, optimized: bool) -> None:
        ov = require("openvino")
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        # Otherwise it may compute float layers in bfloat16, where the processor can.
        options["INFERENCE_PRECISION_HINT"] = "f32"
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self.request = ov.Core().compile_model(str(path), "CPU", options).create_infer_request()

    def run(self, x: Array) -> Array:
        logits: Array = self.request.infer([x])[0].copy()
        return logits


def session(path: Path, threads: int | None = None, optimized: bool = True) -> Session:
    """Loads a file; see `Runtime.session`. OpenVINO always optimizes."""
    return _Session(path, threads, optimized)


RUNTIME = Runtime(
    name="openvino",
    title="OpenVINO",
    folds=True,
    shifted=True,
    residual="both",
    scheme="int8_ort",
    package="openvino",
    session=session,
)
