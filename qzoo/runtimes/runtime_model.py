"""A file in a runtime, as a module: whatever evaluates models evaluates it too."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.runtimes.runtime import Runtime


class RuntimeModel(nn.Module):
    """Logits of an ONNX file.

    Args:
        path: of the file.
        runtime: that runs it, on the CPU.
        threads: of the runtime; default: as many as torch uses.

    Raises:
        UnsupportedError: the runtime does not run here.
    """

    def __init__(self, path: Path, runtime: Runtime, threads: int | None = None) -> None:
        super().__init__()
        if runtime.session is None:
            raise UnsupportedError(f"{runtime.title} does not run here. Runtimes that do: onnxruntime, openvino.")
        self.session = runtime.session(path, threads or torch.get_num_threads(), True)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits `(N, classes)` of images `(N, C, H, W)`, float32."""
        return torch.from_numpy(self.session.run(x.detach().float().numpy()))
