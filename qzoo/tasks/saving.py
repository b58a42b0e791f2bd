"""Saving a calibrated model, or only its ranges, and giving a model what was saved."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from torch import nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.models.full_checkpoint import load_full_checkpoint, save_full_checkpoint
from qzoo.models.heads import as_planned
from qzoo.models.on_base import load_on_base, save_on_base
from qzoo.quant.ranges import require_calibrated, require_quantizers
from qzoo.schema.model import all_described
from qzoo.weights.artifact import is_kind
from qzoo.weights.kinds import MODEL
from qzoo.weights.ranges import RangesInfo


@checked
def save(model: nn.Module, path: str | Path, *, whole: bool = False, images: int = 0, sample_sha256: str = "") -> Path:
    """Writes the ranges of a calibrated model: scales only, some KB, bound to the model's float weights.

    Of an optimized model it writes besides how its weights are rounded, in a bit or a few each.

    Args:
        model: calibrated. `qzoo.save` takes the name of a variant too.
        path: the path of the safetensors file; replaced in one step.
        whole: write a full checkpoint, with the float weights, as after `qzoo.finetune`, which changes them.
        images: how many the model was calibrated on, if known.
        sample_sha256: digest of those images, if known.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are no quantizers.
        ArgumentError: there are fewer than 0 images, or the digest is none.

    Example:
        >>> qzoo.save("resnet8_digits_int8", "int8.ranges.safetensors").name
        'int8.ranges.safetensors'
    """
    with as_planned(model):
        if whole:
            save_full_checkpoint(model, Path(path), packed=False)
            return Path(path)
        require_quantizers(model)
        require_calibrated(model, "save the ranges")
        try:
            save_on_base(model, Path(path), int(images), sample_sha256)
        except ValidationError as error:
            said = {"calibration_images": images, "calibration_sha256": sample_sha256}
            raise ArgumentError(f"save(): {all_described(RangesInfo, said, error)}") from None
        return Path(path)


@checked
def load(model: nn.Module, path: str | Path) -> nn.Module:
    """Gives a quantized model saved ranges, in place; or saved weights and ranges.

    Args:
        model: made by `qzoo.create(variant, pretrained="float")` or `qzoo.quantize`; for a file of ranges, with the
            weights that they were made for.
        path: the path of a file that `save` wrote; it says itself whether it is a full checkpoint.

    Raises:
        WeightsError: the file is missing, corrupt, or made for other weights or another variant; nothing is changed.

    Example:
        >>> file = qzoo.save("resnet8_digits_int8", "int8.ranges.safetensors")
        >>> model = qzoo.load(qzoo.create("resnet8_digits_int8", pretrained="float"), file)
        >>> round(qzoo.evaluate(model, images).top1, 2)
        99.33
    """
    with as_planned(model, stays=True):
        if is_kind(Path(path), MODEL):
            load_full_checkpoint(model, Path(path))
        else:
            load_on_base(model, Path(path))
    return model
