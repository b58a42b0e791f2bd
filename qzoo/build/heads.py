"""Classifiers that were replaced: the ranges of all other layers stay good, those of the new one are made to fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import Tensor, nn

from qzoo.build.provenance import Provenance, provenance
from qzoo.quant.layers import QuantizedLayer, channel_shape, is_quantizable, quantize_layer, quantizer_of
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weight_ranges import layer_weight_amax


class ReplacedHeadWarning(UserWarning):
    """A layer was replaced after the model was quantized; it is quantized again."""


def fit_to_new_head(model: nn.Module, ranges: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns ranges made for the original classifier, changed to fit the one that `num_classes` made.

    The input range stays: what reaches the classifier is the same. The weight range is computed from the new weight.

    Args:
        model: quantized; not changed.
        ranges: keyed like the state dict; not changed.
    """
    made = provenance(model)
    heads = {key.rpartition(".")[0] for key in made.old_head} if made else set()
    fitted = dict(ranges)
    for head in heads:
        layer = model.get_submodule(head)
        weight = quantizer_of(layer, "weight")
        if not isinstance(layer, QuantizedLayer):
            fitted = {key: value for key, value in fitted.items() if not key.startswith(f"{head}.")}
        elif weight is not None:
            fitted[f"{head}.weight_quantizer.amax"] = layer_weight_amax(layer, weight.spec)
    return fitted


def requantize_replaced(model: nn.Module) -> list[str]:
    """Quantizes layers that were replaced since the model was quantized, such as by timm's `reset_classifier`, in place.

    A new layer gets the input quantizer of the old one, range and all, and a weight range from its own weight.

    Returns:
        The paths of the layers.

    Warns:
        ReplacedHeadWarning: names them.
    """
    made = provenance(model) or Provenance()
    replaced = {
        path: layer
        for path in made.quantizers
        if is_quantizable(layer := _module_at(model, path)) and not isinstance(layer, QuantizedLayer)
    }
    for path, layer in replaced.items():
        _take_over(layer, made.quantizers[path])
    if replaced:
        warnings.warn(
            f"{', '.join(replaced)} was replaced after the model was quantized: the new layer is quantized like the old "
            "one; its weight range is computed anew, its input range is kept.",
            ReplacedHeadWarning,
            stacklevel=3,
        )
    return list(replaced)


def _take_over(layer: nn.Module, old: dict[str, TensorQuantizer]) -> None:
    quantizers = dict(old)
    if "weight" in old:
        spec = old["weight"].spec
        quantizers["weight"] = TensorQuantizer(spec, channel_shape(layer) if spec.per == "channel" else ())
        if old["weight"].calibrated:
            quantizers["weight"].set_amax(layer_weight_amax(layer, spec))
    quantize_layer(layer, quantizers)
    old.update(quantizers)


def _module_at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return nn.Identity()
