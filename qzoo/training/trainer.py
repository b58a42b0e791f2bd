"""`Trainer`: one step of training, and everything that has to be remembered to make the next."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.utils._pytree import tree_map

from qzoo.distributed import meet, world_size
from qzoo.quant.inputs import run
from qzoo.quant.outputs import Logits, logits_of
from qzoo.schema.finetune import FinetuneSpec
from qzoo.training.averaging import (
    Average,
    Statistics,
    average_statistics,
    desynchronize,
    synchronize,
    training_mode,
)
from qzoo.training.loss import Teacher, diagnose_gradients, diagnose_loss, loss_of
from qzoo.training.optimizer import (
    Precision,
    in_memory_format,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from qzoo.training.scales import keep_on_grid, keep_scales_positive, learn_scales, learned_zero_points, settle_scales


@dataclass(frozen=True)
class Execution:
    """How a training is carried out: what a recipe does not say, since it is a matter of the machine.

    Attributes:
        channels_last: convolutions' memory format; faster on CPUs and on GPUs with tensor cores.
        compile: run the model through `torch.compile`.
    """

    channels_last: bool = True
    compile: bool = False


class NotFinite(Exception):
    """A step met NaN or Inf; the message says where. The model was not changed by the step."""


class Trainer:
    """Trains a calibrated model, in place.

    Args:
        model: calibrated, on its device.
        spec: the schedule.
        steps_per_epoch: the steps of all processes together, which make each step together.
        example: the inputs of a few training images on the model's device, on which LSQ's start is measured; else not
            needed.
        teacher: the float base, where the spec says `distill`.
        execution: see there.
        shared: paths of quantizers that learn one range together, group by group.
        logits: which of the model's outputs they are, see `logits_of`.

    Attributes:
        model: what is trained.
        step_number: how many steps were made.
        optimizer: the optimizer of the spec.
    """

    def __init__(
        self, model: nn.Module, spec: FinetuneSpec, steps_per_epoch: int, example: Any = None, *,
        teacher: nn.Module | None = None, execution: Execution | None = None, shared: Iterable[list[str]] = (),
        logits: Logits = None,
    ) -> None:  # fmt: skip
        execution = execution or Execution()
        self.spec, self.steps_per_epoch, self.channels_last = spec, steps_per_epoch, execution.channels_last
        self.model = in_memory_format(model, self.channels_last)
        placed = None if example is None else self._placed(example)
        self.ranges = learn_scales(self.model, spec.scales, placed, shared)
        self.zero_points = learned_zero_points(self.model)
        self._synchronized = synchronize(self.model)
        self._statistics = Statistics(self.model)
        self.optimizer = make_optimizer(self.model, spec)
        self.precision = Precision(spec.precision, next(model.parameters()).device)
        self.average = Average(self.model, spec.ema) if spec.ema else None
        self.teacher = None
        if teacher and spec.distill:
            self.teacher = Teacher(in_memory_format(teacher, self.channels_last), logits)
        self.step_number = 0
        self._forward = _wrapped(self.model, logits, execution)

    @property
    def epoch(self) -> int:
        """The epoch of the next step, from 0."""
        return self.step_number // self.steps_per_epoch

    @property
    def result(self) -> nn.Module:
        """What the training has come to: the model, or its moving average."""
        return self.average.module if self.average else self.model

    def step(self, inputs: Any, y: Tensor) -> tuple[float, Tensor, Tensor]:
        """Makes one step on this process's share of a batch.

        Args:
            inputs: of the model, on its device: images `(N, C, H, W)`, a tuple of arguments, or a dict of them.
            y: labels, int64 `(N,)`.

        Returns:
            The learning rate; the loss, `()`; how many of the images were predicted rightly, `()`.

        Raises:
            NotFinite: loss, a gradient or a range is not finite.
        """
        frozen = self.spec.freeze_bn_epoch is not None and self.epoch >= self.spec.freeze_bn_epoch
        training_mode(self.model, frozen)
        rate = learning_rate(self.spec, self.step_number, self.steps_per_epoch)
        set_learning_rate(self.optimizer, rate)
        self._statistics.remember()
        try:
            loss, logits = self._forward_and_back(self._placed(inputs), y)
        except NotFinite:
            self._statistics.put_back()
            raise
        self._update()
        self.step_number += 1
        return rate, loss.detach(), (logits.detach().argmax(1) == y).sum()

    def end_epoch(self) -> None:
        """Lets all processes come to the same batch norm statistics."""
        average_statistics(self.model)
        if self.average:
            average_statistics(self.average.module)

    def finish(self) -> nn.Module:
        """Ends the training, and returns the model with its final weights and ranges, in evaluation mode."""
        if self.average:
            self.model.load_state_dict(self.average.module.state_dict())
        settle_scales(self.model)
        desynchronize(self._synchronized)
        self.optimizer.zero_grad()
        return self.model.eval()

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything that a later process needs to go on as if nothing had happened."""
        parts: dict[str, dict[str, Tensor]] = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
            "average": self.average.tensors() if self.average else {},
            "dice": _rng_state(),
            "scaler": self.precision.tensors(),
        }
        return {f"{part}/{key}": value for part, tensors in parts.items() for key, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor], step_number: int) -> None:
        """Puts back what `tensors` gave, in place; the state of the random numbers by `restore_rng`."""
        self.model.load_state_dict(_part(tensors, "model"))
        restore_optimizer(self.optimizer, self.model, _part(tensors, "optimizer"))
        if self.average:
            self.average.restore(_part(tensors, "average"))
        self.precision.restore(_part(tensors, "scaler"))
        self.step_number = step_number

    def _forward_and_back(self, inputs: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss and the logits; the parameters have finite gradients, of their true size."""
        with self.precision.autocast():
            logits = run(self._forward, inputs)
            teachers = self.teacher(inputs) if self.teacher else None
        loss = loss_of(logits, y, self.spec, teachers)
        if not math.isfinite(loss.detach()):
            with self.precision.autocast():
                raise NotFinite(diagnose_loss(self.model, inputs))
        # A process that failed on its batch says so here; the others would wait for its gradients.
        meet()
        self.optimizer.zero_grad()
        self._backward(loss)
        self.precision.unscale(self.optimizer)
        if not math.isfinite(self._norm_of_gradients()) and not self.precision.may_overflow:
            raise NotFinite(diagnose_gradients(self.model))
        return loss, logits

    def _backward(self, loss: Tensor) -> None:
        if world_size() == 1:
            self.precision.backward(loss)
            return
        with warnings.catch_warnings():
            # Told of layers with one input channel, in which both memory formats are the same.
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            self.precision.backward(loss)

    def _norm_of_gradients(self) -> Tensor:
        """Returns the norm of all gradients together, before they are clipped, where the spec says so."""
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        if self.spec.clip_gradient:
            return clip_grad_norm_(trained, self.spec.clip_gradient)
        return get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])

    def _update(self) -> None:
        self.precision.step(self.optimizer)
        keep_scales_positive(self.ranges)
        keep_on_grid(self.zero_points)
        if self.average:
            self.average.update(self.model)

    def _placed(self, inputs: Any) -> Any:
        return tree_map(_with_channels_last, inputs) if self.channels_last else inputs


class _GivesLogits(nn.Module):
    """A model of whose output only the logits are given.

    In outputs of a class that torch does not know, as a dataclass is, `DistributedDataParallel` finds no tensors: it
    would leave each process with gradients of its own, without a word.
    """

    def __init__(self, model: nn.Module, logits: Logits) -> None:
        super().__init__()
        self.model, self.logits = model, logits

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return logits_of(self.model(*args, **kwargs), self.logits)


def _wrapped(model: nn.Module, logits: Logits, execution: Execution) -> Any:
    forward: Any = _GivesLogits(model, logits)
    if world_size() > 1:
        meet()  # no process waits in the wrapper for one that failed before
        # Statistics are averaged at the end of each epoch; a static graph may have parameters that nothing uses.
        forward = DistributedDataParallel(forward, broadcast_buffers=False, static_graph=True)
    return torch.compile(forward) if execution.compile else forward


def _with_channels_last(leaf: Any) -> Any:
    is_image = isinstance(leaf, Tensor) and leaf.dim() == 4
    return leaf.contiguous(memory_format=torch.channels_last) if is_image else leaf


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}/"): value for key, value in tensors.items() if key.startswith(f"{part}/")}


def _rng_state() -> dict[str, Tensor]:
    gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **gpu}


def restore_rng(tensors: dict[str, Tensor]) -> None:
    """Lets torch's generators go on as they were when `Trainer.tensors` was called."""
    states = _part(tensors, "dice")  # the key is as old as the files
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
