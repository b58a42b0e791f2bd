"""Images for calibrating without data, and what else calibrating on `statistics` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from qzoo import environment
from qzoo.data import ArraySplit
from qzoo.data_free.batch_norms import batch_norms
from qzoo.data_free.distill import distilled_images
from qzoo.data_free.matched_norms import MatchedBatchNorms
from qzoo.data_free.natural_images import natural_images
from qzoo.errors import DataError, UnsupportedError, did_you_mean
from qzoo.models.base_model import InputFormat
from qzoo.models.bases import base_digest, input_format
from qzoo.models.example import runnable_example
from qzoo.models.image_transform import IMAGENET, transform_of
from qzoo.models.provenance import provenance
from qzoo.models.quantize import float_copy
from qzoo.progress import Progress, silent
from qzoo.quant.calibration.collecting import collecting
from qzoo.quant.eval_mode import device_of
from qzoo.quant.inputs import with_images
from qzoo.schema.calibration import DATA_FREE, Source, named_source
from qzoo.tasks.inputs.batches import ToInputs, as_batches
from qzoo.tasks.inputs.images import Images

LEAST, MOST = 64, 1024
"""How many images are made unless told: 64 of 224 pixels, and more of smaller ones."""
USUAL_PIXELS = LEAST * 224 * 224
STATISTICS_SHARE = 4
"""Of statistics so many times fewer do: each channel is scaled to what it is to have."""
STATISTICS_BATCH = 16
"""Images whose means and variances tell something; fewer at a time would not do."""
MOST_DISTILLED = 256
"""Each takes some hundred times as long to make."""


def usual_count(form: InputFormat, source: Source) -> int:
    """Returns how many images are made where nothing says how many.

    Example:
        >>> usual_count(InputFormat(224, (0.5,), (0.5,)), "synthetic")
        64
    """
    count = min(max(USUAL_PIXELS // form.size**2, LEAST), MOST)
    if source == "distilled":
        return min(count, MOST_DISTILLED)
    return count // STATISTICS_SHARE if source == "statistics" else count


def data_free_images(
    form: InputFormat,
    source: Source,
    float_model: Callable[[], nn.Module],
    *,
    images: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    progress: Progress = silent,
) -> Images:
    """Returns images that need no data.

    Args:
        form: what the model expects of an image; they are made in its size.
        source: `synthetic`, `distilled` or `statistics`.
        float_model: gives the model with its weights, for which images are distilled; not called for the others.
        images: how many; default: `usual_count`.
        seed: another one makes other images.
        batch_size: images at a time.
        progress: shown what takes long.
    """
    count = images or usual_count(form, source)
    if source == "distilled":
        model = float_model()
        folder = environment.runs() / f"distilled-{base_digest(model)[:12]}"
        pixels = distilled_images(model, count, form, seed=seed, folder=folder, progress=progress)
    else:
        pixels = natural_images(count, form.size, len(form.mean), seed)
    # Nobody reads their labels.
    split = ArraySplit(source, source, pixels, torch.zeros(count, dtype=torch.int64))
    batch_size = max(batch_size, STATISTICS_BATCH) if source == "statistics" else batch_size
    return Images(split, list(range(count)), transform_of(form), batch_size, source=source)


def data_free_images_for(model: nn.Module, source: str) -> Images:
    """Returns images for a model that was made in Python, in the format of its base, or else as it can be told.

    Args:
        model: quantized, on any device. One that no library made gets images of the size that it runs on,
            normalized as most ImageNet classifiers want them.
        source: `synthetic`, `distilled` or `statistics`.

    Raises:
        DataError: there is no such source.
        UnsupportedError: the model runs on no image of a usual size.
    """
    known = named_source(source)
    if known is None:
        raise DataError(
            f"The images are '{source}', which is no source that needs no data. {did_you_mean(source, DATA_FREE)} Or "
            "give batches of images."
        )
    return data_free_images(_form(model), known, lambda: float_copy(model))


def _form(model: nn.Module) -> InputFormat:
    made = provenance(model)
    if made is not None and made.base is not None:
        return input_format(made.base)
    with collecting(model):
        channels, *_, size = runnable_example(model).shape[1:]
    mean, std = (values if channels == len(values) else (0.5,) * channels for values in (IMAGENET.mean, IMAGENET.std))
    return InputFormat(size, mean, std)


def source_of(images: Any) -> Source:
    """Returns what images are: made without data, or any others."""
    return images.source if isinstance(images, Images) else "images"


@contextmanager
def as_remembered(model: nn.Module, images: Any, source: Source, to_inputs: ToInputs = None) -> Iterator[None]:
    """Lets the batch norms of a model see what they remember, for the time of the context, if that is the source.

    Args:
        model: quantized; run once, in float.
        images: what it is to be shown, as for `qzoo.calibrate`; of them it is shown the first.
        source: of the images.
        to_inputs: as for `qzoo.calibrate`.

    Raises:
        UnsupportedError: it has no batch norm that remembers anything.
        CalibrationError: what they remember is impossible.
    """
    first = next(as_batches(images, device_of(model), to_inputs), None) if source == "statistics" else None
    if first is None:
        yield
        return
    with collecting(model):  # its quantizers, which may have no range yet, pass on what they are given
        norms = batch_norms(model, with_images(first.inputs, 1))
    if not norms:
        raise UnsupportedError(
            f"No batch norm of {type(model).__name__} remembers the images of a training: each has mean 0 and variance "
            "1, or sees several inputs. Load trained weights, or calibrate on `synthetic` images."
        )
    with MatchedBatchNorms(norms):
        yield
