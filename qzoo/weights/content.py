"""The content digest: the same weights have it whatever file they came in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 over names, dtypes, shapes and bytes of the tensors, whatever their order.

    Example:
        >>> content_digest({"a": torch.zeros(2)}) == content_digest({"a": torch.zeros(2)})
        True
    """
    return combined_digest(entry_digests(tensors))


def entry_digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns the SHA-256 over dtype, shape and bytes of each tensor."""
    return {name: _entry_digest(tensor) for name, tensor in tensors.items()}


def combined_digest(entries: Mapping[str, str]) -> str:
    """Returns one SHA-256 over names and digests of tensors."""
    text = "".join(f"{name}|{entries[name]}\n" for name in sorted(entries))
    return hashlib.sha256(text.encode()).hexdigest()


def _entry_digest(tensor: Tensor) -> str:
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
