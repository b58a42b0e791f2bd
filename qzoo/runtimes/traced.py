"""A model as `torch.onnx` sees it: traced once, and made a graph as often as one is needed."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from qzoo.errors import UnsupportedError
from qzoo.quant.inputs import batch_size, with_images
from qzoo.quant.outputs import named_tensors
from qzoo.results.export import Dynamic
from qzoo.runtimes import pooling_ops
from qzoo.runtimes.graph import name_by_module, scope
from qzoo.runtimes.named_inputs import bound, dynamic_axes, name_inputs, named_inputs, require_dynamic
from qzoo.runtimes.named_outputs import names_of_outputs
from qzoo.runtimes.quant_ops import translation

OPSET = 21
"""The opset of all exports: the first that has every type a quantizer may store."""


class TracedModel:
    """The graph of a model before the exporter optimizes it: each operator has a node, and the module that it is of.

    Optimizing merges nodes that do the same, so whoever changes what one module does changes a copy of this.

    Args:
        model: on the CPU, its quantizers exportable; not changed.
        example: as for `to_onnx`.
        dynamic: as for `to_onnx`.

    Attributes:
        model: the graph; copy it before it is changed.
        outputs: the names that its outputs are to have.

    Raises:
        UnsupportedError: `torch.export` can't trace the model, or it is made for one size where any was asked for.
    """

    def __init__(self, model: nn.Module, example: Any, dynamic: Dynamic) -> None:
        # A batch of one would be traced as a constant.
        inputs = with_images(example, 2) if dynamic != "none" and batch_size(example) < 2 else example
        named = named_inputs(model, inputs)
        self._inputs, self._axes = [*named], dynamic_axes(named, dynamic)
        self._paths = _first_paths(model)
        self._called = (type(model).__name__, dynamic)
        with _explained(*self._called):
            self.outputs = names_of_outputs(model, inputs)
            self._program = _exported(_Flat(model, inputs), named, self._axes)
        self.model: ir.Model = self._program.model

    def path_of(self, node: ir.Node) -> str:
        """Returns the path of the innermost module that a node of the graph, or of a copy, comes from."""
        return self._paths.get(scope(node), scope(node))

    def optimized(self, model: ir.Model) -> ir.Model:
        """Returns a graph as the exporter optimizes it, its inputs and nodes named.

        Args:
            model: the graph, or a changed copy; changed in place.

        Raises:
            UnsupportedError: it is made for one size where any was asked for.
        """
        program = torch.onnx.ONNXProgram(model, self._program.exported_program)
        with _explained(*self._called), _quiet():
            program.optimize()
        graph = program.model.graph
        require_dynamic(graph, self._axes)
        for value in list(graph.initializers.values()):
            value.name = (value.name or "").removeprefix(f"{_Flat.INSIDE}.")
        name_inputs(graph, self._inputs)
        name_by_module(graph, self._paths)
        return program.model


def _exported(flat: nn.Module, named: dict[str, Tensor], axes: dict[str, dict[int, str]]) -> torch.onnx.ONNXProgram:
    dims = {name: torch.export.Dim(name) for one in axes.values() for name in one.values()}
    shapes = (tuple({place: dims[name] for place, name in one.items()} for one in axes.values()),)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            flat, tuple(named.values()), dynamo=True, opset_version=OPSET,
            custom_translation_table=translation() | pooling_ops.translation(), dynamic_shapes=shapes,
            verbose=False, optimize=False,
        )  # fmt: skip
    assert program is not None
    return program


@contextlib.contextmanager
def _explained(model: str, dynamic: Dynamic) -> Iterator[None]:
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise UnsupportedError(
            f"torch.export can't trace this {model}: {reason[0] if reason else type(error).__name__} "
            f"{'' if dynamic == 'none' else 'Try a fixed batch: --dynamic none.'}"
        ) from error


class _Flat(nn.Module):
    """A model as `torch.export` sees it: tensors in, in order, and tensors out; what else it is given is constant.

    It also keeps the names of the model's own modules apart from those of torch's graph, such as `meta`.
    """

    INSIDE = "exported_model"
    """A name that no module of the model begins with, as it is taken off again."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.exported_model, self.training = model, model.training
        given = bound(model, inputs)
        self.leaves, self.layout = tree_flatten((given.args, given.kwargs))

    def forward(self, *tensors: Tensor) -> Any:
        following = iter(tensors)
        leaves = [next(following) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.layout)
        output = self.exported_model(*args, **kwargs)
        return output if isinstance(output, Tensor) else tuple(named_tensors(output).values())


def _first_paths(model: nn.Module) -> dict[str, str]:
    """Returns, for each path at which a module stands in `_Flat`, the first in the model."""
    first = {module: path for path, module in model.named_modules()}
    everywhere = model.named_modules(prefix=_Flat.INSIDE, remove_duplicate=False)
    return {path: first[module] for path, module in everywhere}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
