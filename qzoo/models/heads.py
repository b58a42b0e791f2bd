"""Models that were changed after they were quantized: classifiers replaced, which are made to fit; quantizers gone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from qzoo.errors import UnsupportedError, some
from qzoo.models.provenance import Provenance, provenance, stayed_in_float
from qzoo.quant.calibration.weight_ranges import layer_weight_range
from qzoo.quant.derived import float_name
from qzoo.quant.eval_mode import device_of
from qzoo.quant.layers import (
    QuantizedLayer,
    channel_shape,
    has_weight,
    is_quantizable,
    quantize_layer,
    quantizer_of,
    unquantize_layer,
)
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.resolution.plan import Functional


class ReplacedHeadWarning(UserWarning):
    """A layer was replaced after the model was quantized; it is quantized again, or stays in float."""


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
            amax, _, zero_point = layer_weight_range(layer, weight.spec)
            fitted[f"{head}.weight_quantizer.amax"] = amax
            fitted |= {} if zero_point is None else {f"{head}.weight_quantizer.zero_point": zero_point}
    return fitted


@contextmanager
def as_planned(model: nn.Module, *, stays: bool = False) -> Iterator[None]:
    """Brings a model back to its plan, as `requantize_replaced` does, for the time of the context.

    So a measurement is of the model that calibrating would make of it, and the model itself stays as it is: a layer
    that was replaced is the float layer again when the context ends.

    Args:
        model: changed in place, and back.
        stays: it is only changed back after an error.

    Raises:
        UnsupportedError: quantizers of the plan are gone; the model is as it was.

    Warns:
        ReplacedHeadWarning: names the layers.
    """
    classes = {module: type(module) for module in model.modules() if not isinstance(module, QuantizedLayer)}
    plans = [made.quantizers for part in model.modules() if (made := provenance(part)) is not None]
    before = [{path: dict(roles) for path, roles in plan.items()} for plan in plans]
    keep = False
    try:
        requantize_replaced(model, stays=stays)
        yield
        keep = stays
    finally:
        for module, kind in classes.items() if not keep else ():
            if isinstance(module, QuantizedLayer):
                unquantize_layer(module)
                module.__class__ = kind  # type: ignore[assignment]
        for plan, content in zip(plans, before, strict=True) if not keep else ():
            plan.clear()
            plan.update(content)


def requantize_replaced(model: nn.Module, *, stays: bool = True) -> list[str]:
    """Brings a model that was changed after it was quantized back to its plan, in place, or refuses it.

    A layer that was replaced, as by timm's `reset_classifier`, is quantized again. A new layer gets the input quantizer
    of the old one, range and all, and a weight range from its own weight. What is no convolution, linear or pooling
    layer, such as a `Sequential`, stays in float.

    What was wrapped afterwards, as by `nn.Sequential(normalize, model)`, is looked for inside.

    Args:
        model: changed in place.
        stays: the warning's words: whether the model stays so, or the caller undoes it.

    Returns:
        The paths of the layers that are quantized anew.

    Raises:
        UnsupportedError: quantizers of the plan are gone, and float layers or operators compute what they quantized, as
            after timm's `reparameterize_model`.

    Warns:
        ReplacedHeadWarning: names them, and those that stay in float.
    """
    anew = []
    for prefix, part in list(model.named_modules()):
        if (made := provenance(part)) is not None:
            anew += [f"{prefix}.{path}".strip(".") for path in _requantize(part, made, stays)]
    return anew


def _requantize(model: nn.Module, made: Provenance, stays: bool) -> list[str]:
    standing = {path: layer for path in _left(model, made) if (layer := _module_at(model, path)) is not None}
    replaced = {
        path: layer
        for path, layer in standing.items()
        if not isinstance(layer, QuantizedLayer) and not stayed_in_float(layer)
    }
    quantized = [path for path, layer in replaced.items() if is_quantizable(layer)]
    # timm takes a classifier away by putting an Identity in its place; nothing is left to quantize.
    in_float = [path for path in replaced if path not in quantized and not isinstance(replaced[path], nn.Identity)]
    for path in quantized:
        _take_over(replaced[path], made.quantizers[path])
    for path in in_float:
        del made.quantizers[path]
    _refuse_vanished(model, made)
    _report(model, quantized, in_float, stays)
    return quantized


def _left(model: nn.Module, made: Provenance) -> list[str]:
    """Returns the planned paths of layers that are no part of the model any more.

    Deleting a block of a `Sequential` moves those behind it to other paths, where they are quantized as before.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLayer)]
    present = {quantizer for layer in layers for quantizer in layer.children()}
    return [path for path, roles in made.quantizers.items() if not present.issuperset(roles.values())]


