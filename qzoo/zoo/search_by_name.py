"""`qzoo.search`: the best way of quantizing each layer, of a module or of a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.progress import Progress, silent
from qzoo.quant.outputs import Logits
from qzoo.quant.ranges import quantizers
from qzoo.results.search import SearchReport
from qzoo.runtimes.registry import runtime_named
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.search import search_variant
from qzoo.tasks.searching.question import SearchImages, question
from qzoo.zoo.create import create
from qzoo.zoo.latency_tables import is_timed, tabled
from qzoo.zoo.name_lookup import find
from qzoo.zoo.tasks_by_name import images_of, with_rules


@checked
def search(
    model: nn.Module | str | Path,
    images: Any = None,
    labelled: Any = None,
    *,
    max_drop: float | None = None,
    bits: float | None = None,
    size: float | None = None,
    macs_int: float | None = None,
    latency: float | None = None,
    target: str | None = None,
    candidates: Sequence[str] | Mapping[str, Any] | None = None,
    keep: Sequence[str] = (),
    latency_table: str | Path | None = None,
    scheme: str | ResolvedVariant | None = None,
    score_images: int = 128,
    points: int = 6,
    neighbours: int = 12,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    example: Any = None,
    progress: Progress = silent,
) -> SearchReport:
    """Returns how each layer is best quantized under a budget: scored, chosen by an integer programme, and measured.

    Every candidate is put into every group of layers alone, and the divergence of the predictions from the float
    model's is its loss; no labels are needed. An integer programme chooses a candidate for each group, neighbours of
    the choice are tried, and what is left is measured, beside uniform choices and a curve of other budgets.

    Args:
        model: a float module; one that `qzoo.quantize` or `qzoo.create` made, whose rules are the start; or the name
            of a variant. Not changed.
        images: to calibrate and to score on, as for `qzoo.calibrate`. Of a name, default: those of its recipe.
        labelled: to measure on, as for `qzoo.evaluate`; without labels agreement with the float model counts.
        max_drop: points of top-1 that may be lost; the cheapest choice that keeps to it is found.
        bits: the average bits of a weight.
        size: storage, in shares of the float model's.
        macs_int: the least share of multiply-accumulates on integers.
        latency: in shares of the float model's, by a table that is measured in the target's runtime.
        target: `onnxruntime`, `openvino` or `tensorrt`.
        candidates: names such as `w4a8`, `int8_mse`, `float`, or what a rule says by names of one's own; default:
            weights of 2 to 8 bits, and for a target ways to find int8 ranges, and float.
        keep: globs over names of layers that stay as they are.
        latency_table: a file that is taken in place of one that is measured; for TensorRT the only way.
        scheme: for a float module: as for `qzoo.quantize`; default: that of the target.
        score_images: images that losses are computed from.
        points: of the curve.
        neighbours: that are tried in each round; 0: none.
        to_inputs: as for `qzoo.evaluate`.
        logits: as for `qzoo.evaluate`.
        example: an input that the module takes, as for `qzoo.quantize`.
        progress: shown the batches.

    Returns:
        The report: `report.solution`, `report.rules()` for `qzoo.quantize(model, scheme, rules=...)`.

    Raises:
        ArgumentError: there is no budget, or a candidate is none.
        UnsupportedError: no choice keeps to the budget.
        CalibrationError: a quantizer saw nothing, NaN or Inf.
        DataError: there are no images to measure on, or the model gives NaN.

    Example:
        >>> found = search("resnet8_digits_int8", bits=4, candidates=["w8a8", "w2a8"], points=2, neighbours=0)
        >>> found.solution.cost["bits"] <= 4
        True
    """
    runtime = None if target is None else runtime_named(target)
    budget = {"max_drop": max_drop, "bits": bits, "size": size, "macs_int": macs_int, "latency": latency}
    given = None if latency_table is None else Path(latency_table)
    asked = question(
        budget, candidates, runtime, has_latency=is_timed(runtime, given), keep=keep, score_images=score_images,
        points=points, neighbours=neighbours,
    )  # fmt: skip
    if isinstance(model, nn.Module):
        if images is None or labelled is None:
            missing = "images" if images is None else "labelled"
            raise ArgumentError(f"search() got no {missing}; only the name of a variant has images of its own.")
    else:
        named = find(model)
        images, labelled = images_of(named, images, labelled)
        model = create(model, pretrained="float")
    if scheme is None and runtime is not None and not quantizers(model):
        scheme = runtime.scheme
    float_model, variant = with_rules(model, scheme, "search")
    looked_at = SearchImages(images, labelled, to_inputs=to_inputs, logits=logits, example=example)
    table = tabled(runtime, given, example, progress) if runtime and asked.needs_latency else None
    return search_variant(float_model, variant, looked_at, asked, target=runtime, tabled=table, progress=progress)
