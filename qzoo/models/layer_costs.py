"""What each layer of a model costs: values of its weight to store, and multiply-accumulates with them for one image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from qzoo.models.float_weights import macs_by_parameter, parameters_of
from qzoo.models.survey import Survey


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs, whatever its format.

    Attributes:
        weights: the number of values of its weight.
        macs: multiply-accumulates with them for one input of one image; 0 where the model was not traced.
    """

    weights: int
    macs: int


def layer_costs(model: nn.Module, seen: Survey) -> dict[str, LayerCost]:
    """Returns the cost of each layer that has a weight, by its name, in the order of the model.

    Biases and norms are in no layer's weight. A weight that several layers share counts with the first of them, its
    multiply-accumulates too.

    Args:
        model: float; not changed.
        seen: its survey, see `qzoo.models.survey.survey`; the example that it ran on has one image.

    Example:
        >>> import torch
        >>> from qzoo.models.survey import survey
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 32 * 32, 10))
        >>> layer_costs(model, survey(model, torch.zeros(1, 3, 32, 32)))["0"]
        LayerCost(weights=216, macs=221184)
    """
    sizes = {path: parameter.numel() for path, parameter in model.named_parameters() if parameter.dim() > 1}
    macs = macs_by_parameter(seen.trace)
    costs, counted = {}, set[str]()
    for layer in seen.layers:
        if layer.has_weight:
            own = [path for path in parameters_of(model, layer) if path in sizes and path not in counted]
            counted.update(own)
            costs[layer.name] = LayerCost(sum(sizes[path] for path in own), sum(macs.get(path, 0) for path in own))
    return costs
