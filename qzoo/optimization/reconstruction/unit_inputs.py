"""What a unit is given and is to give, for all images: files that are mapped into memory, a unit's at a time.

In memory are at most two batches on their way through the model and two minibatches of the unit; the files are in the
page cache as far as there is room. On disk are three times the unit's activations of all images, in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from qzoo.errors import CalibrationError
from qzoo.optimization.reconstruction.unit_calls import Given, passes


class TensorFile:
    """Rows of one shape, written one after the other and read in any order.

    Args:
        path: of the file, which is made anew.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = TensorFile(Path(folder, "x"))
        ...     rows.append(torch.tensor([[1.0], [2.0]]))
        ...     rows.append(torch.tensor([[3.0]]))
        ...     rows.mapped()[torch.tensor([2, 0])]
        tensor([[3.],
                [1.]])
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb")
        self._shape: torch.Size | None = None
        self._rows = 0

    def append(self, rows: Tensor) -> None:
        """Writes rows of any float dtype, as float32.

        Raises:
            CalibrationError: they have another shape than the rows before.
        """
        if self._shape not in (None, rows.shape[1:]):
            raise CalibrationError(
                f"Images of several sizes can't be learned from: a unit was given rows of {tuple(rows.shape[1:])} "
                f"after some of {tuple(self._shape or ())}. Give images of one size."
            )
        self._file.write(rows.detach().float().cpu().contiguous().numpy().data)
        self._shape, self._rows = rows.shape[1:], self._rows + len(rows)

    def close(self) -> None:
        """Ends writing."""
        self._file.close()

    def mapped(self) -> Tensor:
        """Returns all rows, in the memory of the file; float32. Nothing is appended any more."""
        self.close()
        assert self._shape is not None
        size = self._rows * self._shape.numel()
        return torch.from_file(str(self._path), shared=False, size=size).view(self._rows, *self._shape)


@dataclass(frozen=True)
class UnitInputs:
    """All rows of a unit; float32, on the CPU.

    Attributes:
        given: how the unit is called.
        floats: what the float model gives it.
        quantized: what the quantized model gives it, whose earlier units are done.
        targets: what it is to give.
        rows: how many rows an image has.
        dtype: that in which the unit is given them.
    """

    given: Given
    floats: Tensor
    quantized: Tensor
    targets: Tensor
    rows: int
    dtype: torch.dtype


@contextmanager
def unit_inputs(
    model: nn.Module, float_model: nn.Module, paths: tuple[str, ...], batches: Iterable[Any], images: int,
    *, own_targets: bool, folder: Path | None = None,
) -> Iterator[UnitInputs]:  # fmt: skip
    """Yields what a unit is given and is to give; afterwards the files are gone.

    Args:
        model: quantized, in evaluation mode; run on all batches, up to the unit.
        float_model: in evaluation mode; run on all batches, up to the end of the unit.
        paths: the modules of the unit.
        batches: inputs of the models, which can be gone through again.
        images: how many images they hold.
        own_targets: targets are what the float unit makes of quantized inputs, not of its own.
        folder: where the files lie; default: the system's place for such files.
    """
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="qzoo-", dir=folder))
        floats, quantized, targets = (
            stack.enter_context(closing(TensorFile(Path(name, what)))) for what in ("floats", "quantized", "targets")
        )
        for seen in passes(float_model, paths, batches, through=True):
            floats.append(seen.x)
            if not own_targets and seen.y is not None:
                targets.append(seen.y)
        for seen in passes(model, paths, batches, through=False):
            quantized.append(seen.x)
            if own_targets:
                with torch.no_grad():
                    targets.append(run_unit(float_model, paths, seen.given, seen.x))
        all_floats = floats.mapped()
        rows = max(len(all_floats) // max(images, 1), 1)
        yield UnitInputs(seen.given, all_floats, quantized.mapped(), targets.mapped(), rows, seen.x.dtype)


def run_unit(model: nn.Module, paths: tuple[str, ...], given: Given, x: Tensor) -> Tensor:
    """Returns what a unit makes of rows; it may write to them."""
    y = given.call(model.get_submodule(paths[0]), x)
    for path in paths[1:]:
        y = model.get_submodule(path)(y)
    return y
