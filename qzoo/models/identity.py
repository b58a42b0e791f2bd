"""What an artifact says of the model it was made from."""

from __future__ import annotations

from typing import Any

from torch import nn

from qzoo.models.bases import base_digest
from qzoo.models.provenance import provenance
from qzoo.weights.artifact import versions


def identity(model: nn.Module) -> dict[str, Any]:
    """Returns the fields of `ArtifactInfo`: variant, version and digest of the recipe, digest of the float weights.

    A model that no recipe describes has empty ones.

    Args:
        model: float or quantized.
    """
    made = provenance(model)
    variant = made.variant if made else None
    return {
        "name": variant.name if variant else "",
        "version": variant.version if variant else 0,
        "recipe_sha256": variant.digest if variant else "",
        "base_sha256": base_digest(model),
        **versions(),
    }
