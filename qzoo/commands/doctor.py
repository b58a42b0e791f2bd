"""What this machine can run, and which variant and runtime fit it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from qzoo.runtimes.registry import RUNTIMES
from qzoo.runtimes.runtime import EXPORTING, EXTRA
from qzoo.tasks.measuring.machine import cpu_flags, cpu_name, has_dot_products

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
    """Yields what to use on this machine, in sentences."""
    yield _about_the_processor(has_dot_products(cpu_flags()))
    if torch.cuda.is_available():
        fp8 = torch.cuda.get_device_capability() >= FP8_CAPABILITY
        here = next(one for one in RUNTIMES.values() if one.on_gpu)
        formats = f"int8_residual{' or fp8' if fp8 else ''}"
        yield f"GPU: {formats} in {here.title}: qzoo export NAME --runtime {here.name}."
    missing = [name for name in _packages(in_extra=True) if _version(name) is None]
    if missing:
        yield f"Not installed: {', '.join(missing)}. Exporting needs them: pip install 'qzoo[{EXTRA}]'."


def _packages(*, in_extra: bool) -> list[str]:
    """Returns the packages that come with `qzoo[export]`, or those of the runtimes that do not."""
    of_runtimes = [one.package for one in RUNTIMES.values() if one.in_extra == in_extra]
    return [*(EXPORTING if in_extra else ()), *of_runtimes]


def _about_the_processor(sums_in_32_bits: bool | None) -> str:
    here = [one for one in RUNTIMES.values() if not one.on_gpu]
    if sums_in_32_bits:
        titles = " or ".join(one.title for one in here)
        return f"CPU: variants of scheme {here[0].scheme}, in {titles}: qzoo benchmark NAME compares."
    cpu, unknown = here[0].name, "whether it has VNNI can't be told here; " if sums_in_32_bits is None else ""
    return (
        f"CPU: {unknown}without VNNI or its like, sums of 8-bit products may overflow 16 bits in integer kernels, and "
        f"gain little. Weights of 7 bits avoid that: qzoo export NAME --runtime {cpu} --reduce-range. Accuracy in "
        f"a runtime: qzoo evaluate NAME --runtime {cpu} --reduce-range."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
