"""Spaces of small models, made once for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qzoo.models.bases import create_base
from qzoo.progress import silent
from qzoo.schema.candidates import candidates
from qzoo.schema.recipe import Variant
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.searching.space import Space, space_of
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel


@pytest.fixture(scope="session")
def space() -> Callable[..., Space]:
    """Makes the space of a variant of the digits' network: of its recipe, or of one that is given."""

    known: dict[str, Space] = {}

    def space_like(variant: str | dict[str, Any], *names: str, keep: tuple[str, ...] = ()) -> Space:
        key = repr((variant, names, keep))
        if key not in known:
            known[key] = made(variant, names, keep)
        return known[key]

    def made(variant: str | dict[str, Any], names: tuple[str, ...], keep: tuple[str, ...]) -> Space:
        entry, own = find("resnet8_digits").entry, variant if isinstance(variant, str) else "own"
        if not isinstance(variant, str):
            entry = entry.with_variant(own, Variant.model_validate(variant))
        model = ZooModel(entry, own)
        images = calibration_images(model.base, model.dataset, model.resolved.calibration, images=64)
        float_model = create_base(model.base, pretrained=True)
        return space_of(float_model, model.resolved, candidates(names), images, keep=keep, progress=silent)

    return space_like
