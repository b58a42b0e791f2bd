"""The first line that people type, `create(NAME, pretrained=True)`, on a machine that has nothing but a network."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import nn

import qzoo
from qzoo.models.bases import create_bare, weights_facts
from qzoo.models.provenance import ranges_from
from qzoo.quant.ranges import get_ranges
from qzoo.schema.reading.catalog import Catalog
from qzoo.tasks.inputs import data_free
from qzoo.weights import base_weights
from qzoo.weights.kinds import RANGES
from qzoo.zoo.data_free import DataFreeRangesWarning
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel
from tests.loopback_hub.client import Client
from tests.loopback_hub.server import LoopbackHub

QUICK = ("mobilenet_v3_large", "repvit_m1_0")


def random_weights(base: ZooModel) -> dict[str, torch.Tensor]:
    """Weights of the right names and shapes, whose batch norms remember something."""
    torch.manual_seed(0)
    model = create_bare(base.base)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
    return model.state_dict()


@pytest.fixture
def fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images: that they do is what is asked, not how well."""
    monkeypatch.setattr(data_free, "USUAL_PIXELS", 0)
    monkeypatch.setattr(data_free, "LEAST", 8)


@pytest.fixture
def downloads(
    served: Path, server: str, hub_cache: Path, hub_client: Client, monkeypatch: pytest.MonkeyPatch, fewer_images: None
) -> None:
    """What torchvision downloads comes from this machine; the digest in a file's name is not that of random weights."""
    download = torch.hub.download_url_to_file

    def from_here(url: str, target: str, **options: Any) -> None:
        download(f"{server}/{url.rpartition('/')[2]}", target, **{**options, "progress": False})

    monkeypatch.setattr(torch.hub, "download_url_to_file", from_here)
    monkeypatch.setattr(base_weights, "check_sha256", lambda *_: None)


@contextmanager
def on_the_network(base: ZooModel, hub: LoopbackHub, served: Path) -> Iterator[None]:
    """The float weights are where the library looks for them, under the library's own file name."""
    facts, weights = weights_facts(base.base), random_weights(base)
    if base.base.source == "timm":
        hub.add_repo(f"timm/{facts.files[0].removesuffix('.safetensors')}", {"model.safetensors": save(weights)})
        yield
        return
    file = served / facts.files[0]
    torch.save(weights, file)
    yield
    file.unlink()


def without_ranges() -> list[str]:
    """The bases of which no ranges ship, and whose weights no installed package brings."""
    found = []
    for name in Catalog.load().recipes:
        variant = next((one for one in find(name).variants if one.made_by is RANGES), None)
        if variant is not None and not variant.is_at_hand and variant.base.package is None:
            found.append(name)
    return found


def create_online_and_offline(name: str, hub: LoopbackHub, served: Path) -> str:
    """Creates a variant from the network, then again without; returns what its ranges were made from."""
    base = find(name)
    variant = next(one for one in base.variants if one.made_by is RANGES)
    with warnings.catch_warnings(record=True) as told, on_the_network(base, hub, served):
        warnings.simplefilter("always")
        model = qzoo.create(variant.name, pretrained=True)
    assert any(issubclass(one.category, DataFreeRangesWarning) for one in told)
    ranges = get_ranges(model)
    assert all(bool(value.isfinite().all()) for value in ranges.values())
    assert all(bool((value > 0).all()) for key, value in ranges.items() if key.endswith("input_quantizer.amax"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.warns(DataFreeRangesWarning, match="made on"):
            again = get_ranges(qzoo.create(variant.name, pretrained=True))
    assert all(torch.equal(value, again[key]) for key, value in ranges.items())
    return ranges_from(model)


@pytest.mark.parametrize("name", QUICK)
def test_it_works_online_and_again_offline(name: str, downloads: None, hub: LoopbackHub, served: Path) -> None:
    assert create_online_and_offline(name, hub, served) == "statistics"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_it_works_for_every_base(
    downloads: None, hub: LoopbackHub, hub_client: Client, served: Path, hub_cache: Path
) -> None:
    made = {}
    for name in without_ranges():
        made[name] = create_online_and_offline(name, hub, served)
        hub.reset()
        gc.collect()
        for file in [*hub_cache.glob("*"), *hub_client.blobs()]:
            file.unlink()
    assert len(made) >= 30
    # Statistics where there is batch norm, and images where there is none.
    transformers = ("convnext", "deit", "mixer", "swin", "vit")
    assert {name for name, source in made.items() if source == "synthetic"} == {
        name for name in made if name.startswith(transformers)
    }
