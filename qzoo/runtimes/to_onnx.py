"""A fake-quantized model as an ONNX graph: `torch.onnx`, then what the runtime needs besides."""

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
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import batch_size, with_images
from qzoo.quant.outputs import named_tensors
from qzoo.quant.ranges import quantizers, require_calibrated, require_quantizers
from qzoo.quant.weights import show_computed_weights
from qzoo.results.export import Dynamic, Rest
from qzoo.runtimes import pooling_ops
from qzoo.runtimes.graph import make_names_unique, name_by_module, remove_unread
from qzoo.runtimes.named_inputs import bound, dynamic_axes, name_inputs, named_inputs, require_dynamic
from qzoo.runtimes.named_outputs import name_outputs, names_of_outputs
from qzoo.runtimes.passes.einsum_products import einsums_to_products
from qzoo.runtimes.passes.float16_rest import to_half
from qzoo.runtimes.passes.fold_batch_norm import fold_batch_norms
from qzoo.runtimes.passes.moved_weight import store_as_read
from qzoo.runtimes.passes.padded_averages import averages_to_convolutions, pad_before_overhanging
from qzoo.runtimes.passes.usable_scales import make_scales_usable, share_quantizers
from qzoo.runtimes.quant_ops import exportable, stored_grid, translation
from qzoo.runtimes.runtime import Runtime, require

MOST_NAMED = 5
"""The quantizers that a message names."""
OPSET = 21
"""The opset of all exports: the first that has every type a quantizer may store."""


def to_onnx(
    model: nn.Module, example: Any, runtime: Runtime, *, dynamic: Dynamic = "batch", rest: Rest = "fp32"
) -> ir.Model:
    """Returns the graph of a calibrated model for a runtime.

    Args:
        model: calibrated, on the CPU; not changed.
        example: an image `(1, C, H, W)`, float32; of a model of several inputs a tuple of its arguments, or a dict of
            them by name. Of floats the values do not matter.
        runtime: decides about batch norm and the type of stored activations.
        dynamic: what of the inputs may be of any size, see `dynamic_axes`; all else has the size of the example.
        rest: what is not quantized is computed in float32, or in float16.

    Raises:
        NotCalibratedError: a quantizer has no range; it is named.
        UnsupportedError: `torch.export` can't trace the model, or it is made for one size where any was asked for; or
            the runtime gains nothing by float16, or takes no zero points, which the quantizers have that are named.
    """
    require("onnxscript")
    require_quantizers(model)
    require_calibrated(model, f"export for {runtime.title}")
    if runtime.symmetric:
        _require_symmetric(model, runtime)
    show_computed_weights(model, lambda: example)
    stands = exportable(model, shifted=runtime.shifted)
    if rest == "fp16":
        if not runtime.half:
            raise UnsupportedError(f"{runtime.title} on CPUs gains nothing by float16: leave out --rest fp16.")
        to_half(stands)
    graph_model, names = _traced(stands, example, dynamic)
    graph = graph_model.graph
    einsums_to_products(graph)
    store_as_read(graph)
    pad_before_overhanging(graph)
    if not runtime.pads_zero_points:
        averages_to_convolutions(graph)
    if runtime.folds:
        fold_batch_norms(graph, unsigned=runtime.weight_zero_points)
    share_quantizers(graph)
    make_scales_usable(graph)
    remove_unread(graph)
    name_outputs(graph, names)
    make_names_unique(graph)
    return graph_model


def _require_symmetric(model: nn.Module, runtime: Runtime) -> None:
    """Refuses zero points for a runtime that takes none; those in the middle are as good as none, see `stored_grid`."""
    used = {path: one for path, one in quantizers(model).items() if one.state == "quantizing"}
    shifted = [path for path, one in used.items() if stored_grid(one)[1] is not None]
    if shifted:
        named = ", ".join(shifted[:MOST_NAMED]) + (", ..." if len(shifted) > MOST_NAMED else "")
        raise UnsupportedError(
            f"{runtime.title} takes no zero points. Of this model {len(shifted)} of {len(used)} quantizers have one: "
            f"{named}. Say `symmetric: true` of them, in a variant or rule, and calibrate; or adapt the model: "
            "--adapt, in Python adapt_on=images."
        )


def float_to_onnx(model: nn.Module, example: Any) -> ir.Model:
    """Returns the graph of a float model, with dynamic batches: what a quantized one is timed against.

    Args:
        model: on the CPU; not changed.
        example: as for `to_onnx`.

    Raises:
        UnsupportedError: `torch.export` can't trace the model.
    """
    require("onnxscript")
    with evaluation_mode(model):
        traced, names = _traced(model, example, "batch")
    name_outputs(traced.graph, names)
    make_names_unique(traced.graph)
    return traced


def _traced(model: nn.Module, example: Any, dynamic: Dynamic) -> tuple[ir.Model, list[str]]:
    """Returns the graph, its inputs named, and the names that its outputs are to have."""
    # A batch of one would be traced as a constant.
    inputs = with_images(example, 2) if dynamic != "none" and batch_size(example) < 2 else example
    named = named_inputs(model, inputs)
    axes = dynamic_axes(named, dynamic)
    dims = {name: torch.export.Dim(name) for one in axes.values() for name in one.values()}
    shapes = (tuple({place: dims[name] for place, name in one.items()} for one in axes.values()),)
    try:
        names = names_of_outputs(model, inputs)
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Flat(model, inputs), tuple(named.values()), dynamo=True, opset_version=OPSET,
                custom_translation_table=translation() | pooling_ops.translation(), dynamic_shapes=shapes,
                verbose=False,
            )  # fmt: skip
    except UnsupportedError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise UnsupportedError(
            f"torch.export can't trace this {type(model).__name__}: {reason[0] if reason else type(error).__name__} "
            f"{'' if dynamic == 'none' else 'Try a fixed batch: --dynamic none.'}"
        ) from error
    assert program is not None
    graph = program.model.graph
    require_dynamic(graph, axes)
    for value in list(graph.initializers.values()):
        value.name = (value.name or "").removeprefix(f"{_Flat.INSIDE}.")
    name_inputs(graph, [*named])
    name_by_module(graph, _first_paths(model))
    return program.model, names


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
