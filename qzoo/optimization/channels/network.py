"""A quantized model as a float network: what it evaluates, from what, and its tensors while they are changed.

The network is a float twin of the model, which has its parameters and buffers: what a step writes to them, both see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.models.example import runnable_example
from qzoo.models.operators import traced
from qzoo.models.quantize import float_copy
from qzoo.models.tracing import OperatorCall
from qzoo.optimization.batches import first_of
from qzoo.quant.eval_mode import device_of, evaluation_mode
from qzoo.quant.inputs import run, tensors, to_device, with_images
from qzoo.quant.operators.composite import OperatorMode
from qzoo.quant.operators.operands import CONVOLUTIONS, Operand, operands
from qzoo.quant.operators.spellings import operator_name

See = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], None]
"""Is shown an evaluation: the operator, its arguments by place and by name, and what it gives."""


class Network:
    """A quantized model as a float network.

    Args:
        model: quantized or float. Its weights are not copied for long: the peak is once its size.
        batches: inputs of the model, for an example; only the first is looked at.
        example: an input; default: of `batches`, else of the likely size.

    Attributes:
        twin: float; shares parameters and buffers with the model.
        example: an input, if one was given.
        evaluations: what it evaluates, in order; the first stands for its input.
        tensors: its parameters and buffers by key of the state dict.

    Raises:
        UnsupportedError: the model can't be run on the example.
        DataError: the batches are empty.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Any] | None = None, example: Any = None) -> None:
        self.twin = float_copy(model).requires_grad_(False)
        shared = dict(chain(model.named_parameters(), model.named_buffers()))
        for key, tensor in chain(self.twin.named_parameters(), self.twin.named_buffers()):
            tensor.data = shared[key].data
        self.tensors: dict[str, Tensor] = {key: one.detach() for key, one in shared.items()}
        if example is None and batches is not None:
            example = with_images(first_of(batches), 2)
        self.example = None if example is None else to_device(example, device_of(model))
        found = traced(self.twin, self.example)
        self.evaluations, self._outputs = found.evaluations, set(found.outputs)
        self._readers: dict[int, list[int]] = {}
        self._uses: dict[str, int] = {}
        for one in found.evaluations[1:]:
            for index in one.inputs:
                self._readers.setdefault(index, []).append(one.index)
            for key in one.parameters:
                self._uses[key] = self._uses.get(key, 0) + 1

    def readers(self, index: int) -> list[OperatorCall]:
        """Returns the evaluations that read what one gives."""
        return [self.evaluations[reader] for reader in self._readers.get(index, ())]

    def is_output(self, index: int) -> bool:
        """Whether the model gives what an evaluation gives."""
        return index in self._outputs

    def module(self, evaluation: OperatorCall) -> nn.Module:
        """Returns the module whose forward evaluates it, of the float twin."""
        return self.twin.get_submodule(evaluation.module)

    def weight_key(self, evaluation: OperatorCall) -> str | None:
        """Returns the key of the one weight that an evaluation multiplies its one input by, if nobody else reads it."""
        if evaluation.op not in ("linear", "matmul", *CONVOLUTIONS) or len(evaluation.reads) != 1:
            return None
        (read,) = evaluation.reads.values()
        if read.parameter is None or read.in_parts or len(read.size) < 2 or len(evaluation.inputs) != 1:
            return None
        if read.axis not in (0, 1) or (evaluation.op == "matmul" and len(read.size) != 2):
            return None
        return read.parameter if self.is_read_once(read.parameter) else None

    def is_read_once(self, key: str) -> bool:
        """Whether one evaluation alone depends on a parameter."""
        return self._uses.get(key) == 1

    def vector(self, module: str, name: str) -> Tensor | None:
        """Returns a vector of a module, such as its bias; None where it has none."""
        return self.tensors.get(f"{module}.{name}".lstrip("."))

    def observe(self, batches: Iterable[Any], wanted: Mapping[int, See]) -> int:
        """Runs the network in float, and shows the evaluations that are asked for; returns the number of batches.

        Args:
            batches: inputs.
            wanted: by index of an evaluation, whom it is shown to. What is shown is not to be kept or written to.

        Raises:
            UnsupportedError: the network takes another way for these inputs than for the example.
        """
        count, device = 0, device_of(self.twin)
        with evaluation_mode(self.twin), torch.no_grad():
            for batch in batches:
                count, inputs = count + 1, to_device(batch, device)
                with _Observer(self, wanted):
                    run(self.twin, inputs)
        return count

    def an_input(self) -> Any:
        """Returns the example, or one of the likely size."""
        if self.example is None:
            self.example = runnable_example(self.twin)
        return self.example


def named_operands(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, tuple[Operand, Tensor]]:
    """Returns the operands of an operator by name: where each stands, and its value."""
    return {one.name: (one, value) for one, value in operands(func, operator_name(func), args, kwargs)}


class _Observer(OperatorMode):
    """Counts evaluations as `models.tracing` does."""

    def __init__(self, network: Network, wanted: Mapping[int, See]) -> None:
        super().__init__()
        self.network, self.wanted, self.index = network, wanted, 0

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if tensors(result):
            self.index += 1
            if see := self.wanted.get(self.index):
                self._check(func)
                see(func, args, kwargs, result)
        return result

    def _check(self, func: Callable[..., Any]) -> None:
        expected = self.network.evaluations[self.index]
        if operator_name(func) != expected.op:
            raise UnsupportedError(
                f"{expected.module or type(self.network.twin).__name__} evaluates {operator_name(func)} where it "
                f"evaluated {expected.op} on the example: its forward takes another way for these inputs. Give an "
                "example of this way, or leave the step out."
            )
