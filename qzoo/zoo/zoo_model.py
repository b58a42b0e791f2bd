"""A name of the zoo, and all that is known by it: the object that carries a name through the house."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qzoo import environment
from qzoo.errors import UnknownNameError
from qzoo.hub.client import fetch, fetch_more, parse_address
from qzoo.hub.index import released as on_hub
from qzoo.hub.released_model import open_folder
from qzoo.schema.datasets import dataset_named
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.sources import OWN_CODE
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve
from qzoo.weights.kinds import MODEL, RANGES, ROUNDING, Kind, beside_recipe


@dataclass(frozen=True)
class ZooModel:
    """A base, or a variant of it.

    Attributes:
        entry: the recipe, and where it came from.
        variant: None for the float base.

    Example:
        >>> from qzoo.zoo.name_lookup import find
        >>> model = find("resnet8_digits_int8")
        >>> model.name, model.base.architecture, model.resolved.method
        ('resnet8_digits_int8', 'resnet8_digits', 'percentile 99.99')
    """

    entry: RecipeEntry
    variant: str | None = None

    @property
    def name(self) -> str:
        """Its full name: `resnet50`, `resnet50_int8`."""
        return self.entry.name if self.variant is None else f"{self.entry.name}_{self.variant}"

    @property
    def address(self) -> str:
        """What to type for it."""
        if self.variant is not None:
            return self.entry.source.address(self.entry.name, self.variant)
        return self.entry.name if self.entry.source.in_catalog else self.entry.where

    @property
    def base(self) -> Base:
        """The float model."""
        return self.entry.recipe.base

    @property
    def dataset(self) -> str:
        """What it is calibrated and evaluated on."""
        return self.entry.recipe.dataset

    @cached_property
    def resolved(self) -> ResolvedVariant:
        """The variant with scheme and `from` chain merged.

        Raises:
            UnknownNameError: it is a base; with the variants it has.
            RecipeError: its scheme is unknown.
        """
        if self.variant is None:
            known = ", ".join(one.address for one in self.variants)
            raise UnknownNameError(f"'{self.address}' is a float base; name one of its variants: {known}.")
        return resolve(self.entry, self.variant)

    @property
    def variants(self) -> list[ZooModel]:
        """All variants of its recipe, in the order of the file."""
        return [ZooModel(self.entry, name) for name in self.entry.variants]

    def command(self, verb: str, options: str = "") -> str:
        """Returns what to type to do something with it: `qzoo calibrate resnet50_int8 --data PATH`."""
        data = dataset_named(self.dataset).data_option
        return f"qzoo {verb} {self.address}{self.code_option}{data}{options and f' {options}'}"

    @property
    def code_option(self) -> str:
        """What commands on it have to say for the code of a class of one's own; for any other nothing."""
        if self.base.source != OWN_CODE:
            return ""
        from qzoo.models.own_models import code_option  # which takes torch

        return code_option(self.base.architecture)

    @property
    def made_by(self) -> Kind:
        """The kind of artifact that makes the variant: of a trained one it is all of it, else it goes on the base."""
        if self.resolved.finetune is not None:
            return MODEL
        return RANGES if self.resolved.optimize is None else ROUNDING

    @property
    def making_command(self) -> str:
        """What to type to make that artifact."""
        return self.command({MODEL: "finetune", ROUNDING: "optimize", RANGES: "calibrate"}[self.made_by])

    def artifact(self, kind: Kind) -> Path | None:
        """Returns an artifact of the variant, or None.

        It is looked for beside the recipe, then in `QZOO_WEIGHTS_DIR`, in qzoo's own folder, and last on the hub, where
        the recipe folder's `hub.json` names it. A hub model has its own artifacts and no others.

        Raises:
            WeightsError: the hub can't be reached, or what it sends is damaged.
        """
        source = self.entry.source
        if source.has_own_artifacts and source.path is not None:
            return fetch_more(open_folder(source.path.parent, source.where), [kind.file]).file(kind.file)
        local = self.artifact_at_hand(kind)
        address = on_hub().get(self.name) if local is None else None
        # The names in `hub.json` speak of the catalogue's recipes, not of any file or object of that name.
        if address is None or not source.in_catalog:
            return local
        return fetch(parse_address(address), [kind.file]).file(kind.file)

    def artifact_at_hand(self, kind: Kind) -> Path | None:
        """Returns an artifact of the variant that is on this machine, or None."""
        return next((path for path in self._local_files(kind) if path.is_file()), None)

    @property
    def is_at_hand(self) -> bool:
        """Whether what makes the variant is on this machine, or its recipe folder says that it is on the hub."""
        return self.artifact_at_hand(self.made_by) is not None or self.name in on_hub()

    def _local_files(self, kind: Kind) -> Iterator[Path]:
        beside = beside_recipe(self.entry, self.name, kind)
        if beside is not None:
            yield beside
        for folder in (environment.weights_dir(), environment.artifacts()):
            if folder is not None:
                yield folder / f"{self.name}{kind.suffix}"
