"""One pass over the calibration images for all variants of a recipe: each then solves its own ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from qzoo.commands.settings import Settings, usable_device
from qzoo.models.bases import create_base
from qzoo.models.example import runnable_example
from qzoo.models.provenance import note_ranges_from
from qzoo.models.quantize import quantize_in_place
from qzoo.models.select_layers import plan_quantizers
from qzoo.models.survey import survey
from qzoo.progress import Progress, phase
from qzoo.quant.calibration.collecting import Collection, activation_quantizers, solve_ranges
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.derived import copy_model
from qzoo.quant.weights import show_computed_weights
from qzoo.schema.calibration import CalibrationSpec
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.calibrate import collect_images
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.shared_collection import collect_once
from qzoo.zoo.pretrained import check_hub_model, warn_of_unpinned
from qzoo.zoo.zoo_model import ZooModel


@dataclass(frozen=True)
class _Pass:
    """One pass over the images of one calibration spec."""

    spec: CalibrationSpec
    images: Images
    collection: Collection


class SharedCalibration:
    """Calibrated models of the variants of one base.

    Variants that calibrate on the same images share one collection, see `collect_once`.

    Args:
        float_model: the base; not changed.
        variants: all that will be asked for; they decide of which tensors a histogram is needed.
        settings: what the run changes of what the recipe says.
        progress: shown the batches.
        keep_histograms: collect a histogram of every tensor, not only where a calibrator needs one.
    """

    def __init__(
        self, float_model: nn.Module, variants: Sequence[ResolvedVariant], settings: Settings, progress: Progress,
        *, keep_histograms: bool = False,
    ) -> None:  # fmt: skip
        self.float_model, self.variants = float_model, variants
        self.settings, self.progress = settings, progress
        self.keep_histograms = keep_histograms
        # Opened now, so that a mistake in the data is told before anything long has run.
        self._images = {variant.calibration: self._open(variant) for variant in variants}
        # So is a rule that does not fit the model.
        with phase(progress, "looking for what to quantize"):
            self._seen = survey(float_model)
            self._plans = {one.name: plan_quantizers(float_model, one, seen=self._seen) for one in variants}
        self._passes: list[_Pass] = []

    @property
    def images(self) -> list[Images]:
        """The images of each way in which variants are calibrated."""
        return list(self._images.values())

    @property
    def as_recipes_say(self) -> bool:
        """Whether each variant sees the images that its recipe wants, and as it wants them."""
        return all(_as_said(spec, images) for spec, images in self._images.items())

    def calibrated(self, variant: ResolvedVariant) -> tuple[nn.Module, Images]:
        """Returns a calibrated copy of the base, and the images it was calibrated on.

        Raises:
            CalibrationError: a quantizer saw nothing, NaN or Inf.
        """
        model = self.quantized(variant)
        made = self._pass_for(model, variant)
        show_computed_weights(model, lambda: runnable_example(model))
        solve_ranges(model, made.collection)
        note_ranges_from(model, made.images.source)
        return model, made.images

    def quantized(self, variant: ResolvedVariant) -> nn.Module:
        """Returns a copy of the base with the quantizers of a variant, which have no ranges yet."""
        model = copy_model(self.float_model)
        quantize_in_place(model, variant, seen=self._seen)
        return model

    def images_of(self, variant: ResolvedVariant) -> Images:
        """Returns the images that a variant is calibrated on."""
        return self._images[variant.calibration]

    def histograms(self, variant: ResolvedVariant) -> dict[str, Histogram]:
        """Returns what each activation quantizer of a calibrated variant saw, where that was kept as a histogram."""
        paths = [one.path for one in self._plans[variant.name].quantizers if not one.of_weight]
        collection = next(made.collection for made in self._passes if made.spec == variant.calibration)
        watched = {path: collection[path] for path in paths}
        return {path: one.histogram() for path, one in watched.items() if isinstance(one, HistogramCollector)}

    def _pass_for(self, model: nn.Module, variant: ResolvedVariant) -> _Pass:
        needed = set(activation_quantizers(model))
        for made in self._passes:
            if made.spec == variant.calibration and needed <= set(made.collection):
                return made
        self._passes.append(self._collect(variant))
        return self._passes[-1]

    def _collect(self, variant: ResolvedVariant) -> _Pass:
        spec, images = variant.calibration, self._images[variant.calibration]

        def collect(model: nn.Module, histograms: set[str], two_sided: set[str]) -> Collection:
            return collect_images(
                model, images, binning=spec.binning, histograms=histograms, two_sided=two_sided, progress=self.progress
            )

        plans = [self._plans[one.name] for one in self.variants if one.calibration == spec]
        seen = collect_once(self.float_model, plans, collect, keep_histograms=self.keep_histograms)
        return _Pass(spec, images, seen)

    def _open(self, variant: ResolvedVariant) -> Images:
        settings = self.settings
        return calibration_images(
            variant.base, variant.dataset, variant.calibration, settings.data,
            images=settings.calib_images, batch_size=settings.batch_size, workers=settings.workers,
            progress=self.progress,
        )  # fmt: skip


def shared_calibration(
    variants: Sequence[ZooModel], settings: Settings, progress: Progress, *, keep_histograms: bool = False
) -> SharedCalibration:
    """Returns the shared calibration of variants of one recipe, on its base with the published weights.

    Raises:
        WeightsError: the base's weights are missing or damaged, or artifacts that came with a recipe do not fit it.
        UnsupportedError: the device can't be used.
    """
    with phase(progress, f"loading {variants[0].entry.name}"):
        for variant in variants:
            check_hub_model(variant)
        warn_of_unpinned(variants[0])
        float_model = create_base(variants[0].base, pretrained=True).to(usable_device(settings.device))
    resolved = [variant.resolved for variant in variants]
    return SharedCalibration(float_model, resolved, settings, progress, keep_histograms=keep_histograms)


def _as_said(spec: CalibrationSpec, images: Images) -> bool:
    # The edges of reference binning depend on the first batch, so its size can move a number.
    batches = spec.binning == "aligned" or images.batch_size == spec.batch_size
    as_many = len(images) == spec.images and images.split.complete
    return batches and as_many and images.source == spec.source
