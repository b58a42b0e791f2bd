from __future__ import annotations

import pytest
from torch import nn

from qzoo.errors import UnknownNameError
from qzoo.models import architectures
from qzoo.models.architectures import registry


@pytest.mark.parametrize("name", architectures.names())
def test_every_name_can_be_created(name: str) -> None:
    assert isinstance(architectures.create(name), nn.Module)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet20_cifar'.*Did you mean 'resnet20_cifar10'\? Known: .*resnet8"):
        architectures.create("resnet20_cifar")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'resnet8_digits' is registered already"):
        registry.register("resnet8_digits", nn.Identity)
