"""The runtimes, by name."""

from __future__ import annotations

from qzoo.errors import UnknownNameError, did_you_mean
from qzoo.runtimes import onnxruntime, openvino, tensorrt
from qzoo.runtimes.runtime import Runtime

RUNTIMES: dict[str, Runtime] = {one.RUNTIME.name: one.RUNTIME for one in (tensorrt, onnxruntime, openvino)}


def runtime_named(name: str) -> Runtime:
    """Returns a runtime.

    Raises:
        UnknownNameError: there is none of that name; with the nearest.
    """
    if name not in RUNTIMES:
        raise UnknownNameError(f"Unknown runtime '{name}'. {did_you_mean(name, RUNTIMES)}")
    return RUNTIMES[name]
