"""qzoo: a declarative zoo of quantized vision models in which every number can be rerun.

    import qzoo
    model = qzoo.create("resnet50_int8", pretrained="float")

The names below are loaded when they are first used, so `import qzoo` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qzoo.errors import QzooError
    from qzoo.schema.recipe import Recipe
    from qzoo.tasks.calibrate import calibrate
    from qzoo.tasks.evaluate import evaluate
    from qzoo.tasks.export import export
    from qzoo.tasks.finetune import finetune
    from qzoo.tasks.pull import pull
    from qzoo.tasks.push import push
    from qzoo.tasks.reproduce import reproduce
    from qzoo.tasks.saving import load, save
    from qzoo.tasks.sensitivity import sensitivity
    from qzoo.tasks.solve import solve
    from qzoo.tasks.verify import verify
    from qzoo.zoo import create, list_models, quantize, recipe, transform

__version__ = "0.1.0"

__all__ = [
    "QzooError", "Recipe", "calibrate", "create", "evaluate", "export", "finetune", "list_models", "load", "pull",
    "push", "quantize", "recipe", "reproduce", "save", "sensitivity", "solve", "transform", "verify",
]  # fmt: skip

_HOMES = {
    "QzooError": "qzoo.errors",
    "Recipe": "qzoo.schema.recipe",
    "calibrate": "qzoo.tasks.calibrate",
    "create": "qzoo.zoo",
    "evaluate": "qzoo.tasks.evaluate",
    "export": "qzoo.tasks.export",
    "finetune": "qzoo.tasks.finetune",
    "list_models": "qzoo.zoo",
    "load": "qzoo.tasks.saving",
    "pull": "qzoo.tasks.pull",
    "push": "qzoo.tasks.push",
    "quantize": "qzoo.zoo",
    "recipe": "qzoo.zoo",
    "reproduce": "qzoo.tasks.reproduce",
    "save": "qzoo.tasks.saving",
    "sensitivity": "qzoo.tasks.sensitivity",
    "solve": "qzoo.tasks.solve",
    "transform": "qzoo.zoo",
    "verify": "qzoo.tasks.verify",
}


def __getattr__(name: str) -> Any:
    if name == "compat":  # a subpackage, which nothing else imports
        return import_module("qzoo.compat")
    if name not in _HOMES:
        raise AttributeError(f"module 'qzoo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
