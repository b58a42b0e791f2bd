"""What an artifact says of itself, read without torch and without its tensors: for lists, which must not wait.

Nothing is checked but the form. Whoever uses an artifact reads it by `weights/artifact.py`, which checks its digest.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from qzoo.schema.model import LARGEST_TEXT
from qzoo.weights.kinds import Kind

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, little-endian."""


def stated(path: Path, kind: Kind) -> dict[str, Any]:
    """Returns the info of an artifact as it stands in the header; nothing where it is of another kind, or no artifact.

    Args:
        path: the path of the file.
        kind: what it has to be.

    Example:
        >>> from qzoo import environment
        >>> from qzoo.weights.kinds import RECEIPT
        >>> file = environment.packaged("digits/artifacts/resnet8_digits_int8.receipt.safetensors")
        >>> stated(file, RECEIPT)["dataset"]
        'digits'
    """
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError), path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length <= LARGEST_TEXT:
            header = json.loads(file.read(length))
            metadata = header["__metadata__"]
            info = json.loads(metadata["info"]) if metadata["format"] == kind.format else None
            images = header["ids"]["shape"][0] if "ids" in header else None
            return {**info, "images": images} if isinstance(info, dict) else {}
    return {}
