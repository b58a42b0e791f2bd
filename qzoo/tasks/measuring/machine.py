"""What a measurement is made on; and a warning before CPUs whose products of 8 bits may overflow."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from qzoo.distributed import world_size
from qzoo.quant.ranges import is_of_weight, quantizers
from qzoo.runtimes.quant_ops import stored_grid
from qzoo.runtimes.runtime import Runtime


def environment(device: str) -> dict[str, str | int]:
    """Returns versions, processor and threads, as they stand in a report."""
    facts: dict[str, str | int] = {name: version(name) for name in ("qzoo", "torch", "torchvision", "timm", "numpy")}
    facts |= {"python": platform.python_version(), "cpu": cpu_name(), "threads": torch.get_num_threads()}
    facts["processes"] = world_size()
    facts["device"] = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.device(device).type
    return facts


def cpu_name() -> str:
    """Returns the processor's name, `AMD EPYC` or the like."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} cores)"
    return platform.processor() or platform.machine()


INTEGER_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""CPU flags that integer kernels are chosen by: of x86, then of ARM."""


def cpu_flags() -> list[str]:
    """Returns which of the flags that matter to integer kernels this processor has; none where it can't be told."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [flag for flag in INTEGER_FLAGS if flag in found]


DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Flags of instructions that sum products of 8-bit integers in 32 bits: VNNI and AMX of x86, dot products of ARM."""


def has_dot_products(flags: Iterable[str]) -> bool | None:
    """Returns whether a processor sums products of 8-bit integers in 32 bits; None where its flags don't tell.

    Args:
        flags: what `cpu_flags` gives.

    Example:
        >>> has_dot_products(["avx2", "avx512_vnni"]), has_dot_products(["avx2"]), has_dot_products([])
        (True, False, None)
    """
    found = set(flags)
    return None if not found else bool(found & DOT_PRODUCTS)


LARGEST_INPUT, LARGEST_SUM = 255, 32767


class SaturationWarning(UserWarning):
    """What an integer kernel of this CPU computes may overflow."""


def warn_of_saturation(model: nn.Module, runtime: Runtime) -> None:
    """Warns where this CPU has no VNNI and a model has weights whose products may overflow 16 bits in a runtime.

    Args:
        model: quantized, as it will be exported; not changed.
        runtime: that the model is for; one that does not run on CPUs has nothing to fear.
    """
    if runtime.on_gpu or has_dot_products(cpu_flags()) is not False or not _has_large_weights(model):
        return
    warnings.warn(
        f"This CPU, {cpu_name()}, has no VNNI: {runtime.title} adds products of 8-bit weights in 16 bits here, which "
        "may overflow, and logits may be off by 3 to 40 % of the largest. Weights of 7 bits avoid that: "
        "--reduce-range, in Python reduce_range=True. On CPUs with VNNI nothing overflows.",
        SaturationWarning,
        stacklevel=4,
    )


def _has_large_weights(model: nn.Module) -> bool:
    found = [one for path, one in quantizers(model).items() if is_of_weight(path)]
    integer = [stored_grid(one)[0] for one in found if one.state == "quantizing" and one.grid.fp8 is None]
    # Of unsigned weights, kernels add products in 32 bits.
    return any(grid.low < 0 and 2 * LARGEST_INPUT * grid.high > LARGEST_SUM for grid in integer)
