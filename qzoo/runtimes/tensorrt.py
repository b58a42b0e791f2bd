"""TensorRT: explicit symmetric quantization, strongly typed; batch norm stays, and the builder folds it.

TensorRT needs a GPU of NVIDIA and its own package. The rules of a graph for it are checked on any machine. Where both
are there, a file is built into an engine and run, through TensorRT's Python API, version 10 or newer.

Source: NVIDIA TensorRT, Python API reference, Builder, OnnxParser and IExecutionContext.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qzoo.errors import UnsupportedError
from qzoo.runtimes.runtime import Array, Runtime, Session, require

if TYPE_CHECKING:
    from torch import Tensor

USUAL_BATCH, LARGEST_BATCH = 8, 64
"""Engines are built for a range of batches, and tuned for one; larger batches are run in parts."""


def missing() -> str | None:
    """Returns what it lacks to run here, or None."""
    if find_spec("tensorrt") is None:
        return "there is no package tensorrt (pip install tensorrt)"
    import torch

    return None if torch.cuda.is_available() else "torch sees no GPU"


class _Session:
    def __init__(self, path: Path) -> None:
        from qzoo.quant.outputs import primary

        self.trt = trt = require("tensorrt")
        self.logger = trt.Logger(trt.Logger.ERROR)
        self.engine = trt.Runtime(self.logger).deserialize_cuda_engine(_built(trt, self.logger, path))
        self.context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(place) for place in range(self.engine.num_io_tensors)]
        self.images = next(name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
        self.outputs = [name for name in names if name != self.images]
        self.logits = self.outputs[primary(self.outputs)]
        static = self.engine.get_tensor_shape(self.images)[0]
        self.most = LARGEST_BATCH if static < 0 else int(static)

    def run(self, x: Array) -> Array:
        import numpy as np

        parts = [self._run(x[start : start + self.most]) for start in range(0, len(x), self.most)]
        return np.concatenate(parts)

    def _run(self, x: Array) -> Array:
        import numpy as np
        import torch

        images, stream = torch.from_numpy(np.ascontiguousarray(x)).cuda(), torch.cuda.current_stream()
        self.context.set_input_shape(self.images, tuple(images.shape))
        outputs = {name: self._empty(name) for name in self.outputs}
        for name, tensor in {self.images: images, **outputs}.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        if not self.context.execute_async_v3(stream.cuda_stream):
            raise UnsupportedError("TensorRT could not run the engine; its own messages say why.")
        stream.synchronize()
        return outputs[self.logits].cpu().numpy()

    def _empty(self, name: str) -> Tensor:
        import numpy as np
        import torch

        shape = tuple(self.context.get_tensor_shape(name))
        if name == self.logits:
            return torch.empty(shape, device="cuda")
        return torch.from_numpy(np.empty(shape, self.trt.nptype(self.engine.get_tensor_dtype(name)))).cuda()


def _built(trt: Any, logger: Any, path: Path) -> Any:
    """Returns the serialized engine of a file, strongly typed: no layer may choose another type than the graph says."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        reasons = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise UnsupportedError(f"TensorRT can't read {path}: {reasons}")
    config, images = builder.create_builder_config(), network.get_input(0)
    if images.shape[0] < 0:
        profile, rest = builder.create_optimization_profile(), tuple(images.shape[1:])
        profile.set_shape(images.name, *((size, *rest) for size in (1, USUAL_BATCH, LARGEST_BATCH)))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedError(f"TensorRT could not build an engine of {path}; its own messages say why.")
    return engine


def session(path: Path, threads: int | None = None, optimized: bool = True) -> Session:
    """Builds an engine of a file, which takes up to minutes; see `Runtime.session`. TensorRT always optimizes."""
    return _Session(path)


RUNTIME = Runtime(
    name="tensorrt",
    title="TensorRT",
    folds=False,
    symmetric=True,
    shifted=False,
    half=True,
    residual="skip",
    scheme="int8",
    package="tensorrt",
    in_extra=False,
    on_gpu=True,
    timer="trtexec",
    session=session,
    missing=missing,
)
