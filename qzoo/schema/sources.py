"""Where a recipe came from: it decides what messages call it, what to type for a variant, and where artifacts lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qzoo.schema.yaml_source import short_path


class Source:
    """Where a recipe came from.

    Attributes:
        path: of its file; None without one.
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
        path: of its recipe file.
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
