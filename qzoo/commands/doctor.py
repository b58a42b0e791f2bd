"""What this machine can run, and which variant and runtime fit it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from qzoo.commands.recommend import runtimes_here, this_machine
from qzoo.runtimes.registry import RUNTIMES
from qzoo.runtimes.runtime import EXPORTING, EXTRA, Runtime
from qzoo.tasks.measuring.machine import cpu_flags, cpu_name
from qzoo.tasks.recommend import advice as advice_for

FP8_CAPABILITY = (8, 9)
"""From Ada on; NVIDIA's CUDA programming guide, compute capabilities."""


def facts() -> dict[str, str]:
    """Returns what there is: processor, its flags, GPU, torch, and the packages of runtimes."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that torch can use"
    found = {
        "processor": cpu_name(),
        "integer instructions": ", ".join(cpu_flags()) or "none known",
        "threads": str(torch.get_num_threads()),
        "GPU": gpu,
        "torch": version("torch"),
    }
    packages = [*_packages(in_extra=True), *_packages(in_extra=False)]
    return found | {name: _version(name) or "not installed" for name in packages}


def advice() -> Iterator[str]:
    """Yields what to use on this machine, in sentences: what `qzoo recommend` says of any model."""
    on_gpu = [one for one in RUNTIMES.values() if one.on_gpu and torch.cuda.is_available()]
    for runtime in dict.fromkeys([*on_gpu, *runtimes_here()]):
        yield _about(runtime)
    missing = [name for name in _packages(in_extra=True) if _version(name) is None]
    if missing:
        yield f"Not installed: {', '.join(missing)}. Exporting needs them: pip install 'qzoo[{EXTRA}]'."
    yield "Which variant of a model: qzoo recommend NAME --target RUNTIME."


def _about(runtime: Runtime) -> str:
    how = advice_for(runtime, this_machine(runtime))
    command = " ".join(["qzoo export NAME --runtime", runtime.name, *how.flags])
    return f"{runtime.title}: {_family(runtime)}: {command}. {how.reasons[-1][0].upper()}{how.reasons[-1][1:]}."


def _family(runtime: Runtime) -> str:
    """Returns the variants that fit a runtime."""
    if not runtime.on_gpu:
        return f"variants of scheme {runtime.scheme}, or any other of 8 bits with --adapt"
    fp8 = torch.cuda.is_available() and torch.cuda.get_device_capability() >= FP8_CAPABILITY
    return f"{runtime.scheme}_residual{' or fp8' if fp8 else ''}"


def _packages(*, in_extra: bool) -> list[str]:
    """Returns the packages that come with `qzoo[export]`, or those of the runtimes that do not."""
    of_runtimes = [one.package for one in RUNTIMES.values() if one.in_extra == in_extra]
    return [*(EXPORTING if in_extra else ()), *of_runtimes]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
