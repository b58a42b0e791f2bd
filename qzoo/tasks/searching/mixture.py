"""A model whose groups each take one of several candidates, without being made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qzoo.quant.quantizer import State, TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.searching.groups import Group

Choice = Mapping[str, str]
"""By the name of a group, the name of its candidate."""


@dataclass
class Mixture:
    """A calibrated model, and how its groups are quantized in others like it.

    Choosing takes quantizers' specs and ranges from the candidates' models, and their weights, where these were
    rounded; nothing is computed. What is not in a group stays as it is.

    Attributes:
        model: with float weights; its quantizers change.
        groups: those of the model.
        candidates: by name, a copy of the model as that candidate has it; of `float` there is none.
    """

    model: nn.Module
    groups: Sequence[Group]
    candidates: Mapping[str, nn.Module]

    def __post_init__(self) -> None:
        self._quantizers = {name: quantizers(one) for name, one in self.candidates.items()}
        self._weights = {name: _rounded(self.model, one) for name, one in self.candidates.items()}
        self._float = _parameters(self.model)
        self._own = {key: tensor.data for key, tensor in self._float.items()}
        grouped = {path for group in self.groups for path in group.paths}
        self._rest = [one for path, one in quantizers(self.model).items() if path not in grouped]

    def names(self) -> list[str]:
        """Returns the names of the candidates, `float` last."""
        return [*self.candidates, FLOAT]

    def leave_in_float(self) -> None:
        """Switches every quantizer off, in place, also those of no group."""
        self._switch_rest("off")
        self.choose(dict.fromkeys((group.name for group in self.groups), FLOAT))

    def choose_all(self, choice: Choice) -> None:
        """Gives every group its candidate, in place, and switches on what is in no group."""
        self._switch_rest("quantizing")
        self.choose(choice)

    def choose(self, choice: Choice) -> None:
        """Gives groups their candidates, in place; groups that the choice does not name stay as they are."""
        for group in self.groups:
            if group.name in choice:
                self._take(group, choice[group.name])

    def _switch_rest(self, state: State) -> None:
        for quantizer in self._rest:
            quantizer.state = state

    def different(self, group: Group) -> dict[str, str]:
        """Returns for each candidate the first that does the same to a group: itself, where none before does."""
        known: list[tuple[str, list[tuple[object, ...]]]] = []
        same = {}
        for name in self.candidates:
            own = [_key(self._quantizers[name].get(path)) for path in group.paths]
            rounded = [path for path in group.paths if path in self._weights[name]]
            match = None if rounded else next((one for one, other in known if _are_equal(own, other)), None)
            known += [] if match or rounded else [(name, own)]
            same[name] = match or name
        return same

    def _take(self, group: Group, candidate: str) -> None:
        for path, quantizer in group.by_path.items():
            its = None if candidate == FLOAT else self._quantizers[candidate].get(path)
            if its is None:
                quantizer.state = "off"
            else:
                quantizer.become(its)
            if path in self._own:
                self._float[path].data = self._weights.get(candidate, {}).get(path, self._own[path])


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters that are quantized weights, by the path of their quantizer."""
    found = quantized_weights(model).items()
    return {path: model.get_parameter(weight.key) for path, weight in found if weight.key is not None}


def _rounded(model: nn.Module, candidate: nn.Module) -> dict[str, Tensor]:
    """Returns the weights that a candidate has other values of, by the path of their quantizer."""
    own, its = _parameters(model), _parameters(candidate)
    return {path: its[path].data for path in own if not torch.equal(own[path], its[path])}


def _key(quantizer: TensorQuantizer | None) -> tuple[object, ...]:
    return () if quantizer is None else (quantizer.grid, quantizer.amax, quantizer.zero_point)


def _are_equal(one: Sequence[tuple[object, ...]], other: Sequence[tuple[object, ...]]) -> bool:
    return all(
        len(mine) == len(its)
        and all(
            a == b if not isinstance(a, Tensor) else isinstance(b, Tensor) and torch.equal(a, b)
            for a, b in zip(mine, its, strict=True)
        )
        for mine, its in zip(one, other, strict=True)
    )
