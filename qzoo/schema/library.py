"""Any model of timm or torchvision by name, without a recipe file: `timm/resnet18`, `torchvision/resnet18:int8`."""

from __future__ import annotations

from collections.abc import Iterable

from qzoo.errors import LONGEST_NAME, UnknownNameError, shown
from qzoo.schema.datasets import IMAGENET
from qzoo.schema.limits import is_sound
from qzoo.schema.recipe import Base, Recipe, Variant

LIBRARIES = ("timm", "torchvision")
RESIDUAL_VARIANT = "int8_residual"
"""The manual pattern of NVIDIA's ResNet-50 tutorial: int8, and residual quantizers on the skip branches."""


def is_library_name(name: str) -> bool:
    """Whether a name is that of a library's model.

    Example:
        >>> is_library_name("timm/resnet18"), is_library_name("timm.yaml")
        (True, False)
    """
    return name.partition("/")[0] in LIBRARIES and not name.endswith((".yaml", ".yml"))


def library_recipe(name: str, schemes: Iterable[str]) -> Recipe:
    """Returns a recipe for any model of a library on ImageNet: a variant for each scheme, and `int8_residual`.

    Args:
        name: `timm/resnet18`, `timm/resnet18.a1_in1k`, `torchvision/resnet18`; whether the library has such a model
            is told when it is built.
        schemes: names of the known schemes.

    Raises:
        UnknownNameError: no library can have a model of such a name.

    Example:
        >>> list(library_recipe("timm/resnet18", ["int8", "fp8"]).variants)
        ['int8', 'fp8', 'int8_residual']
    """
    source, _, architecture = name.partition("/")
    if not 0 < len(architecture) <= LONGEST_NAME or not is_sound(architecture):
        raise UnknownNameError(f"{source} has no model '{shown(architecture)}'.")
    variants = {scheme: Variant(scheme=scheme) for scheme in schemes}
    residual = Variant.model_validate({"scheme": "int8", "residual": "skip"})
    base = Base.model_validate({"source": source, "architecture": architecture})
    return Recipe(
        description=f"{architecture} of {source}, by the generic recipe.",
        base=base,
        dataset=IMAGENET.name,
        variants=variants | {RESIDUAL_VARIANT: residual},
    )
