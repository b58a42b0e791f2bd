from __future__ import annotations

import operator

import pytest
import torch

from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.operators import QuantizedAdd, QuantizedMatMul, QuantizedMul
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.quantizer import QuantizerSpec

OPERATORS = [(QuantizedAdd, operator.add), (QuantizedMul, operator.mul), (QuantizedMatMul, operator.matmul)]


def quantizer(amax: float) -> TensorQuantizer:
    made = TensorQuantizer(QuantizerSpec())
    made.set_amax(torch.tensor(amax))
    return made


@pytest.mark.parametrize(("quantized", "plain"), OPERATORS)
def test_is_the_operator_on_quantized_operands(quantized, plain) -> None:  # type: ignore[no-untyped-def]
    a, b = torch.randn(3, 3), torch.randn(3, 3)
    a_hat, b_hat = (fake_quantize(x, torch.tensor(amax), grid()) for x, amax in ((a, 1.0), (b, 2.0)))
    assert torch.equal(quantized(quantizer(1.0), quantizer(2.0))(a, b), plain(a_hat, b_hat))
    assert torch.equal(quantized(right=quantizer(2.0))(a, b), plain(a, b_hat))
    assert torch.equal(quantized()(a, b), plain(a, b))
    result = fake_quantize(plain(a, b), torch.tensor(3.0), grid())
    assert torch.equal(quantized(output=quantizer(3.0))(a, b), result)
