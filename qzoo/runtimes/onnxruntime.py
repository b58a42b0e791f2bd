"""ONNX Runtime on CPUs: layers and additions run on integers between one quantizer before and one after each."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from qzoo.errors import UnsupportedError
from qzoo.runtimes.runtime import Array, Feeds, Kernel, Runtime, Session, require

TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""What NumPy calls the types of inputs."""


def load(path: Path, *, optimized: bool, threads: int | None = None) -> Any:
    """Returns ONNX Runtime's own session of a file, on the CPU.

    Raises:
        UnsupportedError: it can't load the file; its reason is told.
    """
    ort = require("onnxruntime")
    options, level = ort.SessionOptions(), ort.GraphOptimizationLevel
    options.log_severity_level = 3
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        how = "with" if optimized else "without"
        raise UnsupportedError(
            f"ONNX Runtime {ort.__version__} can't load this graph {how} its optimizations: {str(error).strip()}"
        ) from error


class _Session:
    def __init__(self, path: Path, threads: int | None, optimized: bool) -> None:
        self.session = load(path, optimized=optimized, threads=threads)
        self.types = {one.name: TYPES[one.type] for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        cast = {name: feeds[name].astype(to, copy=False) for name, to in self.types.items()}
        return dict(zip(self.outputs, self.session.run(self.outputs, cast), strict=True))


def session(path: Path, threads: int | None = None, optimized: bool = True) -> Session:
    """Loads a file; see `Runtime.session`."""
    return _Session(path, threads, optimized)


def kernels(path: Path) -> dict[str, Kernel]:
    """Returns what runs the nodes of a file, by their names, after the runtime's own optimizations."""
    ort, ir = require("onnxruntime"), require("onnx_ir")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it warns that the file suits this machine alone, which it is read on
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = ir.load(options.optimized_model_filepath).graph
        return {_original(node.name): Kernel(node.op_type, _is_integer(node.op_type)) for node in graph}


def _original(name: str) -> str:
    # What is fused keeps the name of its layer, and gets a number.
    return name.partition("_token_")[0]


def _is_integer(op_type: str) -> bool:
    return op_type.startswith("QLinear") or op_type in (
        "QGemm",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "NhwcMaxPool",
    )


RUNTIME = Runtime(
    name="onnxruntime",
    title="ONNX Runtime",
    folds=True,
    symmetric=False,
    weight_zero_points=True,
    shifted=True,
    half=False,
    residual="both",
    scheme="int8_ort",
    package="onnxruntime",
    session=session,
    kernels=kernels,
)
