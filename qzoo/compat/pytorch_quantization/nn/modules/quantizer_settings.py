"""What a `TensorQuantizer` is set to: the fields of its descriptor, its ranges, its switches."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.compat.pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator, _Calibrator
from qzoo.compat.pytorch_quantization.nn.modules.clip import Clip
from qzoo.compat.pytorch_quantization.quant_descriptor import QuantDescriptor
from qzoo.compat.pytorch_quantization.tensor_quant import grid_of

logger = logging.getLogger(__name__)

CALIBRATORS = {"histogram": HistogramCalibrator, "max": MaxCalibrator}


class ChangedShapeError(RuntimeError, TypeError):
    """A range is given that has another shape than the one that is there; versions of the original raise either."""


class QuantizerSettings(nn.Module):
    """Everything of a `TensorQuantizer` but what it does to a tensor; see there for the arguments."""

    def __init__(
        self, quant_desc: QuantDescriptor | None = None, disabled: bool = False, if_quant: bool = True,
        if_clip: bool = False, if_calib: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        desc = QuantDescriptor() if quant_desc is None else quant_desc
        self._num_bits, self._axis, self._fake_quant = desc.num_bits, desc.axis, desc.fake_quant
        self._unsigned, self._narrow_range = desc.unsigned, desc.narrow_range
        self._learn_amax, self._scale_amax = desc.learn_amax, desc.scale_amax
        self._scale: Tensor | float | None = 1.0 if desc.fake_quant else None
        self._disabled, self._if_quant, self._if_clip, self._if_calib = disabled, if_quant, False, if_calib
        if desc.amax is not None:
            self.register_buffer("_amax", torch.tensor(desc.amax))
        if self._learn_amax:
            start = 1.0 if desc.amax is None else desc.amax
            self.clip = Clip(-start, start, learn_min=True, learn_max=True)
        if self._learn_amax or if_clip:
            self.enable_clip()
        self._calibrator: _Calibrator | None = CALIBRATORS[desc.calib_method](
            num_bits=self._num_bits, axis=self._axis, unsigned=self._unsigned
        )

    @property
    def num_bits(self) -> int | tuple[int, int]:
        """How many, or `(4, 3)`; can be set."""
        return self._num_bits

    @num_bits.setter
    def num_bits(self, value: int | tuple[int, int]) -> None:
        self._num_bits = value

    @property
    def unsigned(self) -> bool:
        """Whether the grid starts at 0; can be set."""
        return self._unsigned

    @unsigned.setter
    def unsigned(self, value: bool) -> None:
        self._unsigned = value

    @property
    def narrow_range(self) -> bool:
        """Whether the lowest signed value is left out; can be set."""
        return self._narrow_range

    @narrow_range.setter
    def narrow_range(self, value: bool) -> None:
        self._narrow_range = value

    @property
    def axis(self) -> int | tuple[int, ...] | None:
        """Where ranges differ."""
        return self._axis

    @property
    def fake_quant(self) -> bool:
        """Whether values are scaled back."""
        return self._fake_quant

    @property
    def maxbound(self) -> float:
        """The value of the grid that the range is scaled to."""
        return grid_of(self._num_bits, self._unsigned).bound

    @property
    def scale(self) -> Tensor | float | None:
        """With `fake_quant=False`: how many steps one unit of the last tensor had."""
        if self._fake_quant:
            logger.error("Fake quantize mode doesn't use scale explicitly!")
        elif self._scale is None:
            logger.error("Accessing scale before quantizing any tensor!")
        return self._scale

    @property
    def step_size(self) -> Tensor | None:
        """The size of a step, `amax / maxbound`; None without a range."""
        if self.amax is None:
            logger.error("step_size is undefined under dynamic amax mode!")
            return None
        return self.amax / self.maxbound

    @property
    def amax(self) -> Tensor | None:
        """The range; None where it is that of each tensor. Set it to a number or an array, of the shape it has."""
        return getattr(self, "_amax", None)

    @amax.setter
    def amax(self, value: Any) -> None:
        self._set("_amax", value)

    @property
    def pre_quant_scale(self) -> Tensor | None:
        """What inputs are multiplied by before all else, as SmoothQuant does; None: nothing. Can be set."""
        return getattr(self, "_pre_quant_scale", None)

    @pre_quant_scale.setter
    def pre_quant_scale(self, value: Any) -> None:
        self._set("_pre_quant_scale", value)

    def disable(self) -> None:
        """Lets everything pass."""
        self._disabled = True

    def enable(self) -> None:
        """Does again what the other switches say."""
        self._disabled = False

    def enable_quant(self) -> None:
        """Quantizes."""
        self._if_quant = True

    def disable_quant(self) -> None:
        """Does not quantize."""
        self._if_quant = False

    def enable_calib(self) -> None:
        """Shows the calibrator every tensor.

        Raises:
            ValueError: there is no calibrator.
        """
        if self._calibrator is None:
            raise ValueError("Calibrator was not created, cannot enable calibration.")
        self._if_calib = True

    def disable_calib(self) -> None:
        """Shows the calibrator nothing more."""
        self._if_calib = False

    def enable_clip(self) -> None:
        """Clips to the learned bounds, and trains them.

        Raises:
            ValueError: the descriptor has no `learn_amax`.
        """
        self._train_clip(True)

    def disable_clip(self) -> None:
        """Neither clips nor trains the bounds.

        Raises:
            ValueError: the descriptor has no `learn_amax`.
        """
        self._train_clip(False)

    def _train_clip(self, on: bool) -> None:
        if not self._learn_amax:
            raise ValueError("learn_amax is False. Cannot enable clip. Say QuantDescriptor(learn_amax=True).")
        self._if_clip = on
        for bound in self.clip.parameters():
            bound.requires_grad = on

    def _set(self, name: str, value: Any) -> None:
        if value is None:
            logger.error("Setting %s to None is meaningless.", name.strip("_"))
            return
        there = getattr(self, name, None)
        given = torch.as_tensor(value, device=None if there is None else there.device).detach().clone()
        if there is None:
            self.register_buffer(name, given.float() if given.dtype == torch.double else given)
        elif there.shape != given.shape:
            raise ChangedShapeError(
                f"Changing shape when setting {name.strip('_')} is not allowed. It has {tuple(there.shape)}, given: "
                f"{tuple(given.shape)}. Make a new TensorQuantizer for another granularity."
            )
        else:
            there.data.copy_(given)
