"""Which layers of a model rules can speak of, and the quantizers that a variant's rules give them.

Some layers stay in float because a quantizer there would see nothing. Auxiliary classifiers run in training alone. The
weights of some linear layers are read by an attention module that does not call them: so do `nn.MultiheadAttention`,
torchvision's Swin, and timm's BEiT, EVA and Swin V2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qzoo.errors import UnsupportedError, some
from qzoo.models.operators import class_names, find_operators
from qzoo.quant.layers import has_weight, is_quantizable
from qzoo.quant.ranges import quantizers
from qzoo.schema.binding import bind
from qzoo.schema.percentiles import warn_of_unlikely
from qzoo.schema.plan import Layer, Plan
from qzoo.schema.resolve import ResolvedVariant

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


def plan_quantizers(model: nn.Module, variant: ResolvedVariant, example: Any = None, *, whole: bool = False) -> Plan:
    """Returns which quantizers a variant's rules give a model, which is not changed.

    Layers that evaluation never calls count as left in float: no rule can change that.

    Args:
        model: float.
        variant: resolved.
        example: an input, to find operators with; default: one of the likely size.
        whole: look for operators even where the variant does not speak of them, to tell what stays in float.

    Raises:
        RuleError: a rule written in the recipe matches nothing.
        UnsupportedError: the model is quantized already, or can't be run to find its operators.

    Warns:
        UnlikelyPercentileWarning: a percentile below 50.
    """
    refuse_quantized(model)
    refuse_lazy(model)
    warn_of_unlikely(variant.rules)
    operators = find_operators(model, example) if whole or variant.speaks_of_operators else []
    plan = bind(variant, [_described(path, layer) for path, layer in quantizable_layers(model).items()], operators)
    idle = [path for path, layer in model.named_modules() if has_weight(layer) and _is_idle(model, path)]
    return replace(plan, left_float=[*plan.left_float, *idle])


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers that rules can speak of, by path, in the order of the model; subclasses are included."""
    return {path: layer for path, layer in model.named_modules() if is_quantizable(layer) and not _is_idle(model, path)}


def _is_idle(model: nn.Module, path: str) -> bool:
    """Whether evaluation never calls the layer at a path."""
    return is_read_as_data(model, path) or is_for_training_only(model, path)


def refuse_quantized(model: nn.Module) -> None:
    """Refuses a model that has quantizers.

    Raises:
        UnsupportedError: says so.
    """
    if quantizers(model):
        raise UnsupportedError("This model is quantized already. Start again from the float one.")


def refuse_lazy(model: nn.Module) -> None:
    """Refuses a model whose layers have no weights yet.

    Raises:
        UnsupportedError: names them.
    """
    lazy = [path for path, module in model.named_modules() if any(map(is_lazy, _held(module)))]
    if lazy:
        raise UnsupportedError(
            f"{some(lazy, 3)} of {type(model).__name__} has no weights yet: a lazy layer makes them when it first "
            "runs. Run the model once, model(images), and then quantize it."
        )


def _held(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _described(path: str, layer: nn.Module) -> Layer:
    return Layer(path, class_names(layer), has_weight(layer))
