"""A fake-quantized model as an ONNX graph: `torch.onnx`, then what the runtime needs besides."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.ranges import quantizers, require_calibrated, require_quantizers
from qzoo.quant.weights import show_computed_weights
from qzoo.results.export import Dynamic, Rest
from qzoo.runtimes.graph import make_names_unique, remove_unread
from qzoo.runtimes.named_outputs import name_outputs
from qzoo.runtimes.passes.einsum_products import einsums_to_products
from qzoo.runtimes.passes.float16_rest import to_half
from qzoo.runtimes.passes.fold_batch_norm import fold_batch_norms
from qzoo.runtimes.passes.moved_weight import store_as_read
from qzoo.runtimes.passes.padded_averages import averages_to_convolutions, pad_before_overhanging
from qzoo.runtimes.passes.usable_scales import make_scales_usable, share_quantizers
from qzoo.runtimes.quant_ops import exportable, stored_grid
from qzoo.runtimes.runtime import Runtime, require
from qzoo.runtimes.traced import TracedModel

MOST_NAMED = 5
"""The quantizers that a message names."""


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
    traced = traced_for(model, example, runtime, dynamic=dynamic, rest=rest)
    return finished(traced.optimized(traced.model), runtime, traced.outputs)


def traced_for(
    model: nn.Module, example: Any, runtime: Runtime, *, dynamic: Dynamic = "batch", rest: Rest = "fp32"
) -> TracedModel:
    """Returns a calibrated model, traced with the types that a runtime takes; arguments and errors are `to_onnx`'s."""
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
    return TracedModel(stands, example, dynamic)


def finished(graph_model: ir.Model, runtime: Runtime, outputs: list[str]) -> ir.Model:
    """Returns a graph with what a runtime needs besides, changed in place.

    Args:
        graph_model: as the exporter optimized it, named by module.
        runtime: as for `to_onnx`.
        outputs: the names that its outputs are to have.
    """
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
    name_outputs(graph, outputs)
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
        traced = TracedModel(model, example, "batch")
    graph_model = traced.optimized(traced.model)
    name_outputs(graph_model.graph, traced.outputs)
    make_names_unique(graph_model.graph)
    return graph_model
