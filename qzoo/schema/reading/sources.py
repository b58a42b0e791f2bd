"""Where a recipe came from: it decides what messages call it, what to type for a variant, and where artifacts lie.

Any model of timm or torchvision, and any of one's own, has a recipe by its name alone: `timm/resnet18`,
`torchvision/resnet18:int8`, `python/tiny`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qzoo.errors import LONGEST_NAME, UnknownNameError, shown
from qzoo.schema.datasets import IMAGENET
from qzoo.schema.limits import is_sound
from qzoo.schema.reading.yaml_source import short_path
from qzoo.schema.recipe import Base, Recipe, Variant


class Source:
    """Where a recipe came from.

    Attributes:
        path: the path of its file; None without one.
        in_catalog: whether full names find it: `resnet50_int8`.
        is_shipped: whether it came with qzoo, so that it is nobody else's.
        has_own_artifacts: whether it came with all its artifacts, so that no others are its.
    """

    path: Path | None
    in_catalog = False
    is_shipped = False
    has_own_artifacts = False

    @property
    def where(self) -> str:
        """What messages call it."""
        raise NotImplementedError

    def address(self, base: str, variant: str) -> str:
        """Returns what to type for a variant."""
        return f"{base}_{variant}" if self.in_catalog else f"{self.where}:{variant}"


@dataclass(frozen=True)
class OwnFile(Source):
    """A file of the user's: named by its path, or in a folder of `QZOO_RECIPES`."""

    path: Path
    in_catalog: bool = False

    @property
    def where(self) -> str:
        """The file; relative to the current folder if it lies below it."""
        return short_path(self.path)


@dataclass(frozen=True)
class ShippedFile(OwnFile):
    """A file that came with qzoo."""

    in_catalog: bool = True
    is_shipped = True


class PythonRecipe(Source):
    """A recipe made in Python."""

    path = None
    where = "<recipe>"


@dataclass(frozen=True)
class LibraryModel(Source):
    """A model of a library, without a file.

    Attributes:
        name: what to type for it: `timm/resnet18`.
    """

    name: str
    path = None

    @property
    def where(self) -> str:
        """Its name."""
        return self.name


@dataclass(frozen=True)
class HubModel(Source):
    """A model of the hub, or of a folder that `qzoo pull` filled.

    Attributes:
        path: the path of its recipe file.
        name: what to type for it: `hf-hub:owner/repo`, or a folder.
    """

    path: Path
    name: str
    has_own_artifacts = True

    @property
    def where(self) -> str:
        """Its name."""
        return self.name

    def address(self, base: str, variant: str) -> str:
        """Returns what to type for its variant, of which it has one."""
        return self.name


OWN_CODE = "python"
"""The source of bases whose code whoever runs qzoo gives: `qzoo.register_model`, `--model`, an entry point."""
LIBRARIES = ("timm", "torchvision", OWN_CODE)
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
    """Returns a recipe for any model of a library: a variant for each scheme, and `int8_residual`.

    Args:
        name: `timm/resnet18`, `timm/resnet18.a1_in1k`, `torchvision/resnet18`, on ImageNet; `python/tiny`, on the
            image folder of that name. Whether there is such a model is told when it is made.
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
        dataset=architecture if source == OWN_CODE else IMAGENET.name,
        variants=variants | {RESIDUAL_VARIANT: residual},
    )
