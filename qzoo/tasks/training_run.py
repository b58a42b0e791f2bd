"""A training from its first step, or from a checkpoint, to its report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.arguments import checked_class
from qzoo.distributed import rank, world_size
from qzoo.errors import DataError, TrainingError
from qzoo.models.bases import identity
from qzoo.models.shared_quantizers import shared_quantizers
from qzoo.progress import Progress
from qzoo.quant.eval_mode import device_of
from qzoo.quant.inputs import on_batches, to_device, with_images
from qzoo.quant.outputs import Logits
from qzoo.report.training import training_chart
from qzoo.results.training import TrainingReport
from qzoo.schema.finetune import FinetuneSpec
from qzoo.tasks.inputs.batches import Batch, as_batches
from qzoo.tasks.inputs.training_images import TrainingImages, require_labels
from qzoo.tasks.measuring.machine import environment
from qzoo.tasks.measuring.running import Runner
from qzoo.training.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from qzoo.training.curve import Curve
from qzoo.training.interrupts import Interrupted, Interrupts
from qzoo.training.loss import LabelError, first_not_finite, stopped
from qzoo.training.trainer import Execution, NotFinite, Trainer, restore_rng

CHECKPOINT_FILE = "checkpoint.safetensors"
EXAMPLE_IMAGES = 256
"""That LSQ's start is measured on."""
SECONDS_BETWEEN_PICTURES = 60
"""Drawing one takes half a second."""

Judge = Callable[[nn.Module, str], float | None]
"""Returns the top-1 of a model on the evaluation images, in percent; the text says what for."""


@checked_class
@dataclass(frozen=True)
class Run:
    """How a training is carried out, and where it is kept.

    Attributes:
        folder: gets checkpoint and curve; None: nothing is written, and nothing can be resumed.
        resume: go on from the checkpoint in the folder, if there is one.
        checkpoint_every: steps between checkpoints; default: an epoch.
        execution: memory format and compilation.
        dataset: its name, for the report.
    """

    folder: Path | None = None
    resume: bool = False
    checkpoint_every: int | None = None
    execution: Execution = field(default_factory=Execution)
    dataset: str = ""


