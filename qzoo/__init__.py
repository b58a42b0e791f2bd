"""qzoo: a declarative zoo of quantized vision models in which every number can be rerun.

    import qzoo
    model = qzoo.create("resnet50_int8", pretrained="float")

The names below are loaded when they are first used, so `import qzoo` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qzoo.commands.release.pull import pull
    from qzoo.commands.release.push import push
    from qzoo.commands.reproduce import reproduce
    from qzoo.commands.solve import solve
    from qzoo.commands.verify import verify
    from qzoo.errors import QzooError
    from qzoo.schema.recipe import Recipe
    from qzoo.tasks.finetune import finetune
    from qzoo.tasks.saving import load
    from qzoo.zoo.by_name import calibrate, evaluate, export, save, sensitivity
    from qzoo.zoo.create import create, list_models, quantize, recipe, transform

__version__ = "0.1.0"

__all__ = [
    "QzooError", "Recipe", "calibrate", "create", "evaluate", "export", "finetune", "list_models", "load", "pull",
    "push", "quantize", "recipe", "reproduce", "save", "sensitivity", "solve", "transform", "verify",
]  # fmt: skip

_HOMES = {
    "QzooError": "qzoo.errors",
    "Recipe": "qzoo.schema.recipe",
    "calibrate": "qzoo.zoo.by_name",
    "create": "qzoo.zoo.create",
    "evaluate": "qzoo.zoo.by_name",
    "export": "qzoo.zoo.by_name",
    "finetune": "qzoo.tasks.finetune",
    "list_models": "qzoo.zoo.create",
    "load": "qzoo.tasks.saving",
    "pull": "qzoo.commands.release.pull",
    "push": "qzoo.commands.release.push",
    "quantize": "qzoo.zoo.create",
    "recipe": "qzoo.zoo.create",
    "reproduce": "qzoo.commands.reproduce",
    "save": "qzoo.zoo.by_name",
    "sensitivity": "qzoo.zoo.by_name",
    "solve": "qzoo.commands.solve",
    "transform": "qzoo.zoo.create",
    "verify": "qzoo.commands.verify",
}


def __getattr__(name: str) -> Any:
    if name == "compat":  # a subpackage, which nothing else imports
        return import_module("qzoo.compat")
    if name not in _HOMES:
        raise AttributeError(f"module 'qzoo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
