"""Encoders of torch call their quantized layers in every mode, with every mask, as they do with gradients."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.models.quantize import float_copy
from qzoo.quant.ranges import quantizers

X = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] * 3 + [True] * 3])


def encoder(kind: str) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    if kind == "layer":
        return layer.eval()
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()


@pytest.fixture(params=["weights", "int8"])
def variant(request: pytest.FixtureRequest, tmp_path):  # type: ignore[no-untyped-def]
    file = tmp_path / "own.yaml"
    file.write_text(
        "version: 1\nbase: {source: torchvision, architecture: resnet18}\ndataset: imagenet-1k\nscheme: int8\n"
        "variants: {weights: {input: false, weight: {bits: 2}}, int8: {}}\n"
    )
    return f"{file}:{request.param}"


@pytest.mark.parametrize("kind", ["layer", "encoder"])
@pytest.mark.parametrize("masked", [False, True])
def test_quantizers_are_never_passed_by(kind: str, masked: bool, variant: str) -> None:
    float_model = encoder(kind)
    model = qzoo.calibrate(qzoo.quantize(float_model, variant), [X])
    masks = {"src_key_padding_mask": MASK} if masked else {}
    right = model(X, **masks).detach()  # gradients keep torch from its fast path
    if masked and kind == "encoder":
        right = right.masked_fill(MASK.unsqueeze(-1), 0)  # which leaves out padded tokens
    with torch.no_grad():
        torch.testing.assert_close(model(X, **masks), right, rtol=0, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(copy.deepcopy(model)(X, **masks), right, rtol=0, atol=1e-5)
        assert float((right - kept(float_model, masks)).abs().max()) > 1e-3, "it is no float result"


def kept(model: nn.Module, masks: dict[str, Tensor]) -> Tensor:
    with torch.enable_grad():
        return model(X.clone().requires_grad_(), **masks).detach()


@pytest.mark.parametrize("norm", [None, nn.LayerNorm(16)], ids=["", "norm"])
def test_padded_tokens_are_left_out_as_in_float(norm: nn.Module | None) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    float_model = nn.TransformerEncoder(layer, 2, norm=norm, enable_nested_tensor=True).eval()
    model = qzoo.quantize(float_model, "int8", example=X)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not calibrated, and torch's of nested tensors
        found, expected = (one(X, src_key_padding_mask=MASK) for one in (model, float_model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_nested_tensor_is_refused_with_what_to_give() -> None:
    model = qzoo.calibrate(qzoo.quantize(encoder("layer"), "int8", example=X), [X])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of nested tensors
        nested = torch.nested.nested_tensor([X[0], X[1, :4]])
    with torch.no_grad(), pytest.raises(UnsupportedError, match=r"^TransformerEncoderLayer was given a nested tensor"):
        model(nested)


def test_a_float_encoder_keeps_its_fast_path() -> None:
    model = qzoo.quantize(encoder("layer"), "int8")
    assert model.activation_relu_or_gelu == 0
    assert encoder("layer").activation_relu_or_gelu == 1
    back = float_copy(model)
    assert type(back) is nn.TransformerEncoderLayer
    assert back.activation_relu_or_gelu == 1
    assert not quantizers(back)
