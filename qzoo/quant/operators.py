"""Quantizers for operators that are no layers: both operands of an addition, a product, a matrix product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qzoo.quant.quantizer import TensorQuantizer


class QuantizedOperator(nn.Module):
    """An operator of two tensors whose operands, and result if wanted, are quantized.

    Example:
        >>> from qzoo.schema.quantizer import QuantizerSpec
        >>> add = QuantizedAdd(TensorQuantizer(QuantizerSpec()), TensorQuantizer(QuantizerSpec()))
        >>> add(torch.ones(2), torch.ones(2))
        tensor([2., 2.])
    """

    operator: Callable[[Tensor, Tensor], Tensor]

    def __init__(
        self,
        left: TensorQuantizer | None = None,
        right: TensorQuantizer | None = None,
        output: TensorQuantizer | None = None,
    ) -> None:
        super().__init__()
        self.left_quantizer = left or nn.Identity()
        self.right_quantizer = right or nn.Identity()
        self.output_quantizer = output or nn.Identity()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Returns the operator's result on the quantized operands; shapes broadcast as the operator's do."""
        result = type(self).operator(self.left_quantizer(left), self.right_quantizer(right))
        return self.output_quantizer(result)  # type: ignore[no-any-return]


class QuantizedAdd(QuantizedOperator):
    """`left + right` on quantized operands."""

    operator = staticmethod(torch.add)


class QuantizedMul(QuantizedOperator):
    """`left * right` on quantized operands."""

    operator = staticmethod(torch.mul)


class QuantizedMatMul(QuantizedOperator):
    """`left @ right` on quantized operands."""

    operator = staticmethod(torch.matmul)
