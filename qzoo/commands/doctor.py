"""What this machine can run, and which variant and runtime fit it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from qzoo.tasks.machine import cpu_flags, cpu_name, has_dot_products

RUNTIME_PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino", "tensorrt")
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
    return found | {name: _version(name) or "not installed" for name in RUNTIME_PACKAGES}


def advice() -> Iterator[str]:
    """Yields what to use on this machine, in sentences."""
    yield _about_the_processor(has_dot_products(cpu_flags()))
    if torch.cuda.is_available():
        fp8 = torch.cuda.get_device_capability() >= FP8_CAPABILITY
        yield f"GPU: int8_residual{' or fp8' if fp8 else ''} in TensorRT: qzoo export NAME --runtime tensorrt."
    missing = [name for name in RUNTIME_PACKAGES[:4] if _version(name) is None]
    if missing:
        yield f"Not installed: {', '.join(missing)}. Exporting needs them: pip install 'qzoo[export]'."


def _about_the_processor(sums_in_32_bits: bool | None) -> str:
    if sums_in_32_bits:
        return "CPU: variants of scheme int8_ort, in OpenVINO or ONNX Runtime: qzoo benchmark NAME compares."
    unknown = "whether it has VNNI can't be told here; " if sums_in_32_bits is None else ""
    return (
        f"CPU: {unknown}without VNNI or its like, sums of 8-bit products may overflow 16 bits in integer kernels, and "
        "gain little. Weights of 7 bits avoid that: qzoo export NAME --runtime openvino --reduce-range. Accuracy in a "
        "runtime: qzoo evaluate NAME --runtime onnxruntime --reduce-range."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
