"""The loop in which images are distilled.

    loss = objective(statistics over all images) + smooth * mean total variation

All images have one objective. They go through the network some at a time: of the others, the statistics that they had
last are kept, so that a backward pass has the gradient of the loss over all images with respect to some of them. These
are changed at once, and the next ones after them: block coordinate descent. A step goes through all images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from qzoo.data_free.distillation_state import DistillationInfo, DistillationState, load_state, save_state
from qzoo.data_free.objective import Objective, total_variation
from qzoo.errors import CalibrationError
from qzoo.files import require_writable
from qzoo.models.base_model import InputFormat

PIXELS_AT_ONCE = 8 * 224 * 224
"""How many pixels go through the network at a time: ResNet-50 keeps 1.5 GB for the gradient of so many."""
WINDOW, PLATEAU = 10, 0.01
"""It ends when the mean loss of so many steps is not less by this share than that of as many before."""
PAUSE = 10.0
"""Seconds between two times that a state is written."""


class Distillation:
    """Images while they are distilled.

    Args:
        objective: what is aimed at.
        form: mean and deviation of the network's input.
        info: the settings.
        folder: where the state is kept; None: nowhere.
    """

    state: DistillationState

    def __init__(self, objective: Objective, form: InputFormat, info: DistillationInfo, folder: Path | None) -> None:
        self.objective, self.form, self.info, self.folder = objective, form, info, folder
        self.chunks = chunks(info.images, PIXELS_AT_ONCE // form.size**2)
        self._kept = time.monotonic()

    @property
    def pixels(self) -> Tensor:
        """The images, float32 `(N, C, H, W)` in 0..1."""
        return self.state.pixels

    @property
    def left(self) -> int:
        """How many images are still to be changed, each counted at each step."""
        return self.info.images * (self.info.steps - len(self.state.losses))

    def words(self) -> str:
        """Returns what is done and how far it is, for a person."""
        losses = self.state.losses
        return f"distilling images, loss {losses[-1]:.3f}" if losses else "distilling images"

    def begin(self, images: Tensor) -> None:
        """Takes the state from the folder, if it has one of the same settings; else begins with images.

        Args:
            images: uint8 `(N, C, H, W)`, on the device of the model.

        Raises:
            OSError: nothing can be written into the folder.
        """
        if self.folder:
            require_writable(self.folder)
        found = self.folder and load_state(self.folder, self.info, images.device)
        if found:
            self.state = found
            return
        pixels = images / 255
        with torch.no_grad():
            seen = [self._statistics(pixels[rows]) for rows in self.chunks]
        statistics = [torch.stack(one) for one in zip(*seen, strict=True)]
        self.state = DistillationState(pixels, torch.zeros_like(pixels), torch.zeros_like(pixels), statistics, [])

    def changes(self) -> Iterator[range]:
        """Changes the images until the end, some at a time, and yields which ones they were.

        Raises:
            CalibrationError: the loss is no finite number.
        """
        while not ended(self.state.losses, self.info.steps):
            losses = []
            for place, rows in enumerate(self.chunks):
                losses.append(self._change(place, rows))
                yield range(rows.start, rows.stop)
            self.state.losses.append(fmean(losses))
            if not math.isfinite(self.state.losses[-1]):
                raise CalibrationError(
                    f"The loss of distilled images is {self.state.losses[-1]} after step {len(self.state.losses)}. "
                    f"Its learning rate is {self.info.lr:g}: give a smaller one, or take natural images as they are."
                )
            self._keep()

    def _change(self, place: int, rows: slice) -> float:
        """Changes the images of one chunk by a step, and returns the loss before."""
        state, step = self.state, len(self.state.losses)
        pixels = state.pixels[rows].clone().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(place, pixels)
            # Times all images, so that the gradient of one does not depend on how many there are.
            (gradient,) = torch.autograd.grad(loss * len(state.pixels), pixels)
        state.step(rows, gradient, self.info.lr * (1 + math.cos(math.pi * step / self.info.steps)) / 2)
        return float(loss.detach())

    def _loss(self, place: int, pixels: Tensor) -> Tensor:
        """Returns the loss over all images, with a gradient for those of one chunk; notes their statistics."""
        shares = [(one.stop - one.start) / self.info.images for one in self.chunks]
        means = []
        for kept, new in zip(self.state.statistics, self._statistics(pixels), strict=True):
            kept[place] = new.detach()
            # What is added is 0, with the gradient.
            means.append(torch.tensordot(kept.new_tensor(shares), kept, 1) + shares[place] * (new - new.detach()))
        variation, *of_network = means
        loss: Tensor = self.objective.loss(of_network) + self.info.smooth * variation
        return loss

    def _statistics(self, pixels: Tensor) -> list[Tensor]:
        return [total_variation(pixels), *self.objective.statistics(normalized(pixels, self.form))]

    def _keep(self) -> None:
        done = ended(self.state.losses, self.info.steps)
        if self.folder and (done or time.monotonic() - self._kept > PAUSE):
            save_state(self.folder, self.state, self.info)
            self._kept = time.monotonic()


def chunks(images: int, at_once: int) -> list[slice]:
    """Returns which images go through the network together: shares of like size, none larger than `at_once`.

    Example:
        >>> chunks(5, 2)
        [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    count = math.ceil(images / max(1, at_once))
    return [slice(images * place // count, images * (place + 1) // count) for place in range(count)]


def ended(losses: list[float], steps: int) -> bool:
    """Whether there is nothing left to do: all steps were made, or the loss stays where it is.

    Example:
        >>> ended([1.0] * 20, steps=80), ended([1 / step for step in range(1, 41)], steps=80)
        (True, False)
    """
    if len(losses) >= steps:
        return True
    last, before = losses[-WINDOW:], losses[-2 * WINDOW : -WINDOW]
    return len(before) == WINDOW and fmean(before) - fmean(last) < PLATEAU * fmean(before)


def normalized(pixels: Tensor, form: InputFormat) -> Tensor:
    """Returns the model's input: `(pixels - mean) / std` of each channel; pixels are in 0..1, `(n, C, H, W)`."""
    mean, std = (torch.tensor(of, device=pixels.device).view(-1, 1, 1) for of in (form.mean, form.std))
    return (pixels - mean) / std
