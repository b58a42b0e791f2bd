from __future__ import annotations

import pytest

from qzoo.errors import UnknownNameError
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.reading.sources import is_library_name, library_recipe
from qzoo.schema.resolution.resolve import resolve


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18", "timm/resnet18.a1_in1k", "timm/vit:int8"])
def test_names_of_a_librarys_models(name: str) -> None:
    assert is_library_name(name)


@pytest.mark.parametrize("name", ["resnet18", "timm.yaml", "timm/mine.yaml", "other/resnet18", "timm"])
def test_other_names(name: str) -> None:
    assert is_library_name(name) is (name == "timm")


@pytest.mark.parametrize("architecture", ["", "a" * 100_000, "a\udcff"])
def test_names_that_no_library_can_have(architecture: str) -> None:
    with pytest.raises(UnknownNameError, match=r"^timm has no model '.*'\.$") as caught:
        library_recipe(f"timm/{architecture}", ["int8"])
    assert len(str(caught.value)) < 1_000


def test_a_variant_for_each_scheme_and_one_with_residuals() -> None:
    catalog = Catalog.load()
    entry, variant = catalog.find("timm/resnet18.a1_in1k:int8_ort")
    assert variant == "int8_ort"
    assert set(entry.variants) == {*catalog.schemes, "int8_residual"}
    assert (entry.recipe.base.source, entry.recipe.base.architecture) == ("timm", "resnet18.a1_in1k")
    residual = resolve(entry, "int8_residual").residual
    assert residual is not None
    assert residual.placement == "skip"
    assert resolve(entry, "int8").residual is None


def test_what_it_decides_does_not_depend_on_other_schemes() -> None:
    one, two = (library_recipe("timm/resnet18", schemes) for schemes in (["int8"], ["int8", "fp8"]))
    assert one.variants["int8"] == two.variants["int8"]
    assert list(one.variants) == ["int8", "int8_residual"]
