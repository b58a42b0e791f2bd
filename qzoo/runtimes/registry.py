"""The runtimes, by name."""

from __future__ import annotations

from collections.abc import Iterable

from qzoo.errors import UnknownNameError, UnsupportedError, did_you_mean
from qzoo.runtimes import onnxruntime, openvino, tensorrt
from qzoo.runtimes.runtime import Runtime

RUNTIMES: dict[str, Runtime] = {one.RUNTIME.name: one.RUNTIME for one in (tensorrt, onnxruntime, openvino)}
REFERENCE = onnxruntime.RUNTIME
"""Without its optimizations, it stands for a runtime that does not run on this machine."""


def spelled(runtimes: Iterable[Runtime] = RUNTIMES.values()) -> str:
    """Returns the names of runtimes, as help lists what can be given.

    Example:
        >>> spelled()
        'tensorrt, onnxruntime or openvino'
    """
    *names, last = [runtime.name for runtime in runtimes]
    return f"{', '.join(names)} or {last}" if names else last


def runtime_named(name: str) -> Runtime:
    """Returns a runtime.

    Raises:
        UnknownNameError: there is none of that name; with the nearest.
    """
    if name not in RUNTIMES:
        raise UnknownNameError(f"Unknown runtime '{name}'. {did_you_mean(name, RUNTIMES)}")
    return RUNTIMES[name]


def runnable_runtime(name: str) -> Runtime:
    """Returns a runtime that runs on this machine.

    Raises:
        UnknownNameError: there is none of that name.
        UnsupportedError: it needs what this machine has not.
    """
    runtime = runtime_named(name)
    if lacks := runtime.missing():
        able = ", ".join(one for one, other in RUNTIMES.items() if not other.missing())
        raise UnsupportedError(f"{runtime.title} does not run here: {lacks}. Runtimes that do: {able}.")
    return runtime
