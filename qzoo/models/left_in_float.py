"""Layers that stay in float because a quantizer there would see nothing.

Auxiliary classifiers run in training alone. The weights of some linear layers are read by an attention module that does
not call them: so do `nn.MultiheadAttention`, torchvision's Swin, and timm's BEiT, EVA and Swin V2.
"""

from __future__ import annotations

from torch import nn

AUXILIARY = frozenset({
    "timm.models.inception_v3.InceptionAux",
    "torchvision.models.googlenet.InceptionAux",
    "torchvision.models.inception.InceptionAux",
})  # fmt: skip


def is_for_training_only(model: nn.Module, path: str) -> bool:
    """Whether the layer at a path is part of an auxiliary classifier."""
    names = path.split(".")
    holders = (model.get_submodule(".".join(names[:depth])) for depth in range(1, len(names)))
    # By name: importing timm and torchvision for models of neither would cost seconds.
    return any(f"{c.__module__}.{c.__qualname__}" in AUXILIARY for holder in holders for c in type(holder).__mro__)


ALWAYS = {
    "torch.nn.modules.activation.MultiheadAttention": ("out_proj",),
    "torchvision.models.swin_transformer.ShiftedWindowAttention": ("qkv", "proj"),
}
WITH_QUERY_BIAS = {
    "timm.models.beit.Attention": ("qkv",),
    "timm.models.eva.EvaAttention": ("qkv",),
    "timm.models.swin_transformer_v2.WindowAttention": ("qkv",),
}


def is_read_as_data(model: nn.Module, path: str) -> bool:
    """Whether the layer at a path is never called, because the module that holds it reads its weight instead."""
    holder, _, name = path.rpartition(".")
    return bool(path) and name in _read_by(model.get_submodule(holder))


def _read_by(holder: nn.Module) -> tuple[str, ...]:
    # By name: importing timm and torchvision for models of neither would cost seconds.
    classes = [f"{c.__module__}.{c.__qualname__}" for c in type(holder).__mro__]
    table = ALWAYS
    if getattr(holder, "q_bias", None) is not None and not getattr(holder, "qkv_bias_separate", False):
        table = ALWAYS | WITH_QUERY_BIAS
    return next((table[name] for name in classes if name in table), ())
