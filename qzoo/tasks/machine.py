"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from qzoo.distributed import world_size


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
