"""`QuantDescriptor`: how a tensor is quantized, in the words of pytorch-quantization."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import yaml

from qzoo.errors import did_you_mean

logger = logging.getLogger(__name__)

E4M3 = (4, 3)
"""What stands for FP8 E4M3 where a number of bits is expected."""
CALIB_METHODS = ("max", "histogram")
OPTIONS: dict[str, Any] = {
    "fake_quant": True, "axis": None, "amax": None, "learn_amax": False, "scale_amax": None, "calib_method": "max",
    "unsigned": False, "narrow_range": False,
}  # fmt: skip
"""The keywords of a descriptor besides `num_bits` and `name`, and what holds where one is left out."""


class ScaledQuantDescriptor:
    """Says how one tensor is quantized; `QuantDescriptor` is another name of it.

    Args:
        num_bits: 1 to 16 bits, or `(4, 3)` for FP8 E4M3; 0, which makes zeros of everything, for debugging.
        name: anything, for humans.
        fake_quant: give the values of the grid scaled back; if not, the integers and their scale.
        axis: the dimension, or the dimensions, along which ranges differ; None: one range for the whole tensor.
        amax: a fixed range, float, or list or array of them; None: the largest magnitude of each tensor, or what a
            calibration finds.
        learn_amax: the range is a parameter that training changes; it starts at `amax`, or at 1.
        scale_amax: what every range is multiplied by, if anything.
        calib_method: `max` or `histogram`.
        unsigned: the grid starts at 0.
        narrow_range: leave out the lowest signed value.

    Raises:
        TypeError: a key is unknown or a value is of the wrong type.
        ValueError: `num_bits` is negative.

    Source: pytorch-quantization 2.2.1, `tensor_quant.ScaledQuantDescriptor`.

    Example:
        >>> print(ScaledQuantDescriptor(num_bits=4, axis=(0,)))
        QuantDescriptor(4bit fake axis=(0,))
        >>> ScaledQuantDescriptor(num_bits=4, unsigned=True).dict()
        {'num_bits': 4, 'name': None, 'unsigned': True}
    """

    def __init__(self, num_bits: int | tuple[int, int] = 8, name: str | None = None, **options: Any) -> None:
        unknown = [key for key in options if key not in OPTIONS]
        if unknown:
            raise TypeError(f"Unused keys: {', '.join(unknown)}. {did_you_mean(unknown[0], ['num_bits', *OPTIONS])}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string or None, not {type(name).__name__}.")
        self._num_bits, self._name = _bits(num_bits), name
        chosen = OPTIONS | options
        self._fake_quant: bool = chosen["fake_quant"]
        self._axis: int | tuple[int, ...] | None = chosen["axis"]
        self._amax: np.ndarray | None = _array(chosen["amax"])
        self._learn_amax: bool = chosen["learn_amax"]
        self._scale_amax: float | None = chosen["scale_amax"]
        self._calib_method: str = _method(chosen["calib_method"])
        self._unsigned: bool = chosen["unsigned"]
        self._narrow_range: bool = chosen["narrow_range"]
        if self._learn_amax and self._axis is not None:
            raise TypeError(
                f"axis is ignored and must be None when learn_amax is true, got {self._axis}. One range can be "
                "learned for a tensor; qzoo's recipes learn one for each channel: `finetune: {scales: learned}`."
            )

    @property
    def num_bits(self) -> int | tuple[int, int]:
        """How many, or `(4, 3)`."""
        return self._num_bits

    @property
    def name(self) -> str | None:
        """For humans."""
        return self._name

    @property
    def fake_quant(self) -> bool:
        """Whether values are scaled back."""
        return self._fake_quant

    @property
    def axis(self) -> int | tuple[int, ...] | None:
        """Where ranges differ."""
        return self._axis

    @property
    def amax(self) -> np.ndarray | None:
        """The fixed range, float32."""
        return self._amax

    @property
    def learn_amax(self) -> bool:
        """Whether the range is a parameter."""
        return self._learn_amax

    @property
    def scale_amax(self) -> float | None:
        """What ranges are multiplied by."""
        return self._scale_amax

    @property
    def calib_method(self) -> str:
        """`max` or `histogram`."""
        return self._calib_method

    @property
    def unsigned(self) -> bool:
        """Whether the grid starts at 0."""
        return self._unsigned

    @property
    def narrow_range(self) -> bool:
        """Whether the lowest signed value is left out."""
        return self._narrow_range

    def dict(self) -> dict[str, Any]:
        """Returns `num_bits`, `name`, and what differs from the defaults: the descriptor's arguments.

        Unlike the original's, it leaves out nothing, so that `QuantDescriptor(**desc.dict()) == desc` always holds.
        """
        said: dict[str, Any] = {"num_bits": self._num_bits, "name": self._name}
        for key, default in OPTIONS.items():
            value = getattr(self, f"_{key}")
            if isinstance(value, np.ndarray):
                said[key] = value.tolist()
            elif value != default:
                said[key] = value
        return said

    def to_yaml(self) -> str:
        """Returns the descriptor as YAML."""
        said = {key: list(value) if isinstance(value, tuple) else value for key, value in self.dict().items()}
        return yaml.safe_dump(said, width=120, sort_keys=True)

    @classmethod
    def from_yaml(cls, yaml_str: str) -> ScaledQuantDescriptor:
        """Returns the descriptor that a YAML text, from `to_yaml`, says."""
        said = yaml.safe_load(yaml_str)
        for key in ("axis", "num_bits"):
            if isinstance(said.get(key), list):
                said[key] = tuple(said[key])
        return cls(**said)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScaledQuantDescriptor) and self.dict() == other.dict()

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        """One line: bits, granularity, and what else is said."""
        text = f"{self._name}: " if self._name is not None else "QuantDescriptor"
        text += f"({'unsigned ' if self._unsigned else ''}{self._num_bits}bit {'fake' if self._fake_quant else 'real'}"
        text += f" axis={' per-tensor' if self._axis is None else self._axis}"
        text += f" amax={self._amax} full_range" if self._amax is not None else ""
        text += " learn_amax" if self._learn_amax else ""
        return text + (f" scale_amax={self._scale_amax})" if self._scale_amax else ")")

    __repr__ = __str__


QuantDescriptor = ScaledQuantDescriptor


def _bits(given: Any) -> int | tuple[int, int]:
    if given == E4M3:
        return E4M3
    if not isinstance(given, int):
        raise TypeError(f"num_bits must be a positive integer or tuple (4,3), not {type(given).__name__} {given!r}.")
    if given < 0:
        raise ValueError(f"num_bits must be > 0, not {given}.")
    if given == 0:
        logger.error("num_bits is 0: the tensor will be quantized to all zeros, which only debugging needs.")
    return given


def _array(amax: Any) -> np.ndarray | None:
    if amax is not None and not isinstance(amax, float | list | np.ndarray):
        raise TypeError(f"amax must be float, list or ndarray, not {type(amax).__name__} {amax!r}.")
    return None if amax is None else np.array(amax, dtype=np.float32)


def _method(given: Any) -> str:
    if given not in CALIB_METHODS:
        raise TypeError(f"Unknown calib_method {given!r}. {did_you_mean(str(given), CALIB_METHODS)}")
    return str(given)
