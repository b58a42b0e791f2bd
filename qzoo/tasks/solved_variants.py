"""Calibrated models of several variants of one float model, from one pass over the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from qzoo.models.example import runnable_example
from qzoo.models.provenance import Provenance, provenance, remember
from qzoo.models.quantize import carry_out
from qzoo.models.select_layers import plan_quantizers
from qzoo.models.survey import survey
from qzoo.progress import Progress
from qzoo.quant.calibration.collecting import Collection, solve_ranges
from qzoo.quant.derived import copy_model
from qzoo.quant.weights import show_computed_weights
from qzoo.schema.resolution.plan import Plan
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.calibrate import collect
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.optimize import optimize
from qzoo.tasks.shared_collection import collect_once


class SolvedVariants:
    """Variants that differ in what their rules say of quantizers, and are calibrated on the same images.

    Args:
        float_model: not changed.
        variants: all that the images have to serve; every other one whose tensors these watch can be made too.
        images: batches, as for `qzoo.calibrate`; gone through once, and again for each variant that is optimized.
        to_inputs: as for `qzoo.calibrate`.
        example: an input, to find operators with; default: of the likely size.
        progress: shown the batches.
        count: how many images there are, if known.

    Raises:
        CalibrationError: a quantizer saw nothing, NaN or Inf.
        RuleError: a rule matches nothing.
    """

    def __init__(
        self, float_model: nn.Module, variants: Iterable[ResolvedVariant], images: Any, *, to_inputs: ToInputs = None,
        example: Any = None, progress: Progress, count: int | None = None,
    ) -> None:  # fmt: skip
        self.float_model, self.example = float_model, example
        self._images, self._to_inputs, self._progress = images, to_inputs, progress
        self.seen = survey(float_model, example)
        wanted = list(variants)
        binning = wanted[0].calibration.binning

        def collect_all(model: nn.Module, histograms: set[str], two_sided: set[str]) -> Collection:
            return collect(
                model, images, to_inputs=to_inputs, binning=binning, histograms=histograms, two_sided=two_sided,
                progress=progress, count=count,
            )  # fmt: skip

        self._collection = collect_once(float_model, [self.plan(one) for one in wanted], collect_all)

    def plan(self, variant: ResolvedVariant) -> Plan:
        """Returns the quantizers that a variant's rules give the model."""
        return plan_quantizers(self.float_model, variant, self.example, seen=self.seen)

    def model(self, variant: ResolvedVariant) -> nn.Module:
        """Returns a copy of the float model, calibrated, and optimized where the variant says so."""
        model = copy_model(self.float_model)
        carry_out(model, self.plan(variant))
        remember(model, replace(provenance(model) or Provenance(), variant=variant))
        if variant.optimize is None or not variant.optimize.moves_ranges:
            self.solve(model)
        if variant.optimize is not None:
            optimize(model, self._images, variant.optimize, to_inputs=self._to_inputs, progress=self._progress)
        return model

    def solve(self, model: nn.Module) -> None:
        """Gives a quantized copy of the float model its ranges, in place."""
        show_computed_weights(
            model, lambda: runnable_example(self.float_model) if self.example is None else self.example
        )
        solve_ranges(model, self._collection)
