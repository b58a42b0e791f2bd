"""Filling in `Details` while something is measured; where nobody gave any, nothing is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from qzoo.distributed import rank
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.eval_mode import device_of
from qzoo.quant.ranges import quantizers
from qzoo.results.details import Details
from qzoo.tasks.evaluate import Evaluation
from qzoo.tasks.inputs.batches import as_batches
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.measuring.flipped_images import flipped_images
from qzoo.tasks.measuring.quantizer_details import COMPARED, quantizer_details


def gather_quantizers(
    details: Details | None, variant: str, model: nn.Module, images: Images,
    histograms: Mapping[str, Histogram] | None = None, seen_on: str = "",
) -> None:  # fmt: skip
    """Notes what each quantizer of a model does, on a few of some images.

    Args:
        details: filled in.
        variant: whose model it is.
        model: calibrated; not changed.
        images: a few that lie far apart are shown, without processes of their own that would take longer to start.
        histograms: by path of a quantizer, what calibration saw; default: what is seen of these images.
        seen_on: what the histograms are of, in words.
    """
    if details is None or rank() > 0 or not quantizers(model):
        return
    few = replace(images, indices=images.indices[:: max(1, len(images) // COMPARED)][:COMPARED], workers=0)
    details.quantizers[variant] = quantizer_details(model, as_batches(few, device_of(model)), histograms)
    details.compared = len(few)
    details.seen_on = details.seen_on or (seen_on if histograms else f"{len(few)} images")


def gather_flips(
    details: Details | None, images: Images, baseline: Evaluation, others: Mapping[str, Evaluation]
) -> None:
    """Notes the images that flipped from the float model to each variant."""
    if details is None or rank() > 0:
        return
    details.flips, details.flips_left_out = flipped_images(images, baseline, others)
    details.flipped = True
