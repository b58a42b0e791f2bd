"""What is swept: the smallest architecture of each timm module, and all torchvision classifiers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from timm.models import get_pretrained_cfg
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

SMALL = 128
"""Height and width that most models take, and that makes a sweep three times as fast as 224 would."""
DEFAULT = 224


class Architecture(NamedTuple):
    """One model of the sweep.

    Attributes:
        source: `timm` or `torchvision`.
        module: file in timm/models; of torchvision the file in torchvision/models.
        name: as its library calls it.
    """

    source: str
    module: str
    name: str

    def build(self) -> nn.Module:
        """Returns the model with random weights, always the same."""
        torch.manual_seed(0)
        if self.source == "timm":
            return timm.create_model(self.name)  # type: ignore[no-any-return]
        # Their own initialization needs minutes of SciPy and warns; the values do not matter here.
        own = {"init_weights": False} if self.name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(self.name, weights=None, **own)  # type: ignore[no-any-return]

    def sizes(self) -> list[int]:
        """Returns heights that the model may take, the cheapest first; the last is the one it is made for."""
        size = self._made_for()
        return sorted({min(SMALL, size), min(DEFAULT, size), min(256, size), size})

    def _made_for(self) -> int:
        if self.source == "timm":
            config = get_pretrained_cfg(self.name)
            return int(config.input_size[-1]) if config else DEFAULT
        return 299 if self.name == "inception_v3" else DEFAULT


def timm_modules() -> list[str]:
    """Returns the modules of timm that register models, by timm's own registry."""
    return list(timm.list_modules())


def torchvision_architectures() -> list[Architecture]:
    """Returns all classification models of torchvision."""
    models = torchvision.models
    names = models.list_models(module=models)
    return [
        Architecture("torchvision", models.get_model_builder(name).__module__.rpartition(".")[2], name)
        for name in names
    ]


def timm_architectures() -> Iterator[Architecture]:
    """Yields the smallest architecture of each module."""
    for module in timm_modules():
        yield Architecture("timm", module, smallest(module))


def smallest(module: str) -> str:
    """Returns the architecture with the fewest parameters, found without memory for them.

    `test_*`, the toys of timm's own tests, do not count.
    """
    best, least = "", math.inf
    for name in timm.list_models(module=module):
        if not name.startswith("test_"):
            parameters = _parameters(name, least)
            if parameters < least:
                best, least = name, parameters
    return best


class _TooManyError(Exception):
    """A build went past the limit."""


def _parameters(name: str, limit: float) -> float:
    """Counts an architecture's parameters, or gives up as soon as they are more than the limit."""
    registered = 0

    def count(module: nn.Module, key: str, parameter: Any) -> None:
        nonlocal registered
        registered += 0 if parameter is None else parameter.numel()
        if registered > limit:
            raise _TooManyError

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    except _TooManyError:
        return math.inf
    finally:
        hook.remove()
