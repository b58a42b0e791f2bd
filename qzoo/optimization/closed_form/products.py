"""Sees what a model multiplies by its quantized weights, whoever does so: layers, and operators of other modules.

A `TorchFunctionMode` sees every operator of a pass. It knows a weight by the tensor itself: of a quantized model by
what the weight's quantizer gave, of a float one by the parameter. So what it sees is what is multiplied: padded, in the
order of its own forward, and in parts where a parameter is read in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.closed_form.matrix_form import PRODUCTS, Form, form_of
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.layers import QuantizedLayer
from qzoo.quant.operators.composite import OperatorMode
from qzoo.quant.operators.operands import operands
from qzoo.quant.operators.spellings import operator_name
from qzoo.quant.ranges import is_of_weight, quantizers
from qzoo.quant.weights import QuantizedWeight


class Part(NamedTuple):
    """A weight, or the part of it that one operator reads, as a view of the parameter."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, whole: Tensor) -> Tensor:
        """Returns the part of a tensor that lies in memory like the parameter."""
        return whole.as_strided(self.size, self.stride, whole.storage_offset() + self.offset)


class Product(NamedTuple):
    """One product with a weight.

    Attributes:
        weight: the path of the weight's quantizer.
        part: what of the weight is read.
        form: how.
        input: what it is multiplied with.
        exact: the input before it was quantized; None where nothing quantized it, or something came in between, such as
            padding by other than zeros.
        output: the product, with its bias.
        bias: the bias, as the operator was given it; None where it was given none.
    """

    weight: str
    part: Part
    form: Form
    input: Tensor
    exact: Tensor | None
    output: Tensor
    bias: Tensor | None

    @property
    def read(self) -> tuple[str, Part]:
        """What tells the weights of products apart."""
        return self.weight, self.part


See = Callable[[Product], Tensor | None]
"""Is shown a product, which it does not keep longer than it needs; what it returns takes the place of its output."""


class _Watching(OperatorMode):
    def __init__(self, see: See) -> None:
        super().__init__()
        self.see = see
        # By id, beside the tensor itself: one that were freed could lend its id to the next.
        self.weights: dict[int, tuple[str, Tensor]] = {}
        self.last: dict[str, int] = {}
        # What an activation quantizer gave last, and was given: the product with it comes next.
        self.quantized: tuple[Tensor | None, Tensor | None] = None, None

    def know(self, path: str, weight: Tensor) -> None:
        self.weights.pop(self.last.get(path, 0), None)
        self.weights[id(weight)], self.last[path] = (path, weight), id(weight)

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        name = operator_name(func)
        if name in PRODUCTS and isinstance(result, Tensor):
            return self._shown(func, name, args, kwargs, result)
        return result

    def _shown(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Tensor:
        found = {operand.name: value for operand, value in operands(func, name, args, kwargs)}
        for operand, value in found.items():
            path, whole = self._known(value)
            form = form_of(name, operand, value, args, kwargs) if whole is not None else None
            if form is not None and whole is not None:
                (x,) = (other for of, other in found.items() if of != operand)
                if x.dim() < 2 and operand == "left":
                    continue
                part = Part(tuple(value.shape), value.stride(), value.storage_offset() - whole.storage_offset())
                bias = None if name == "matmul" else args[2] if len(args) > 2 else kwargs.get("bias")
                instead = self.see(Product(path, part, form, x, self._before_quantizer(x), result, bias))
                result = result if instead is None else instead
        return result

    def _before_quantizer(self, x: Tensor) -> Tensor | None:
        quantized, given = self.quantized
        return given if x is quantized else None

    def _known(self, value: Tensor) -> tuple[str, Tensor | None]:
        known = self.weights.get(id(value)) or self.weights.get(id(value._base))
        return known or ("", None)


@contextmanager
def watching(model: nn.Module, weights: Mapping[str, QuantizedWeight], see: See) -> Iterator[None]:
    """Shows each product with a weight while a model runs, which it does in evaluation mode and without gradients.

    Args:
        model: the quantized model that the weights are of, or its float one, with parameters of the same names.
        weights: by the paths of their quantizers.
        see: called with each product, in the order of evaluation.
    """
    mode = _Watching(see)
    with ExitStack() as stack:
        for path, weight in weights.items():
            if weight.key is not None:
                mode.know(path, model.get_parameter(weight.key))
        forget(model)
        for path, quantizer in quantizers(model).items():
            hook = _knowing(mode, path) if is_of_weight(path) else _noting(mode)
            if not is_of_weight(path) or path in weights:
                stack.callback(quantizer.register_forward_hook(hook).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(mode)
        yield


def _knowing(mode: _Watching, path: str) -> Any:
    return lambda quantizer, args, quantized: mode.know(path, quantized)


def _noting(mode: _Watching) -> Any:
    def note(quantizer: nn.Module, args: tuple[Tensor, ...], quantized: Tensor) -> None:
        mode.quantized = quantized, args[0]

    return note


def forget(model: nn.Module) -> None:
    """Frees what is kept of quantized weights, so that they are quantized anew, by quantizers that are called."""
    for module in model.modules():
        if isinstance(module, QuantizedLayer):
            module.refresh()
        module.__dict__.pop("weight_caches", None)
