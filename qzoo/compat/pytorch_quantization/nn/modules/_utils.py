"""What gives a module its quantizers: mixins, for one's own quantized modules too."""

from __future__ import annotations

import copy
import inspect
import sys
from typing import Any

from torch import nn

from qzoo.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from qzoo.compat.pytorch_quantization.tensor_quant import QUANT_DESC_8BIT_PER_TENSOR, QuantDescriptor
from qzoo.errors import did_you_mean

DESCRIPTORS = ("quant_desc_input", "quant_desc_weight")


class _HasInputQuantizer:
    """What both mixins have; a script tells them apart by `isinstance`, so neither derives from the other."""

    default_quant_desc_input = QUANT_DESC_8BIT_PER_TENSOR
    _input_quantizer: TensorQuantizer

    @classmethod
    def set_default_quant_desc_input(cls, value: QuantDescriptor) -> None:
        """Sets the descriptor of the inputs of modules of this class that are made from now on.

        Raises:
            ValueError: it is no `QuantDescriptor`.
        """
        cls.default_quant_desc_input = _checked(value)

    @property
    def input_quantizer(self) -> TensorQuantizer:
        """The quantizer of the input."""
        return self._input_quantizer


class QuantInputMixin(_HasInputQuantizer):
    """Quantizes the input of a module.

    Attributes:
        default_quant_desc_input: the descriptor of modules that are made from now on without `quant_desc_input=`.
    """

    def init_quantizer(self, quant_desc_input: QuantDescriptor) -> None:
        """Makes the quantizer; call it in `__init__`.

        Raises:
            TypeError: it is called elsewhere.
            ValueError: the descriptor says `fake_quant=False`.
        """
        _only_from_init(sys._getframe(1).f_code.co_name)
        self._fake_quant = True
        self._input_quantizer = _quantizer(quant_desc_input)


class QuantMixin(_HasInputQuantizer):
    """Quantizes the input and the weight of a module.

    Attributes:
        default_quant_desc_input: the descriptor of modules that are made from now on without `quant_desc_input=`.
        default_quant_desc_weight: the descriptor of modules that are made from now on without `quant_desc_weight=`.
    """

    default_quant_desc_weight = QUANT_DESC_8BIT_PER_TENSOR
    _weight_quantizer: TensorQuantizer

    @classmethod
    def set_default_quant_desc_weight(cls, value: QuantDescriptor) -> None:
        """Sets the descriptor of the weights of modules of this class that are made from now on.

        Raises:
            ValueError: it is no `QuantDescriptor`.
        """
        cls.default_quant_desc_weight = _checked(value)

    def init_quantizer(
        self, quant_desc_input: QuantDescriptor, quant_desc_weight: QuantDescriptor, num_layers: int | None = None
    ) -> None:
        """Makes the quantizers; call it in `__init__`.

        Args:
            quant_desc_input: the descriptor of the input.
            quant_desc_weight: the descriptor of the weight.
            num_layers: make so many of both, in the lists `_input_quantizers` and `_weight_quantizers`.

        Raises:
            TypeError: it is called elsewhere.
            ValueError: a descriptor says `fake_quant=False`.
        """
        _only_from_init(sys._getframe(1).f_code.co_name)
        self._fake_quant = True
        if num_layers is None:
            self._input_quantizer, self._weight_quantizer = _quantizer(quant_desc_input), _quantizer(quant_desc_weight)
        else:
            self._input_quantizers = nn.ModuleList(_quantizer(quant_desc_input) for _ in range(num_layers))
            self._weight_quantizers = nn.ModuleList(_quantizer(quant_desc_weight) for _ in range(num_layers))

    @property
    def weight_quantizer(self) -> TensorQuantizer:
        """The quantizer of the weight."""
        return self._weight_quantizer


def pop_quant_desc_in_kwargs(quant_cls: Any, input_only: bool = False, **kwargs: Any) -> Any:
    """Returns the descriptors in a module's keywords, or the defaults of its class.

    Args:
        quant_cls: with `default_quant_desc_input`, `default_quant_desc_weight`.
        input_only: only that of the input.
        kwargs: `quant_desc_input`, `quant_desc_weight`.

    Returns:
        One descriptor, or a pair.

    Raises:
        TypeError: there is another keyword.
    """
    known = DESCRIPTORS[:1] if input_only else DESCRIPTORS
    unknown = [key for key in kwargs if key not in known]
    if unknown:
        raise TypeError(f"Unused keys: {', '.join(unknown)}. {did_you_mean(unknown[0], known)}")
    found = tuple(kwargs.get(key, getattr(quant_cls, f"default_{key}")) for key in known)
    return found[0] if input_only else found


def split_keywords(constructor: Any, keywords: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the keywords that a float module's constructor takes, and the others."""
    known = inspect.signature(constructor).parameters
    mine = {key: value for key, value in keywords.items() if key in known}
    return mine, {key: value for key, value in keywords.items() if key not in known}


def _checked(value: Any) -> QuantDescriptor:
    if not isinstance(value, QuantDescriptor):
        raise ValueError(f"{value!r} is not an instance of QuantDescriptor! Make one: QuantDescriptor(num_bits=8).")
    return copy.deepcopy(value)


def _quantizer(desc: QuantDescriptor) -> TensorQuantizer:
    if not _checked(desc).fake_quant:
        raise ValueError("Only fake quantization is supported! A layer can't compute with integers: fake_quant=True.")
    return TensorQuantizer(desc)


def _only_from_init(caller: str) -> None:
    if caller != "__init__":
        raise TypeError(f"init_quantizer should be only called by __init__ of quantized module, not by {caller}.")
