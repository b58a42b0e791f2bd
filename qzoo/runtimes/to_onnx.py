"""A fake-quantized model as an ONNX graph: `torch.onnx`, then what the runtime needs besides."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.ranges import require_calibrated, require_quantizers
from qzoo.results.export import Rest
from qzoo.runtimes.graph import make_names_unique, name_by_module, remove_unread
from qzoo.runtimes.named_outputs import flat_outputs, name_outputs, names_of_outputs
from qzoo.runtimes.passes.float16_rest import to_half
from qzoo.runtimes.passes.fold_batch_norm import fold_batch_norms
from qzoo.runtimes.passes.moved_weight import store_as_read
from qzoo.runtimes.passes.usable_scales import make_scales_usable, share_quantizers
from qzoo.runtimes.quant_ops import exportable, translation
from qzoo.runtimes.runtime import Runtime, require

OPSET = 21
"""The opset of all exports: the first that has every type a quantizer may store."""
INPUT = "images"
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def to_onnx(
    model: nn.Module, example: Tensor, runtime: Runtime, *, dynamic: bool = True, rest: Rest = "fp32"
) -> ir.Model:
    """Returns the graph of a calibrated model for a runtime.

    Args:
        model: calibrated, on the CPU; not changed.
        example: an image `(1, C, H, W)`, float32; its values do not matter.
        runtime: decides about batch norm and the type of stored activations.
        dynamic: the graph takes batches of any size; if not, of one image.
        rest: what is not quantized is computed in float32, or in float16.

    Raises:
        NotCalibratedError: a quantizer has no range; it is named.
        UnsupportedError: `torch.export` can't trace the model, or the runtime gains nothing by float16.
    """
    require("onnxscript")
    require_quantizers(model)
    require_calibrated(model, f"export for {runtime.title}")
    require_one_input(model, example)
    stands = exportable(model, shifted=runtime.shifted)
    if rest == "fp16":
        if not runtime.half:
            raise UnsupportedError(f"{runtime.title} on CPUs gains nothing by float16: leave out --rest fp16.")
        to_half(stands)
    graph_model, names = _traced(stands, example, dynamic)
    graph = graph_model.graph
    name_by_module(graph, _first_paths(stands))
    store_as_read(graph)
    if runtime.folds:
        fold_batch_norms(graph)
    share_quantizers(graph)
    make_scales_usable(graph)
    remove_unread(graph)
    name_outputs(graph, names)
    make_names_unique(graph)
    return graph_model


def float_to_onnx(model: nn.Module, example: Tensor) -> ir.Model:
    """Returns the graph of a float model, with dynamic batches: what a quantized one is timed against.

    Args:
        model: on the CPU; not changed.
        example: an image `(1, C, H, W)`, float32.

    Raises:
        UnsupportedError: `torch.export` can't trace the model.
    """
    require("onnxscript")
    require_one_input(model, example)
    with evaluation_mode(model):
        traced, names = _traced(model, example, dynamic=True)
    name_by_module(traced.graph, _first_paths(model))
    name_outputs(traced.graph, names)
    make_names_unique(traced.graph)
    return traced


def _traced(model: nn.Module, example: Tensor, dynamic: bool) -> tuple[ir.Model, list[str]]:
    """Returns the graph, and the names that its outputs are to have."""
    # A batch of one would be traced as a constant.
    images = torch.cat([example, example]) if dynamic else example
    shapes = _batch_of_any_size(model) if dynamic else None
    try:
        names = names_of_outputs(model, images)
        with _quiet(), flat_outputs(model), torch.no_grad():
            program = torch.onnx.export(
                model, (images,), dynamo=True, opset_version=OPSET, custom_translation_table=translation(),
                dynamic_shapes=shapes, input_names=[INPUT], verbose=False,
            )  # fmt: skip
    except UnsupportedError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise UnsupportedError(
            f"torch.export can't trace this {type(model).__name__}: {reason[0] if reason else type(error).__name__} "
            f"{'Try a fixed batch: --static.' if dynamic else ''}"
        ) from error
    assert program is not None
    return program.model, names


def _first_paths(model: nn.Module) -> dict[str, str]:
    """Returns, for each path at which a module stands, the first."""
    first = {module: path for path, module in model.named_modules()}
    return {path: first[module] for path, module in model.named_modules(remove_duplicate=False)}


def require_one_input(model: nn.Module, example: Any) -> None:
    """Refuses a model that takes more than images, and an example that is more.

    Raises:
        UnsupportedError: says what the model takes, or what the example is.
    """
    if example is not None and not isinstance(example, Tensor):
        raise UnsupportedError(f"The example is {type(example).__name__}; an export takes one tensor of images.")
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [one.name for one in parameters if one.default is one.empty and one.kind not in _OPEN]
    if len(needed) > 1:
        raise UnsupportedError(
            f"This {type(model).__name__} takes {len(needed)} inputs: {', '.join(needed)}. qzoo exports models of one, "
            "images. Give the others a default, or wrap the model in a module whose forward takes images alone."
        )


def _batch_of_any_size(model: nn.Module) -> Any:
    images = {0: torch.export.Dim("batch")}
    first = next(iter(inspect.signature(model.forward).parameters.values()))
    # torch.export wants it as the forward takes it: of `*args`, a tuple.
    return ((images,),) if first.kind is inspect.Parameter.VAR_POSITIONAL else (images,)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
