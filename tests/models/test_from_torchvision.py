from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from qzoo.models.bases import base_digest, create_base
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import NewHeadWarning
from tests.each import for_each

WEIGHTS_OF = {
    "resnet18": {}, "mnasnet0_5": {}, "densenet121": {}, "googlenet": {"aux_logits": True}, "squeezenet1_1": {},
}  # fmt: skip


def torchvision_entries() -> list[RecipeEntry]:
    return [entry for entry in Catalog.load().entries if entry.recipe.base.source == "torchvision"]


@pytest.fixture
def torchvision_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Base, nn.Module]]:
    """Saves a random model of torchvision where its weights are looked for, in the form of the published file."""
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))

    def save(name: str) -> tuple[Base, nn.Module]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            keywords = {"init_weights": False} if name == "googlenet" else {}
            model = torchvision.models.get_model(name, **keywords, **WEIGHTS_OF[name]).eval()
        state = model.state_dict()
        if name.startswith("densenet"):
            old_names = {key: re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key) for key in state if "denselayer" in key}
            for key, old in old_names.items():
                state[old] = state.pop(key)
        path = tmp_path / torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Base(source="torchvision", architecture=name, sha256=digest), model

    return save


@pytest.mark.parametrize("name", WEIGHTS_OF)
def test_weights_are_loaded(name: str, torchvision_weights: Callable[[str], tuple[Base, nn.Module]]) -> None:
    base, source = torchvision_weights(name)
    model, x = create_base(base, pretrained=True), torch.rand(1, 3, 64, 64)
    source.transform_input = getattr(model, "transform_input", False)
    assert type(model) is type(source)
    with torch.no_grad():
        assert torch.equal(model(x), source(x))


def test_auxiliary_classifiers_come_when_asked_for(torchvision_weights: Callable[[str], Any]) -> None:
    base, source = torchvision_weights("googlenet")
    model = create_base(base, pretrained=True, aux_logits=True)
    assert torch.equal(model.aux1.fc2.weight, source.aux1.fc2.weight)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_another_number_of_classes(name: str, torchvision_weights: Callable[[str], Any]) -> None:
    base, _ = torchvision_weights(name)
    with pytest.warns(NewHeadWarning, match="num_classes differs"):
        model = create_base(base, pretrained=True, num_classes=7)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    assert base_digest(model) == base_digest(create_base(base, pretrained=True))


@for_each("entry", torchvision_entries, ids=lambda entry: entry.name)
def test_recipes_pin_the_weights_and_quote_their_metadata(entry: RecipeEntry) -> None:
    base = entry.recipe.base
    weights = torchvision.models.get_model_weights(base.architecture)[base.weights]
    assert base.sha256 == weights.url.rpartition("-")[2].removesuffix(".pth")
    figure = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert all(claim.top1 == figure for claim in entry.recipe.published if "weights metadata" in claim.source)
