"""Averages over training: of weights, and of the statistics of batch norm."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qzoo.distributed import world_size
from qzoo.quant.derived import copy_model


def batch_norms(model: nn.Module) -> Iterator[_BatchNorm]:
    """Yields the batch norms of a model that keep running statistics."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            yield module


def training_mode(model: nn.Module, frozen: bool) -> None:
    """Puts a model into training mode, in place.

    Args:
        model: any.
        frozen: batch norms normalize by their running statistics, which stay as they are.
    """
    model.train()
    if frozen:
        for norm in batch_norms(model):
            norm.eval()


class Statistics:
    """The running statistics of a model as they were, to be put back after a step that failed.

    Args:
        model: its batch norms are remembered.
    """

    def __init__(self, model: nn.Module) -> None:
        self._now = [buffer for norm in batch_norms(model) for buffer in norm.buffers()]
        self._before = [buffer.clone() for buffer in self._now]

    def remember(self) -> None:
        """Remembers the statistics as they are now."""
        for before, now in zip(self._before, self._now, strict=True):
            before.copy_(now)

    def put_back(self) -> None:
        """Makes the statistics what they were, in place."""
        for before, now in zip(self._before, self._now, strict=True):
            now.copy_(before)


def average_statistics(model: nn.Module) -> None:
    """Gives the batch norms of all processes the mean of their running statistics, in place."""
    if world_size() == 1:
        return
    for norm in batch_norms(model):
        for buffer in (norm.running_mean, norm.running_var):
            if buffer is not None:
                dist.all_reduce(buffer)
                buffer.div_(world_size())


def synchronize(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Lets batch norms of several GPU processes normalize by the whole batch, in place; returns those that do.

    Only torch's own `BatchNorm2d` can: a subclass has a forward of its own. The class is exchanged rather than the
    module, so that hooks and references stay. `desynchronize` undoes it.
    """
    norms = [norm for norm in batch_norms(model) if type(norm) is nn.BatchNorm2d and norm.weight.is_cuda]
    if world_size() == 1:
        return []
    for norm in norms:
        norm.__class__ = nn.SyncBatchNorm  # type: ignore[assignment]
        norm.process_group = None  # type: ignore[assignment]
    return norms


def desynchronize(norms: list[nn.BatchNorm2d]) -> None:
    """Makes the batch norms again what they were, in place."""
    for norm in norms:
        norm.__class__ = nn.BatchNorm2d
        del norm.process_group


class Average:
    """The moving average of a model: of its parameters, learned ranges included, and of batch norm's statistics.

    Args:
        model: averaged; the average begins as its copy.
        decay: the decay of a step; the average spans about `1 / (1 - decay)` steps.

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
        """Takes a step's model into the average; whole numbers, such as zero points, are those of the model."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.averaged.update_parameters(model)
        for own, now in zip(self.module.buffers(), model.buffers(), strict=True):
            if not own.is_floating_point():
                own.copy_(now)

    def tensors(self) -> dict[str, Tensor]:
        """Returns what has to be kept to go on."""
        return self.averaged.state_dict()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what was kept, in place."""
        self.averaged.load_state_dict(tensors)
