"""A small model ready to be published, and its logits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.commands.release.bundle import make_bundle
from qzoo.hub.released_model import ReleasedModel, open_folder
from qzoo.zoo.name_lookup import find

NAME = "resnet8_digits_int8"
REPO = "tester/resnet8_digits_int8"
IMAGES = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IMAGES)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasedModel]:
    """A folder with every kind of file."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QZOO_HOME", str(folder / "home"))
        qzoo.reproduce("resnet8_digits", only="int8", artifacts=folder / "artifacts")
        bundle = make_bundle(find(NAME), folder / "model", artifacts=folder / "artifacts", repo=REPO)
    assert bundle.missing == ()
    return open_folder(folder / "model")


@pytest.fixture(scope="session")
def expected() -> Tensor:
    """The logits of the calibrated model."""
    return logits(qzoo.create(NAME, pretrained=True))
