"""Classifiers of Hugging Face's transformers, of small configurations and random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from torch import nn

SIZE, CLASSES = 32, 10
COMMON: dict[str, Any] = {"image_size": SIZE, "num_labels": CLASSES}
ENCODER = COMMON | {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "patch_size": 8,
}  # fmt: skip
SWIN = COMMON | {"patch_size": 2, "embed_dim": 32, "depths": [2], "num_heads": [2], "window_size": 4}
CONVNEXT = COMMON | {"hidden_sizes": [16, 32], "depths": [1, 2], "num_stages": 2}
MOBILENET = COMMON | {"depth_multiplier": 0.25}
CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "ViT": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**ENCODER)),
    "DeiT": lambda: transformers.DeiTForImageClassification(transformers.DeiTConfig(**ENCODER)),
    "Swin": lambda: transformers.SwinForImageClassification(transformers.SwinConfig(**SWIN)),
    "ConvNeXt": lambda: transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**CONVNEXT)),
    "MobileNetV2": lambda: transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config(**MOBILENET)),
}
"""By the name of the architecture; each takes images `(N, 3, 32, 32)` and gives a dataclass with `logits`."""
