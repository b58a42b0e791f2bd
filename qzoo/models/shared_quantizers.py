"""Which quantizers of a model have to keep one range, whatever training does."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.models.example import runnable_example
from qzoo.models.provenance import provenance
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.same_tensor import of_equal_kind, quantizers_by_tensor


class LearnedApartWarning(UserWarning):
    """Quantizers of one tensor learn apart, since nothing tells which they are."""


def shared_quantizers(model: nn.Module, example: Any = None) -> list[list[str]]:
    """Returns the paths of quantizers that share a range while it is learned, group by group.

    Where both operands of residual additions are quantized, runtimes run a whole block on integers, if a tensor is
    quantized once for all that read it. Calibrated, equal quantizers of one tensor have one range; learned apart, they
    would part. Of other variants each quantizer learns alone, as in the papers.

    Args:
        model: quantized; run once.
        example: a tensor, a tuple of arguments, or a dict of them; default: an image of the size that the model is
            made for.

    Warns:
        LearnedApartWarning: there is no example, and the model runs on none of a usual size.
    """
    made = provenance(model)
    residual = made.variant.residual if made and made.variant else None
    if residual is None or residual.placement != "both":
        return []
    try:
        x = runnable_example(model) if example is None else example
    except UnsupportedError:
        warnings.warn(
            "This model runs on no image of a usual size, so it is not known which of its quantizers read one tensor: "
            "each learns a range of its own, and a runtime may not fuse the additions between them.",
            LearnedApartWarning,
            stacklevel=2,
        )
        return []
    with evaluation_mode(model):
        together = quantizers_by_tensor(model, x)
    return [group for paths in together for group in of_equal_kind(model, paths)]
