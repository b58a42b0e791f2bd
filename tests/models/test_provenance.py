from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from qzoo.models.bases import create_base
from qzoo.models.provenance import provenance
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.resolve import resolve_scheme

Quantize = Callable[..., nn.Module]


def test_names_base_variant_and_quantizers(quantized: Quantize) -> None:
    base = Base(source="qzoo", architecture="resnet8_digits")
    made = provenance(quantized(create_base(base)))
    assert made is not None
    assert made.base == base
    assert made.variant == resolve_scheme("int8")
    assert made.quantizers["linear"].keys() == {"input", "weight"}


@pytest.mark.parametrize("again", ["copy", "file"])
def test_travels_with_copies_and_files(again: str, quantized: Quantize) -> None:
    model, buffer = quantized(create_base(Base(source="qzoo", architecture="resnet8_digits")), 1.0), io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    other = copy.deepcopy(model) if again == "copy" else torch.load(buffer, weights_only=False)
    made, expected = provenance(other), provenance(model)
    assert (made.base, made.variant) == (expected.base, expected.variant)
    assert made.quantizers["linear"]["input"] is other.linear.input_quantizer
    assert other.linear.input_quantizer is not model.linear.input_quantizer
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(other(x), model(x))


def test_is_no_part_of_the_state_dict(quantized: Quantize) -> None:
    model = quantized(nn.Sequential(nn.Linear(2, 2)))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "0.input_quantizer.amax", "0.weight_quantizer.amax"]
