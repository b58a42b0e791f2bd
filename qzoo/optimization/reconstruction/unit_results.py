"""What was learned of a unit: put into the model, kept in a file until all are done, and found again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qzoo.files import replacing
from qzoo.optimization.units.find import Unit
from qzoo.quant.ranges import quantizers
from qzoo.results.optimization import Change
from qzoo.schema.optimize import LearnedRounding
from qzoo.weights.artifact import content_digest

UNIT_FILES = "unit-*.safetensors"
"""What the files of units are called."""


class UnitResult(NamedTuple):
    """The weights and ranges of a unit.

    Attributes:
        weights: by the path of their quantizer, float.
        ranges: what the quantizers of activations hold, keyed as in the state dict.
        change: what is told of it.
    """

    weights: dict[str, Tensor]
    ranges: dict[str, Tensor]
    change: Change


def held(unit: Unit) -> UnitResult:
    """Returns a copy of what is in the model now."""
    weights = {path: one.values.detach().clone() for path, one in unit.weights.items() if one.values is not None}
    ranges = {name: buffer.detach().clone() for name, buffer in _ranges(unit).items()}
    return UnitResult(weights, ranges, Change(path=unit.path))


def _ranges(unit: Unit) -> dict[str, Tensor]:
    return {f"{path}.{name}": buffer for path, one in unit.activations.items() for name, buffer in one.named_buffers()}


def put(unit: Unit, result: UnitResult) -> None:
    """Puts weights and ranges into the model, in place."""
    with torch.no_grad():
        for path, values in result.weights.items():
            own = unit.weights[path].values
            assert own is not None
            own.copy_(values)
        for name, buffer in _ranges(unit).items():
            buffer.copy_(result.ranges[name])


def digest_of(model: nn.Module, float_model: nn.Module, spec: LearnedRounding, seed: int, key: str) -> str:
    """Returns a SHA-256 of all that the results of units depend on."""
    specs = {path: str(quantizer.spec) for path, quantizer in quantizers(model).items()}
    said = {
        "spec": spec.model_dump(mode="json"), "seed": seed, "key": key, "quantizers": specs,
        "model": content_digest(model.state_dict()), "float": content_digest(float_model.state_dict()),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class UnitFiles:
    """A file for each unit that is done.

    Args:
        folder: where they lie; None: nothing is kept.
        digest: of all that they depend on; files of another one are not touched.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._folder, self._digest = folder, digest

    def has(self, index: int) -> bool:
        """Whether a unit is done."""
        return self._read(index) is not None

    def load(self, index: int, unit: Unit) -> UnitResult | None:
        """Returns the result of a unit; None if it is not done."""
        found = self._read(index)
        if found is None:
            return None
        tensors, change = found
        weights = {path: tensors[f"weight:{path}"] for path in unit.weights}
        return UnitResult(weights, {name: tensors[f"range:{name}"] for name in _ranges(unit)}, change)

    def save(self, index: int, result: UnitResult) -> None:
        """Writes the result of a unit, in one step."""
        if self._folder is None:
            return
        tensors = {f"weight:{path}": values for path, values in result.weights.items()}
        tensors |= {f"range:{name}": buffer for name, buffer in result.ranges.items()}
        content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        said = {"digest": self._digest, "change": result.change.model_dump_json()}
        with replacing(self._path(index)) as unfinished:
            save_file(content, unfinished, said)

    def _path(self, index: int) -> Path:
        assert self._folder is not None
        return self._folder / f"unit-{self._digest[:16]}-{index:03}.safetensors"

    def _read(self, index: int) -> tuple[dict[str, Tensor], Change] | None:
        if self._folder is None or not self._path(index).is_file():
            return None
        try:
            with safe_open(self._path(index), framework="pt") as file:
                said = file.metadata() or {}
                if said.get("digest") != self._digest:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, Change.model_validate_json(said["change"])
        except (SafetensorError, OSError):
            return None  # damaged, so it is learned again
