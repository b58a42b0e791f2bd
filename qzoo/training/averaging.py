"""An exponential moving average of a model, which is often better than the model itself."""

from __future__ import annotations

import warnings

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qzoo.quant.derived import copy_model


class Average:
    """The moving average of a model: of its parameters, learned ranges included, and of batch norm's statistics.

    Args:
        model: averaged; the average begins as its copy.
        decay: of a step; the average spans about `1 / (1 - decay)` steps.

    Source: B. T. Polyak, A. B. Juditsky 1992, "Acceleration of stochastic approximation by averaging"; with an
    exponential decay as in Szegedy et al. 2015 (arXiv 1512.00567), section 8.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.averaged = AveragedModel(copy_model(model), multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """The averaged model."""
        return self.averaged.module

    def update(self, model: nn.Module) -> None:
        """Takes a step's model into the average."""
        with warnings.catch_warnings():
            # Batch norm's counter of batches is a whole number, of which no average is taken.
            warnings.simplefilter("ignore")
            self.averaged.update_parameters(model)

    def tensors(self) -> dict[str, Tensor]:
        """Returns what has to be kept to go on."""
        return self.averaged.state_dict()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what was kept, in place."""
        self.averaged.load_state_dict(tensors)
