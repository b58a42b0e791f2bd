"""Which layers suffer from quantization: each quantized alone, and each left out alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError, DataError
from qzoo.models.provenance import provenance
from qzoo.progress import Progress, silent
from qzoo.quant.eval_mode import device_of
from qzoo.quant.outputs import Logits
from qzoo.quant.quantizer import State
from qzoo.quant.ranges import require_calibrated, require_quantizers
from qzoo.results.sensitivity import Excluded, LayerSensitivity, SensitivityReport
from qzoo.tasks.inputs.batches import Batch, ToInputs, as_batches
from qzoo.tasks.measuring.deviation import Tally, gained, noise_of
from qzoo.tasks.measuring.quantizer_groups import QuantizerGroup, quantizer_groups, with_equal_rules
from qzoo.tasks.measuring.replay import Replay
from qzoo.tasks.measuring.running import Runner, checked_logits, measuring

Way = tuple[str, str]
"""Which way of quantizing: `("float", "")`, `("quantized", "")`, `("alone", layer)`, `("left out", layer)`."""
Ways = Callable[[Any], Iterator[tuple[Way, Any]]]
"""Yields what the model makes of a batch for each way, float first."""
FLOAT, QUANTIZED = ("float", ""), ("quantized", "")


@checked
def sensitivity(
    model: nn.Module,
    images: Any,
    *,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    mend: int = 3,
    progress: Progress = silent,
    count: int | None = None,
) -> SensitivityReport:
    """Returns what quantizing each layer does to the model: alone, and when all others are quantized.

    A layer has all its quantizers switched together; a quantizer that belongs to no layer, such as that of a residual
    addition, counts as one. Nothing is rebuilt or calibrated, and what runs before a layer is not computed again.

    Args:
        model: calibrated; afterwards its quantizers are in the state they were in. Those that are off stay off.
            `qzoo.sensitivity` takes the name of a variant too, and then, without images, those of its recipe.
        images: batches, transformed: `x`, `(x, y)`, `((x, x2), y)` or a dict, see docs/batches.md. A batch's
            activations are kept: 8 large images, or 250 small ones, stay below 1 GB.
        to_inputs: a function that makes such a batch of an item of `images`, whatever it is.
        logits: which of the model's outputs they are: the name of one, or a function that makes them of the output.
            Default: the only one, or that called `logits`.
        mend: how many of the worst layers to leave out together, one after the other; this takes a second pass over
            the images. 0: none.
        progress: shown the batches.
        count: how many images there are, for the progress.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are none that are on.
        DataError: there are no images, the model gives NaN, or the images can be gone through only once.

    Example:
        >>> qzoo.sensitivity("resnet8_digits_w4a4", images).layers[0].name
        'linear'
    """
    # What dynamo compiled does not tell whose forward runs.
    model = getattr(model, "_orig_mod", model)
    require_quantizers(model)
    if mend < 0:
        raise ArgumentError(f"sensitivity() got mend={mend}; expected 0 or more: layers to leave out together.")
    if mend and isinstance(images, Iterator):
        raise DataError(
            f"The images are {type(images).__name__}, which can be gone through once; leaving out the {mend} worst "
            "layers together takes a second pass. Give a list, or say mend=0."
        )
    start = time.perf_counter()
    with measuring(model):
        require_calibrated(model, "measure its sensitivity")
        analysis = _Analysis(model, lambda: as_batches(images, device_of(model), to_inputs), logits, progress, count)
        tallies = analysis.measure()
        layers = ranked([_layer(group, tallies) for group in analysis.groups])
        excluded = analysis.exclude([layer.name for layer in layers[:mend]], tallies)
    return SensitivityReport(
        name=_name(model),
        images=tallies[FLOAT].images,
        float_top1=tallies[FLOAT].top1,
        quantized=tallies[QUANTIZED].deviation(),
        layers=layers,
        mended=excluded,
        seconds=round(time.perf_counter() - start, 2),
    )


def ranked(layers: Sequence[LayerSensitivity]) -> list[LayerSensitivity]:
    """Returns the layers, worst noise alone first, with both ranks set."""
    by_noise = sorted(layers, key=lambda layer: noise_of(layer.alone))
    by_drop = sorted(by_noise, key=lambda layer: (-(layer.drop or 0.0), -layer.alone.flips))
    ranks = {layer.name: rank for rank, layer in enumerate(by_drop, 1)}
    return [
        layer.model_copy(update={"rank_by_sqnr": rank, "rank_by_drop": ranks[layer.name]})
        for rank, layer in enumerate(by_noise, 1)
    ]


class _Analysis:
    def __init__(
        self, model: nn.Module, batches: Callable[[], Iterator[Batch]], logits: Logits, progress: Progress,
        count: int | None,
    ) -> None:  # fmt: skip
        self.model, self.batches, self.logits, self.progress, self.count = model, batches, logits, progress, count
        self.groups = quantizer_groups(model)
        self.replay = Replay(model)

    def measure(self) -> dict[Way, Tally]:
        """Returns a tally for each way of quantizing, float first."""
        return self._tallied(self._single, 2 * len(self.groups) + 2, "one layer at a time")

    def exclude(self, worst: list[str], tallies: dict[Way, Tally]) -> list[Excluded]:
        """Returns what leaving out the worst, the worst two ... brings."""
        prefixes = [worst[:n] for n in range(1, len(worst) + 1)]
        if not prefixes:
            return []
        found = self._tallied(lambda x: self._together(x, prefixes), len(prefixes) + 2, "the worst left out")
        before = tallies[QUANTIZED].top1
        made = [found["together", " ".join(names)] for names in prefixes]
        return [
            Excluded(layers=names, deviation=tally.deviation(), gain=gained(before, tally.top1))
            for names, tally in zip(prefixes, made, strict=True)
        ]

    def _tallied(self, runs: Ways, runs_per_batch: int, what: str) -> dict[Way, Tally]:
        tallies: dict[Way, Tally] = {}
        reference = torch.empty(0)
        total = None if self.count is None else self.count * runs_per_batch
        with self.replay.installed():
            for logits, labels, run in self.progress(self._outputs(runs), total, what):
                reference = logits if run == FLOAT else reference
                tallies.setdefault(run, Tally()).add(logits, labels, reference)
        if not tallies:
            raise DataError("There are no images to measure sensitivity on.")
        return tallies

    def _outputs(self, runs: Ways) -> Iterator[tuple[Tensor, Tensor | None, Way]]:
        runner = Runner(self.model)
        for batch in self.batches():
            with runner.blaming(batch):
                for run, output in runs(batch.inputs):
                    yield checked_logits(output, batch, self.logits), batch.labels, run

    def _single(self, x: Any) -> Iterator[tuple[Way, Any]]:
        yield FLOAT, self._record(x, "off")
        for group in self.groups:
            yield ("alone", group.name), self._rerun(x, [group], "quantizing")
        yield QUANTIZED, self._record(x, "quantizing")
        for group in self.groups:
            yield ("left out", group.name), self._rerun(x, [group], "off")

    def _together(self, x: Any, prefixes: list[list[str]]) -> Iterator[tuple[Way, Any]]:
        yield FLOAT, self._record(x, "off")
        yield QUANTIZED, self._record(x, "quantizing")
        for names in prefixes:
            chosen = with_equal_rules([group for group in self.groups if group.name in names], self.groups)
            yield ("together", " ".join(names)), self._rerun(x, chosen, "off")

    def _record(self, x: Any, state: State) -> Any:
        for group in self.groups:
            group.switch(state)
        return self.replay.record(x)

    def _rerun(self, x: Any, groups: list[QuantizerGroup], state: State) -> Any:
        before = groups[0].quantizers[0].state
        for group in groups:
            group.switch(state)
        output = self.replay.rerun(x, {group.module for group in groups})
        for group in groups:
            group.switch(before)
        return output


def _layer(group: QuantizerGroup, tallies: dict[Way, Tally]) -> LayerSensitivity:
    alone, left_out = tallies["alone", group.name], tallies["left out", group.name]
    return LayerSensitivity(
        name=group.name,
        alone=alone.deviation(),
        left_out=left_out.deviation(),
        drop=gained(alone.top1, tallies[FLOAT].top1),
        gain=gained(tallies[QUANTIZED].top1, left_out.top1),
        rank_by_sqnr=0,
        rank_by_drop=0,
        rule=group.rule,
    )


def _name(model: nn.Module) -> str:
    made = provenance(model)
    return made.variant.name if made and made.variant else type(model).__name__
