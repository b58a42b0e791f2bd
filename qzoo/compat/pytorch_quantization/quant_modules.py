"""Replacing the layers of `torch.nn` by quantized ones, so that models made from then on are quantized."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.errors import did_you_mean

__all__ = ["deactivate", "enable_onnx_export", "initialize"]

logger = logging.getLogger(__name__)


class QuantEntry(NamedTuple):
    """A class to be replaced: `getattr(orig_mod, mod_name)` becomes `replace_mod`."""

    orig_mod: Any
    mod_name: str
    replace_mod: Any


_quant_entry = QuantEntry
"""The original's name, with which scripts add to the map."""

REPLACED = (
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Linear", "LSTM", "LSTMCell",
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
)  # fmt: skip
_DEFAULT_QUANT_MAP = [QuantEntry(torch.nn, name, getattr(quant_nn, f"Quant{name}")) for name in REPLACED]
"""What `initialize` replaces; scripts that convert layers one by one look here."""


class QuantModuleReplacementHelper:
    """Replaces classes in their modules, and puts them back.

    Attributes:
        default_quant_map: what is replaced unless it is said to stay float.
        quant_map: what will be replaced.
        orginal_func_map: what was there before; the name is the original's.
    """

    def __init__(self) -> None:
        self.default_quant_map = _DEFAULT_QUANT_MAP
        self.quant_map: dict[tuple[Any, str], QuantEntry] = {}
        self.orginal_func_map: dict[tuple[Any, str], QuantEntry] = {}

    def prepare_state(
        self, float_module_list: Sequence[str] | None = None, custom_map: Sequence[tuple[Any, str, Any]] | None = None
    ) -> None:
        """Decides what will be replaced.

        Args:
            float_module_list: names of `torch.nn` that stay as they are.
            custom_map: more classes: module, name, and what replaces it; these win.

        """
        known = [entry.mod_name for entry in self.default_quant_map]
        for name in float_module_list or ():
            if name not in known:
                logger.warning("float_module_list: '%s' is float anyway. %s", name, did_you_mean(name, known, 20))
        chosen = [entry for entry in self.default_quant_map if entry.mod_name not in (float_module_list or ())]
        for entry in (*chosen, *(QuantEntry(*custom) for custom in custom_map or ())):
            place = (entry.orig_mod, entry.mod_name)
            self.quant_map[place] = entry
            # Not what an earlier call has put there.
            self.orginal_func_map.setdefault(place, entry._replace(replace_mod=getattr(*place)))

    def apply_quant_modules(self) -> None:
        """Replaces, for the whole process."""
        for module, name, replacement in self.quant_map.values():
            setattr(module, name, replacement)

    def restore_float_modules(self) -> None:
        """Puts back what was there, and forgets what was decided."""
        for module, name, original in self.orginal_func_map.values():
            setattr(module, name, original)
        self.quant_map.clear()
        self.orginal_func_map.clear()


_quant_module_helper_object = QuantModuleReplacementHelper()


def initialize(
    float_module_list: Sequence[str] | None = None,
    custom_quant_modules: Sequence[tuple[Any, str, Any]] | None = None,
) -> None:
    """Replaces the layers of `torch.nn` by quantized ones, for the whole process, until `deactivate`.

    A model whose class says `nn.Conv2d(...)` when it is made gets quantized layers then; nothing in it is copied.
    Import model libraries before: a class that is defined meanwhile, or has such a layer as a default, keeps it.

    Args:
        float_module_list: names that stay as they are: `["Linear"]`.
        custom_quant_modules: more classes to replace: `[(torch.nn, "MaxPool2d", quant_nn.QuantMaxPool2d)]`.

    Example:
        >>> initialize(float_module_list=["Linear"])
        >>> type(torch.nn.Conv2d(3, 8, 3)).__name__, type(torch.nn.Linear(3, 8)).__name__
        ('QuantConv2d', 'Linear')
        >>> deactivate()
    """
    _quant_module_helper_object.prepare_state(float_module_list, custom_quant_modules)
    _quant_module_helper_object.apply_quant_modules()


def deactivate() -> None:
    """Puts the layers of `torch.nn` back. Models that were made meanwhile stay quantized."""
    _quant_module_helper_object.restore_float_modules()


@contextmanager
def enable_onnx_export() -> Iterator[None]:
    """Surrounds `torch.onnx.export`; quantizers become QuantizeLinear and DequantizeLinear with or without it."""
    quant_nn.TensorQuantizer._enable_onnx_export = True
    try:
        yield
    finally:
        quant_nn.TensorQuantizer._enable_onnx_export = False
