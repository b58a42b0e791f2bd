"""Files that make a variant of its float base: its ranges, or, of an optimized one, ranges and how it is rounded."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from qzoo.errors import WeightsError
from qzoo.models.bases import base_digest, identity
from qzoo.models.full_checkpoint import outline
from qzoo.models.heads import fit_to_new_head
from qzoo.models.provenance import note_ranges_from, provenance
from qzoo.models.rounding import apply_rounding, rounding_of
from qzoo.quant.ranges import get_ranges, quantizers, set_ranges
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.weights.artifact import is_kind
from qzoo.weights.kinds import ROUNDING
from qzoo.weights.model_file import misfit, spec_of
from qzoo.weights.ranges import RangesInfo, check_base, check_ranges_header, load_ranges, save_ranges
from qzoo.weights.rounding import RoundingInfo, check_rounding_header, load_rounding, save_rounding


def save_on_base(model: nn.Module, path: Path, images: int, sample_sha256: str) -> None:
    """Writes what makes a calibrated model of its float base; a file of that name is replaced in one step.

    Args:
        model: calibrated.
        path: the path of the safetensors file.
        images: how many it was calibrated on.
        sample_sha256: the digest of these.

    Raises:
        WeightsError: its weights were changed since they were optimized.
        ValidationError: there are fewer than 0 images, or the digest is none.
    """
    said = {"calibration_images": images, "calibration_sha256": sample_sha256, **identity(model)}
    rounding = rounding_of(model)
    if rounding is None:
        save_ranges(path, get_ranges(model), RangesInfo.model_validate(said))
    else:
        info = RoundingInfo.model_validate({**said, "weights": rounding.formats, "output_axis": rounding.output_axis})
        save_rounding(path, get_ranges(model) | rounding.tensors, info)


def load_on_base(model: nn.Module, path: Path) -> RangesInfo:
    """Makes a variant of its float base, in place; returns what the file says of itself.

    Args:
        model: quantized, with the float weights of the base.
        path: the path of a file that `save_on_base` wrote.

    Raises:
        WeightsError: the file is missing, corrupt, or made for other weights or another variant; nothing is changed.
    """
    if is_kind(path, ROUNDING):
        tensors, info = load_rounding(path)
        _check_identity(model, path, info)
        apply_rounding(model, tensors, info, path)
        note_ranges_from(model, info.calibration_source)
        return info
    ranges, about = load_ranges(path)
    _check_identity(model, path, about)
    set_ranges(model, fit_to_new_head(model, ranges))
    note_ranges_from(model, about.calibration_source)
    return about


def info_of(path: Path) -> RangesInfo:
    """Returns what a file says of itself; see `load_on_base`."""
    return load_rounding(path)[1] if is_kind(path, ROUNDING) else load_ranges(path)[1]


def check_fit(variant: ResolvedVariant, path: Path) -> None:
    """Refuses a file that does not belong to a variant's model, by names and shapes, without reading it.

    Raises:
        WeightsError: the file is missing, damaged, or lacks a range, or has something of another name or shape.
    """
    model = outline(variant)
    ranges = {
        f"{place}.{name}": spec_of(tuple(buffer.shape), buffer.dtype)
        for place, quantizer in quantizers(model).items()
        for name, buffer in quantizer.named_buffers()
    }
    if is_kind(path, ROUNDING):
        state = {key: spec_of(tuple(one.shape), one.dtype) for key, one in model.state_dict().items()}
        check_rounding_header(path, state, ranges)
    else:
        check_ranges_header(path, lambda header, _: misfit(header, ranges))


def _check_identity(model: nn.Module, path: Path, info: RangesInfo) -> None:
    check_base(path, info, base_digest(model))
    made = provenance(model)
    if made and made.variant and info.recipe_sha256 not in ("", made.variant.digest):
        raise WeightsError(
            f"{path} holds the ranges of {info.name or 'another variant'} ({info.recipe_sha256[:12]}); this model is "
            f"{made.variant.name} ({made.variant.digest[:12]}). Load the file that belongs to it, or calibrate again."
        )
