from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from qzoo import environment
from qzoo.errors import UnknownNameError
from qzoo.models import architectures
from qzoo.models.architectures.weights import WEIGHTS, find_weights, transform_of
from qzoo.weights.base_weights import read_file

PUBLISHED = [name for name in WEIGHTS if name.endswith("cifar10")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_and_shapes_are_those_of_the_published_weights(name: str, weights_dir: Path) -> None:
    found = find_weights(name, "akamaster")
    state = found.strip(read_file(weights_dir / found.file, found.sha256))
    own = architectures.create(name).state_dict()
    shapes = {key: value.shape for key, value in own.items() if not key.endswith("num_batches_tracked")}
    assert {key: value.shape for key, value in state.items() if not key.endswith("num_batches_tracked")} == shapes


def test_the_shipped_weights_are_the_ones_that_are_named() -> None:
    found = find_weights("resnet8_digits")
    state = read_file(environment.packaged(found.packaged or ""), found.sha256)
    assert state.keys() == architectures.create("resnet8_digits").state_dict().keys()


@pytest.mark.parametrize(("name", "tag"), [(name, tag) for name, tags in WEIGHTS.items() for tag in tags])
def test_facts_of_weights_fit_one_another(name: str, tag: str) -> None:
    found = find_weights(name, tag)
    assert len(found.mean) == len(found.std) == found.input_size[0]
    assert found.url or found.packaged
    assert len(found.sha256 or "") == 64


def test_without_a_tag_the_first_weights_are_meant() -> None:
    assert find_weights("resnet20_cifar10") is WEIGHTS["resnet20_cifar10"]["akamaster"]


@pytest.mark.parametrize(("name", "tag", "message"), [
    ("resnet20_cifar10", "akamster", r"no weights 'akamster'\. Did you mean 'akamaster'\?"),
    ("resnet110_cifar10", None, r"no float weights for 'resnet110_cifar10'\. .*Known: resnet20_cifar10"),
])  # fmt: skip
def test_unknown_weights_are_answered_with_what_there_is(name: str, tag: str | None, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        find_weights(name, tag)


def test_transform_normalizes_images_and_batches_alike() -> None:
    transform = transform_of(find_weights("resnet20_cifar10"))
    image = Image.new("RGB", (32, 32), (255, 0, 51))
    batch = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 32, 32)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(transform(image)[:, 5, 7], torch.tensor(expected))
    torch.testing.assert_close(transform(batch)[1], transform(image))
    assert type(transform(image)) is torch.Tensor
