"""Margins in float64, which come out the same on every machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qzoo.models.modes import evaluation_mode
from qzoo.quant.derived import copy_model
from qzoo.tasks.batches import as_batches, device_of
from qzoo.tasks.images import Images
from qzoo.tasks.progress import Progress, silent


def exact_margins(model: nn.Module, images: Images, progress: Progress = silent, what: str = "in float64") -> Tensor:
    """Returns by how much each image's largest logit exceeds the second, computed in float64; float64 `(images,)`.

    A quantizer is a step function: where the last bit of a float32 sum depends on machine, batch size and threads, so
    does now and then a whole step. Sums in float64 differ in their last bits too, but these are a billionth of that,
    and hardly ever lie at the edge of a step.

    Args:
        model: float or quantized; it is copied.
        images: already chosen.
        progress: shown the batches.
        what: words for the progress.
    """
    device = device_of(model)
    # Not every accelerator has float64.
    device = torch.device("cpu") if device.type == "mps" else device
    exact = copy_model(model).to(device, torch.float64)
    margins = [torch.empty(0, dtype=torch.float64)]
    with evaluation_mode(exact), torch.no_grad():
        for batch in progress(as_batches(images, device), len(images), what):
            best = exact(batch.inputs.double()).topk(2, dim=1).values
            margins.append((best[:, 0] - best[:, 1]).cpu())
    return torch.cat(margins)
