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
from qzoo.runtimes.runtime import Array, Feeds, Runtime, Session, require

if TYPE_CHECKING:
    from torch import Tensor

USUAL_BATCH, LARGEST_BATCH = 8, 64
"""Engines are built for a range of batches, and tuned for one; larger batches are run in parts."""
SIZES = (32, 224, 1024)
"""The smallest, the usual and the largest height and width that an engine is built for, where a graph takes any."""


def missing() -> str | None:
    """Returns what it lacks to run here, or None."""
    if find_spec("tensorrt") is None:
        return "there is no package tensorrt (pip install tensorrt)"
    import torch

    return None if torch.cuda.is_available() else "torch sees no GPU"


class _Session:
    def __init__(self, path: Path) -> None:
        self.trt = trt = require("tensorrt")
        self.logger = trt.Logger(trt.Logger.ERROR)
        self.engine = trt.Runtime(self.logger).deserialize_cuda_engine(_built(trt, self.logger, path))
        self.context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(place) for place in range(self.engine.num_io_tensors)]
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self.any_batch = [name for name in self.inputs if self.engine.get_tensor_shape(name)[0] < 0]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        import numpy as np

        images = max((len(feeds[name]) for name in self.any_batch), default=1)
        most = LARGEST_BATCH if self.any_batch else 1
        parts = [self._run(feeds, slice(start, start + most)) for start in range(0, images, most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _run(self, feeds: Feeds, images: slice) -> dict[str, Array]:
        import torch

        stream = torch.cuda.current_stream()
        given = {
            name: self._on_gpu(name, feeds[name][images] if name in self.any_batch else feeds[name])
            for name in self.inputs
        }
        for name, tensor in given.items():
            self.context.set_input_shape(name, tuple(tensor.shape))
        outputs = {name: self._empty(name) for name in self.outputs}
        for name, tensor in {**given, **outputs}.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        if not self.context.execute_async_v3(stream.cuda_stream):
            raise UnsupportedError("TensorRT could not run the engine; its own messages say why.")
        stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}

    def _empty(self, name: str) -> Tensor:
        import numpy as np

        return self._on_gpu(name, np.empty(tuple(self.context.get_tensor_shape(name))))

    def _on_gpu(self, name: str, values: Array) -> Tensor:
        import numpy as np
        import torch

        kind = self.trt.nptype(self.engine.get_tensor_dtype(name))
        return torch.from_numpy(np.ascontiguousarray(values, kind)).cuda()


def _built(trt: Any, logger: Any, path: Path) -> Any:
    """Returns the serialized engine of a file, strongly typed: no layer may choose another type than the graph says."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        reasons = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise UnsupportedError(f"TensorRT can't read {path}: {reasons}")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    ranged = [one for one in map(network.get_input, range(network.num_inputs)) if min(one.shape, default=0) < 0]
    for one in ranged:
        profile.set_shape(one.name, *_shapes(tuple(one.shape)))
    if ranged:
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedError(f"TensorRT could not build an engine of {path}; its own messages say why.")
    return engine


def _shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Returns the smallest, the usual and the largest shape of an input, of which what is -1 may be of any size."""
    batches = (1, USUAL_BATCH, LARGEST_BATCH)
    return [
        tuple(size if size >= 0 else side if place else batch for place, size in enumerate(shape))
        for batch, side in zip(batches, SIZES, strict=True)
    ]


def session(path: Path, threads: int | None = None, optimized: bool = True) -> Session:
    """Builds an engine of a file, which takes up to minutes; see `Runtime.session`. TensorRT always optimizes."""
    return _Session(path)


RUNTIME = Runtime(
    name="tensorrt",
    title="TensorRT",
    folds=False,
    symmetric=True,
    weight_zero_points=False,
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
