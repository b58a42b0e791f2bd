"""What a model has that rules can speak of: its layers, its operators, its weights. One pass through it shows all.

Most layers are called; the weights of some are read by an operator in the forward of another module, see
`models/functional_layers.py`. Layers that nobody calls or reads, such as auxiliary classifiers, which run in training
alone, stay in float: a quantizer there would see nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.models.float_weights import SeenWeight, seen_weights
from qzoo.models.functional_layers import class_names, functional_layers
from qzoo.models.operators import operators_of, traced
from qzoo.models.provenance import provenance
from qzoo.models.tracing import Trace
from qzoo.quant.layers import has_weight, is_quantizable
from qzoo.schema.resolution.plan import Layer, Operator

READ_BY_ANOTHER = nn.modules.linear.NonDynamicallyQuantizableLinear
"""torch's own mark of a layer whose weight another module reads."""
MOST_KEPT = 64
"""Surveys that are kept; each takes some hundred kB."""


@dataclass
class Survey:
    """What was seen of a model.

    Attributes:
        layers: the layers that rules can speak of, in the order of the model.
        idle: paths of the layers with weights that nobody calls or reads.
        weights: its weights, the largest first.
        trace: what it evaluates; None where it runs on no image of a usual size.
    """

    layers: list[Layer]
    idle: list[str]
    weights: list[SeenWeight]
    trace: Trace | None
    _operators: list[Operator] = field(default_factory=list)

    def operators(self, model: nn.Module) -> list[Operator]:
        """Returns the operators that rules can speak of, in the order of evaluation; none where it was not traced.

        Args:
            model: the model, or one like it.
        """
        if not self._operators and self.trace is not None:
            self._operators = operators_of(model, self.trace)
        return self._operators


def survey(model: nn.Module, example: Any = None, *, must_run: bool = False) -> Survey:
    """Returns what a float model has; it runs once, and is not changed.

    Args:
        model: float.
        example: an input, or a tuple of arguments; default: of the likely size.
        must_run: refuse a model that can't be run. Else its layers are taken for such that are called.

    Raises:
        UnsupportedError: the model does not run on the example; or on no likely one, if it has to.
    """
    try:
        trace = traced(model, example)
    except UnsupportedError:
        if must_run or example is not None:
            raise
        trace = None
    layers = _layers(model, trace)
    idle = _idle(model, {layer.name for layer in layers}, trace)
    return Survey(layers, idle, seen_weights(model, layers, trace), trace)


_KEPT: dict[Any, Survey] = {}


def survey_of_base(model: nn.Module) -> Survey:
    """Returns what a base has that the zoo made a moment ago, and nobody changed; equal bases are looked at once."""
    made = provenance(model)
    if made is None or made.base is None or made.base.source == "python":
        return survey(model)  # whose code may be another the next time
    modules = dict(model.named_modules())
    key = (made.base, made.keywords, *modules, *map(type, modules.values()), *map(Tensor.size, model.parameters()))
    if key not in _KEPT:
        if len(_KEPT) == MOST_KEPT:
            _KEPT.clear()
        _KEPT[key] = survey(model)
    return _KEPT[key]


def _layers(model: nn.Module, found: Trace | None) -> list[Layer]:
    called = quantizable_layers(model)
    if found is None:
        return [_described(path, one) for path, one in called.items() if not isinstance(one, READ_BY_ANOTHER)]
    alike, read = {_without_numbers(path) for path in found.calls}, _read(found)
    called = {
        path: layer
        for path, layer in called.items()
        # One of several experts, say, is called for other images than the example.
        if path in found.calls or (_without_numbers(path) in alike and _weight(path) not in read)
    }
    functional = functional_layers(model, found, called)
    order = {path: place for place, (path, _) in enumerate(model.named_modules())}
    layers = [*(_described(path, layer) for path, layer in called.items()), *functional]
    return sorted(layers, key=lambda one: order[one.functional.module if one.functional else one.name])


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns convolutions, linear and pooling layers by path, with subclasses, in the order of the model."""
    return {path: layer for path, layer in model.named_modules() if is_quantizable(layer)}


def _idle(model: nn.Module, known: Collection[str], found: Trace | None) -> list[str]:
    read = _read(found)
    weighted = [path for path, layer in quantizable_layers(model).items() if has_weight(layer)]
    return [path for path in weighted if path not in known and _weight(path) not in read]


def _read(found: Trace | None) -> set[str]:
    """Returns the paths of the parameters that an operator multiplies by."""
    return {path for call in (found.evaluations if found else ()) if call.reads for path in call.parameters}


def _weight(path: str) -> str:
    return f"{path}.weight".lstrip(".")


def _without_numbers(path: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def _described(path: str, layer: nn.Module) -> Layer:
    return Layer(path, class_names(layer), has_weight(layer))
