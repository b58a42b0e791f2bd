"""One pass over the calibration images for all variants of a recipe: each then solves its own ranges."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import nn

from qzoo.build.quantize import plan_quantizers, quantize_in_place
from qzoo.quant.calibration import Collection, activation_quantizers, solve_ranges
from qzoo.schema.recipe import CalibrationSpec
from qzoo.schema.resolve import ResolvedVariant
from qzoo.tasks.calibrate import collect
from qzoo.tasks.images import Images
from qzoo.tasks.progress import Progress


class SharedCalibration:
    """Calibrated models of the variants of one base.

    Calibrating quantizers let everything pass in float, so what they collect does not depend on the variant: variants
    that calibrate on the same images share one collection.

    Args:
        float_model: the base; not changed.
        variants: all that will be asked for; they decide of which tensors a histogram is needed.
        images: from a calibration spec to its images.
        progress: shown the batches.
    """

    def __init__(
        self,
        float_model: nn.Module,
        variants: Sequence[ResolvedVariant],
        images: Callable[[CalibrationSpec], Images],
        progress: Progress,
    ) -> None:
        self.float_model, self.variants = float_model, variants
        self.open_images, self.progress = images, progress
        self.images: list[Images] = []
        self._collections: list[tuple[CalibrationSpec, Collection]] = []

    def calibrated(self, variant: ResolvedVariant) -> nn.Module:
        """Returns a calibrated copy of the base.

        Raises:
            CalibrationError: a quantizer saw nothing, NaN or Inf.
        """
        model = copy.deepcopy(self.float_model)
        quantize_in_place(model, variant)
        solve_ranges(model, self._collection(model, variant))
        return model

    def _collection(self, model: nn.Module, variant: ResolvedVariant) -> Collection:
        needed = set(activation_quantizers(model))
        for spec, collection in self._collections:
            if spec == variant.calibration and needed <= set(collection):
                return collection
        return self._collect(model, variant.calibration)

    def _collect(self, model: nn.Module, spec: CalibrationSpec) -> Collection:
        images, histograms = self.open_images(spec), self._wanted_histograms(spec)
        collection = collect(
            model, images, binning=spec.binning, histograms=histograms, progress=self.progress, count=len(images)
        )
        self.images.append(images)
        self._collections.append((spec, collection))
        return collection

    def _wanted_histograms(self, spec: CalibrationSpec) -> set[str]:
        return {
            f"{planned.module}.{planned.role}_quantizer"
            for variant in self.variants
            if variant.calibration == spec
            for planned in plan_quantizers(self.float_model, variant).quantizers
            if planned.spec.calibrator.collector == "histogram"
        }
