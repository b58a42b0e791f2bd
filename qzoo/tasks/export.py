"""Exporting a calibrated module to ONNX: for a runtime, held against its rules, and compared with the module."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from qzoo.arguments import checked
from qzoo.errors import DataError, UnsupportedError
from qzoo.files import replacing
from qzoo.models.bases import variant_name
from qzoo.models.example import runnable_example
from qzoo.progress import Progress, phase, silent
from qzoo.quant.derived import copy_model
from qzoo.quant.inputs import batch_size, run, tensors, to_device, with_images
from qzoo.quant.outputs import chosen, named_tensors
from qzoo.quant.ranges import require_calibrated, require_quantizers
from qzoo.results.export import LEAST_AGREEMENT, Dynamic, ExportReport, Parity, Rest
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.runtime import EXPORTING, require
from qzoo.tasks.adapt import runnable_model
from qzoo.tasks.inputs.batches import Batch, ToInputs, as_batches
from qzoo.tasks.measuring.machine import environment
from qzoo.tasks.measuring.running import Runner, measuring


def fault_of(parity: Parity, title: str) -> str | None:
    """Returns what is wrong, or None.

    Args:
        parity: the comparison.
        title: the runtime, as people call it.
    """
    if parity.first_diverging:
        return _diverging(parity, title)
    if not parity.beyond:
        return None
    if parity.overflows:
        return f"{_off(parity, title)} {_overflowing(parity)}"
    if parity.agreement_plain >= LEAST_AGREEMENT and parity.own_runtime:
        return f"{_off(parity, title)} Without optimizations the graph is right, so the runtime's are at fault."
    return f"{_off(parity, title)} The graph is off without optimizations too: report it to qzoo, with the recipe."


def _diverging(parity: Parity, title: str) -> str:
    node = next((one for one in parity.nodes if one.node == parity.first_diverging), None)
    if node is None:
        return (
            f"The {parity.first_diverging} are wrong though the last layers are fed rightly: the graph is wrong there."
        )
    if node.alone > 1:
        return f"{node.node} is {node.alone} steps off though it is fed rightly: the graph is wrong."
    return (
        f"{node.node} is {node.optimized_alone} steps off though it is fed rightly, once {title} optimizes the graph; "
        "without optimizations it is right. The layer before it holds what the integer kernel can't compute with, such "
        "as a bias beyond 2^31 steps of input times weight."
    )


def _off(parity: Parity, title: str) -> str:
    logits = f"logits are off by {parity.logit_difference:.2g} of {parity.largest_logit:.3g}"
    limit = "" if parity.logit_limit is None else f", beyond {parity.logit_limit:.2g}"
    if parity.agreement >= LEAST_AGREEMENT:
        return f"{title}'s {logits}{limit}."
    if parity.agreement_plain >= LEAST_AGREEMENT and parity.own_runtime:
        changed = f"{title}'s own optimizations change {100 - parity.agreement:.1f} % of the predictions of this graph"
    else:
        changed = f"{title} predicts otherwise for {100 - parity.agreement:.1f} % of the images"
    return f"{changed}; {logits}{limit}."


def _overflowing(parity: Parity) -> str:
    first = f", first at {parity.first_overflowing}" if parity.first_overflowing else ""
    return (
        f"Sums of products of 8-bit weights overflow 16 bits on this CPU, which has no VNNI{first}: with weights of 7 "
        f"bits they are off by {parity.seven_bit_difference:.2g}. Export with --reduce-range, in Python "
        "reduce_range=True; or run this file on CPUs with VNNI, for which it is right."
    )


@checked
def export(
    model: nn.Module,
    path: str | Path,
    runtime: str = "onnxruntime",
    *,
    images: Any = None,
    to_inputs: ToInputs = None,
    logits: str | None = None,
    example: Any = None,
    dynamic: Dynamic = "batch",
    adapt_on: Any = None,
    reduce_range: bool = False,
    rest: Rest = "fp32",
    int4: bool = False,
    progress: Progress = silent,
) -> ExportReport:
    """Writes a calibrated model as an ONNX file with explicit quantization, and holds it against rules and model.

    Each quantizer becomes one QuantizeLinear/DequantizeLinear pair of exactly its scale; weights are stored as the
    integers that they are. What else a runtime needs, such as batch norm folded into the weights, is done without
    rounding anew.

    Each tensor that the model is given is an input of the file, under the name of its argument (one alone is called
    `images`), and each that it gives is an output, under its own name.

    Where the file is run on a CPU without VNNI, integer kernels of ONNX Runtime and OpenVINO may overflow: of this CPU
    it is warned before, and what they compute then is a fault of the report.

    Args:
        model: calibrated, on any device; not changed. `qzoo.export` takes the name of a variant too.
        path: the path of the ONNX file; replaced in one step.
        runtime: `tensorrt`, `onnxruntime` or `openvino`.
        images: batches, transformed: `x`, `(x, y)`, `((x, x2), y)` or a dict, see docs/batches.md, on which the runtime
            is compared with the model; default: it is not.
        to_inputs: a function that makes such a batch of an item of `images`, and of `adapt_on`, whatever it is.
        logits: the name of the output that the runtime is compared by; default: that called `logits`, or the first.
        example: what the model is called with: an image `(1, C, H, W)`, a tuple of arguments, or a dict of them by
            name; default: the first of `images`, or an image of the size that the model is made for.
        dynamic: what of the inputs may be of any size: `batch`: how many images; `size`: their height and width too,
            and those of masks; `none`: nothing, all have the size of `example`.
        adapt_on: images to adapt the model to the runtime on, see `qzoo.tasks.adapt`; what is written, and compared,
            is then the adapted one. Default: the model is exported as it is.
        reduce_range: with `adapt_on`: weights of 7 bits, for CPUs without VNNI.
        rest: `fp16`: what is not quantized is computed in float16, scales included; for `tensorrt`.
        int4: store weights of 4 bits and fewer in 4, not in 8: a smaller file, computed in float by CPU runtimes.
        progress: shown the batches.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are none.
        UnsupportedError: the packages of `qzoo[export]` are missing, torch can't trace the model, or it is made for one
            size where any was asked for.
        UnknownNameError: there is no such runtime.
        DataError: `images` holds none, or the model has no output `logits`.

    Example:
        >>> report = qzoo.export("resnet8_digits_int8", "model.onnx", "onnxruntime", adapt_on=images)
        >>> [finding for finding in report.findings if finding.level == "error"]
        []
    """
    started, target = time.perf_counter(), runtime_named(runtime)
    with phase(progress, "loading onnxscript"):
        require("onnxscript")
        import onnx_ir as ir

        from qzoo.runtimes.lint import lint
        from qzoo.runtimes.parity import IMAGES_A_TIME, measure_parity
        from qzoo.runtimes.passes.stored_weight import store_in_four_bits
        from qzoo.runtimes.to_onnx import to_onnx
        from qzoo.runtimes.traced import OPSET

    with measuring(model):
        model = _on_the_cpu(model)
        example = None if example is None else _in_float32(to_device(example, torch.device("cpu")))
        model = runnable_model(
            model, target, adapt_on, to_inputs=to_inputs, reduce_range=reduce_range, example=example, progress=progress
        )
        compared = None if images is None else _Compared(images, to_inputs, model)
        inputs = _example(model, example, compared)
        with phase(progress, "exporting to ONNX"):
            graph = to_onnx(model, inputs, target, dynamic=dynamic, rest=rest)
        output = chosen(named_tensors(run(model, inputs)), logits)
        if int4 and not store_in_four_bits(graph.graph):
            raise UnsupportedError(f"{variant_name(model) or 'This model'} has no weights of 4 bits: leave out --int4.")
        _write(graph, Path(path), ir.save)
        found = lint(graph, target)
        parity = None
        if compared is not None:
            parity = measure_parity(
                model, Path(path), target, progress(compared, None, "comparing"), output=output,
                images_a_time=batch_size(inputs) if dynamic == "none" else IMAGES_A_TIME, progress=progress,
            )  # fmt: skip
        return ExportReport(
            name=variant_name(model),
            runtime=runtime,
            file=str(path),
            opset=OPSET,
            bytes=Path(path).stat().st_size,
            float_bytes=4 * sum(value.numel() for value in _float_tensors(model)),
            layers=found.layers,
            quantized_layers=found.quantized,
            findings=found.findings,
            parity=parity,
            fault=None if parity is None else fault_of(parity, target.title),
            seconds=round(time.perf_counter() - started, 1),
            environment={**environment("cpu"), **versions()},
        )


class _Compared:
    """Images to compare on, which the model runs on; the first batch is looked at before."""

    def __init__(self, images: Any, to_inputs: ToInputs, model: nn.Module) -> None:
        self.runner = Runner(model)
        self.shapes: list[Any] = []
        self.batches = (self._checked(batch) for batch in as_batches(images, torch.device("cpu"), to_inputs))
        first = next(self.batches, None)
        if first is None:
            raise DataError("There is no image to compare on. Give at least one, or leave out images=.")
        self.first = first

    def __iter__(self) -> Iterator[Any]:
        return chain([self.first], self.batches)

    def _checked(self, batch: Batch) -> Any:
        inputs = _in_float32(batch.inputs)
        shapes = [tensor.shape[1:] for tensor in tensors(inputs)]
        if shapes not in self.shapes:
            self.runner(batch._replace(inputs=inputs))
            self.shapes.append(shapes)
        return inputs


def _example(model: nn.Module, example: Any, compared: _Compared | None) -> Any:
    if example is not None or compared is None:
        return runnable_example(model) if example is None else example
    return with_images(compared.first, 1)


def _in_float32(inputs: Any) -> Any:
    return tree_map(
        lambda leaf: leaf.float() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs
    )


def _on_the_cpu(model: nn.Module) -> nn.Module:
    """Returns a calibrated model itself; or, of one elsewhere or in another type, a copy on the CPU in float32."""
    require_quantizers(model)
    require_calibrated(model, "export")
    kinds = {(p.device.type, p.dtype) for p in model.parameters()}
    return model if kinds <= {("cpu", torch.float32)} else copy_model(model).cpu().float()


def _write(graph: Any, path: Path, save: Any) -> None:
    with replacing(path) as unfinished:
        save(graph, unfinished)


def _float_tensors(model: nn.Module) -> Iterable[Tensor]:
    # Ranges are no part of the float model.
    return [value for key, value in model.state_dict().items() if "_quantizer." not in key]


def versions() -> dict[str, str]:
    """Returns the versions of the packages that export and run, as they stand in a report."""
    found = {}
    for package in (*EXPORTING, *(one.package for one in RUNTIMES.values())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
