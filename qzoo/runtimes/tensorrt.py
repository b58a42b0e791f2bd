"""TensorRT: explicit symmetric quantization, strongly typed; batch norm stays, and the builder folds it.

TensorRT needs a GPU of NVIDIA and its own package. The rules of a graph for it are checked on any machine; building and
timing an engine is up to `trtexec --onnx=FILE --stronglyTyped`.
"""

from __future__ import annotations

from qzoo.runtimes.runtime import Runtime

RUNTIME = Runtime(
    name="tensorrt",
    title="TensorRT",
    folds=False,
    symmetric=True,
    shifted=False,
    residual="skip",
    scheme="int8",
    package="tensorrt",
    session=None,
)
