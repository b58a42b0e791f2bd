"""Letting `import pytorch_quantization` find qzoo's stand-in, for scripts and packages that can't be changed."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

from qzoo.errors import UnsupportedError

ORIGINAL = "pytorch_quantization"
STAND_IN = f"qzoo.compat.{ORIGINAL}"


def stand_in() -> None:
    """Lets `pytorch_quantization` and its modules be `qzoo.compat.pytorch_quantization`, for the whole process.

    Call it before the first import of it; a second call does nothing. `python -m qzoo.compat SCRIPT ...` does it for a
    whole script.

    Raises:
        UnsupportedError: the original is imported already.

    Example:
        >>> stand_in()
        >>> from pytorch_quantization import nn as quant_nn
        >>> quant_nn.QuantLinear.__module__
        'qzoo.compat.pytorch_quantization.nn.modules.quant_linear'
    """
    package = import_module(STAND_IN)
    there = sys.modules.get(ORIGINAL)
    if there is not None and there is not package:
        raise UnsupportedError(
            f"{ORIGINAL} is imported already, from {there.__file__}. Call qzoo.compat.stand_in() before, as the first "
            "line of the script."
        )
    names = [STAND_IN, *(module.name for module in pkgutil.walk_packages(package.__path__, f"{STAND_IN}."))]
    for name in names:
        sys.modules[ORIGINAL + name.removeprefix(STAND_IN)] = import_module(name)
