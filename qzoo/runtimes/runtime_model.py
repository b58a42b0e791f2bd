"""A file in a runtime, as a module: whatever evaluates models evaluates it too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qzoo.runtimes.runtime import Session


class RuntimeModel(nn.Module):
    """Logits of an ONNX file that a runtime has loaded."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits `(N, classes)` of images `(N, C, H, W)`, float32, on the CPU."""
        return torch.from_numpy(self.session.run(x.detach().float().numpy()))