class TrainingRun:
    """One run: epochs, checkpoints, curve and picture. Made by `finetune`."""

    def __init__(
        self, model: nn.Module, images: TrainingImages, spec: FinetuneSpec, judge: Judge, teacher: nn.Module | None,
        run: Run, progress: Progress, interrupts: Interrupts, logits: Logits = None,
    ) -> None:  # fmt: skip
        self.images, self.spec, self.judge, self.run = images, spec, judge, run
        self.progress, self.interrupts = progress, interrupts
        self.device, self.identity = device_of(model), identity(model)
        self.started, self.seconds_before, self.resumed = time.perf_counter(), 0.0, 0
        self.drawn = self.started
        self.start_top1: float | None = None
        self.curve = Curve(images.steps, spec.epochs, run.folder if rank() == 0 else None)
        if run.folder is not None:
            run.folder.mkdir(parents=True, exist_ok=True)
        resuming = self.checkpoint is not None and run.resume and self.checkpoint.is_file()
        if not resuming:
            self.start_top1 = judge(model, "evaluating the start")
        example = None if resuming else self._example()
        shared = shared_quantizers(model, self._one_image()) if spec.scales.learn else []
        self.runner = Runner(model)
        with self.runner.blaming(Batch(example, None, 0)) if example is not None else nullcontext():
            self.trainer = Trainer(
                model, spec, images.steps, example, teacher=teacher, execution=run.execution, shared=shared,
                logits=logits,
            )  # fmt: skip
        self.tensors = self._restored() if resuming else {}

    @property
    def checkpoint(self) -> Path | None:
        """Where it is kept; None: nowhere."""
        return None if self.run.folder is None else self.run.folder / CHECKPOINT_FILE

    @property
    def seconds(self) -> float:
        """That it has taken so far, without pauses."""
        return self.seconds_before + time.perf_counter() - self.started

    def report(self) -> TrainingReport:
        """Trains, and returns what came of it."""
        try:
            while self.trainer.epoch < self.spec.epochs:
                self._run_epoch()
        finally:
            self.curve.close()
        self.trainer.finish()
        self._draw()
        return self._report()

    def _report(self) -> TrainingReport:
        return TrainingReport(
            name=self.identity["name"],
            recipe_sha256=self.identity["recipe_sha256"],
            finetune=self.spec,
            dataset=self.run.dataset,
            images=self.images.images,
            steps_per_epoch=self.images.steps,
            processes=world_size(),
            start_top1=self.start_top1,
            top1=self.curve.rows[-1].top1,
            eval_images=None,
            rows=self.curve.rows,
            seconds=round(self.seconds, 1),
            resumed=self.resumed,
            date=date.today().isoformat(),
            environment=environment(str(self.device)),
        )

    def _example(self) -> Any:
        if not self.spec.scales.learn or self.spec.scales.init != "lsq":
            return None
        inputs = next(as_batches(self.images.epoch(0), self.device)).inputs
        return on_batches(lambda tensor: tensor[:EXAMPLE_IMAGES], inputs)

    def _one_image(self) -> Any:
        inputs = getattr(self.images, "example", None)
        return None if inputs is None else to_device(with_images(inputs, 1), self.device)

    def _run_epoch(self) -> None:
        number, done = self.trainer.epoch, self.trainer.step_number % self.images.steps
        left = round(self.images.images * (1 - done / self.images.steps))
        share = as_batches(self._batches(number, done), self.device)
        rate = 0.0
        for batch in self.progress(share, left // world_size(), lambda: self._words(number)):
            rate = self._step(batch)
            step = self.trainer.step_number
            if step % self.images.steps and self.curve.is_due(step):
                self.curve.close_row(step, rate)
            self._save_if_due(step)
        if self.trainer.epoch == number:
            raise TrainingError(f"Epoch {number + 1} had fewer than the {self.images.steps} batches of its length.")

    def _batches(self, epoch: int, done: int) -> Iterator[Any]:
        """Returns the batches of an epoch that are left; the random numbers go on after those of the last one."""
        # A loader that shuffles draws torch's random numbers: from here, it draws the same again.
        torch.manual_seed((self.spec.seed * self.spec.epochs + epoch) * world_size() + rank())
        batches = self.images.epoch(epoch, done)
        if done:
            restore_rng(self.tensors)
        self.tensors = {}
        return batches

    def _step(self, batch: Batch) -> float:
        labels = require_labels(batch)
        try:
            with self.runner.blaming(batch):
                rate, loss, correct = self.trainer.step(batch.inputs, labels)
        except LabelError as error:
            raise DataError(f"{batch.name}: {error}") from None
        except NotFinite as error:
            raise stopped(str(error), self.trainer.step_number, self.trainer.epoch, self._kept()) from None
        self.curve.add(loss, correct, batch.images)
        if self.trainer.step_number % self.images.steps == 0:
            self._end_epoch(rate)
        return rate

    def _end_epoch(self, rate: float) -> None:
        self.trainer.end_epoch()
        top1 = self.judge(self.trainer.result, f"evaluating epoch {self.trainer.epoch}")
        self.curve.close_row(self.trainer.step_number, rate, top1)
        if time.perf_counter() - self.drawn >= SECONDS_BETWEEN_PICTURES:
            self._draw()

    def _draw(self) -> None:
        self.drawn = time.perf_counter()
        if self.run.folder is not None and rank() == 0:
            training_chart(self._report(), self.run.folder / "training.png")

    def _save_if_due(self, step: int) -> None:
        every = self.run.checkpoint_every or self.images.steps
        if step % every == 0 or step % self.images.steps == 0 or self.interrupts.asked:
            self._save()
        if self.interrupts.asked:
            raise Interrupted(self.interrupts.number)

    def _save(self) -> None:
        self.curve.settle()
        if self.checkpoint is None or rank() > 0:
            return
        if broken := first_not_finite(self.trainer.model.state_dict().items()):
            step, epoch = self.trainer.step_number, self.trainer.epoch
            raise stopped(f"{broken} holds NaN or Inf", step, epoch, self._kept())
        save_checkpoint(self.checkpoint, self.trainer.tensors(), self._info())
        self.curve.write()

    def _info(self) -> CheckpointInfo:
        return CheckpointInfo(
            finetune=self.spec,
            steps_per_epoch=self.images.steps,
            step=self.trainer.step_number,
            start_top1=self.start_top1,
            rows=self.curve.rows,
            pending=self.curve.pending,
            seconds=self.seconds,
            resumed=self.resumed,
            **self.identity,
        )

    def _restored(self) -> dict[str, Tensor]:
        assert self.checkpoint is not None
        tensors, info = load_checkpoint(self.checkpoint, self._info(), self.trainer.tensors())
        self.trainer.restore(tensors, info.step)
        self.curve.rows, self.curve.pending = info.rows, info.pending
        self.start_top1, self.seconds_before, self.resumed = info.start_top1, info.seconds, info.resumed + 1
        return tensors

    def _kept(self) -> str:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return "There is no checkpoint yet."
        return f"The last good checkpoint is {self.checkpoint}; --resume goes on from it."

    def _words(self, epoch: int) -> str:
        """Returns how far the run is in an epoch, for a person."""
        rows = self.curve.rows
        words = [f"epoch {epoch + 1}/{self.spec.epochs}"]
        if rows:
            words.append(f"loss {rows[-1].loss:.3f}, train {rows[-1].train_top1:.1f}%")
        measured = [row.top1 for row in rows if row.top1 is not None]
        if measured:
            words.append(f"top-1 {measured[-1]:.2f}%")
        return ", ".join([*words, *self._time_left()])

    def _time_left(self) -> Iterator[str]:
        done, total = self.trainer.step_number, self.spec.epochs * self.images.steps
        if done >= self.curve.every and self.seconds > 0:
            minutes = math.ceil(self.seconds / done * (total - done) / 60)
            yield f"{minutes} min left" if minutes else "done"