def _refuse_vanished(model: nn.Module, made: Provenance) -> None:
    left = _left(model, made)
    gone = [name for path in left if _module_at(model, path) is None for name in _names(made, path)]
    layers = [path for path in left if isinstance(_module_at(model, path), QuantizedLayer)]
    here = [name for path in layers for name in _names(made, path)]
    here += [path for path, block in made.operators.items() if _is_a(model, path, block)]
    bare = [path for path in here if not isinstance(_module_at(model, path), TensorQuantizer)]
    floats = [path for path, layer in model.named_modules() if _is_float(layer) and not stayed_in_float(layer)]
    new = [path for path in floats if path not in made.left_float]
    planned = {path: one.functional for path, one in made.planned.items() if one.functional is not None}
    gone += [path for path, functional in planned.items() if _is_gone(model, path, functional, new)]
    if bare or (gone and new):
        came = f" Layers with weights came that have none: {some(new, 3)}." if new else ""
        raise UnsupportedError(
            f"{len(gone + bare)} of the quantizers that {_name(made)} gave this model are gone: {some(gone + bare, 3)}."
            f"{came} It would compute in float what they quantized. Change the float model first, such as by "
            "reparameterizing it, then quantize and calibrate it."
        )


def _names(made: Provenance, path: str) -> list[str]:
    """Returns the paths of the quantizers that the plan gave to the layer at a path."""
    return [f"{path}.{role}_quantizer".lstrip(".") for role in made.quantizers[path]]


def _name(made: Provenance) -> str:
    return made.variant.name if made.variant else "its plan"


def _is_float(layer: nn.Module) -> bool:
    """Whether a module holds a matrix itself, or is a layer with a weight, and is no quantized layer."""
    holds = has_weight(layer) or any(one.dim() > 1 for one in layer.parameters(recurse=False))
    return holds and not isinstance(layer, QuantizedLayer)


def _is_gone(model: nn.Module, path: str, functional: Functional, new: list[str]) -> bool:
    """Whether the quantizer of a layer that nobody calls is gone, or the module that holds its weight is another."""
    owner = f"{functional.module}.{(functional.weight.parameter or '').rpartition('.')[0]}".strip(".")
    return owner in new or not isinstance(_module_at(model, path), TensorQuantizer)


def _is_a(model: nn.Module, path: str, block: str) -> bool:
    """Whether the module that a quantizer stood in is still of the same class; another one computes something else."""
    module = _module_at(model, path.rpartition(".")[0])
    return module is not None and float_name(module) == block


def _report(model: nn.Module, quantized: list[str], in_float: list[str], stays: bool) -> None:
    if quantized:
        warnings.warn(
            f"{', '.join(quantized)} was replaced after the model was quantized: the new layer is quantized like the "
            "old one; its weight range is computed anew, its input range is kept."
            + ("" if stays else " So it is for this measurement alone; qzoo.calibrate and qzoo.finetune let it be so."),
            ReplacedHeadWarning,
            stacklevel=5,
        )
    if in_float:
        kinds = ", ".join(f"{path} (by {type(model.get_submodule(path)).__name__})" for path in in_float)
        warnings.warn(
            f"{kinds} was replaced after the model was quantized and stays in float. Replace layers in the float "
            "model, then quantize it with qzoo.quantize.",
            ReplacedHeadWarning,
            stacklevel=5,
        )


def _take_over(layer: nn.Module, old: dict[str, TensorQuantizer]) -> None:
    # The old ones were no part of the model meanwhile, and did not move with it.
    quantizers = {role: quantizer.to(device_of(layer)) for role, quantizer in old.items() if role != "weight"}
    if "weight" in old and has_weight(layer):
        spec = old["weight"].spec
        fresh = TensorQuantizer(spec, channel_shape(layer) if spec.per == "channel" else ())
        quantizers["weight"] = fresh.to(device_of(layer))
        if old["weight"].calibrated:
            fresh.set_amax(*layer_weight_range(layer, spec))
    quantize_layer(layer, quantizers)
    old.clear()
    old.update(quantizers)


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None
