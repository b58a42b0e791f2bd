"""What a unit is given and is to give, for all images: files that are mapped into memory, a unit's at a time.

In memory are at most two batches on their way through the models and two minibatches of the unit; the files are in the
page cache as far as there is room. On disk are three times the activations of a unit and of the one before it, of all
images, in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from qzoo.errors import CalibrationError
from qzoo.optimization.units.calls import Given, passes
from qzoo.optimization.units.find import Unit
from qzoo.quant.eval_mode import device_of


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
        sizes: how many rows each batch of the model has.
    """

    given: Given
    floats: Tensor
    quantized: Tensor
    targets: Tensor
    rows: int
    dtype: torch.dtype
    sizes: tuple[int, ...] = ()


class UnitWalk:
    """Goes through the units of a model, one after the other, and gives what each is given and is to give.

    A unit that is given just what the one before it gives, is given that; for any other both models run up to it. So
    the work of all units together is that of a few passes. Batches are those of the model in either case, so that a
    walk gives the same bits each time.

    Args:
        model: quantized, in evaluation mode.
        float_model: in evaluation mode.
        batches: inputs of the models, which can be gone through again.
        images: how many images they hold.
        own_targets: targets are what the float unit makes of quantized inputs, not of its own.
        folder: where the files lie; default: the system's place for such files.
    """

    def __init__(
        self, model: nn.Module, float_model: nn.Module, batches: Iterable[Any], images: int,
        *, own_targets: bool = False, folder: Path | None = None,
    ) -> None:  # fmt: skip
        self._model, self._float_model, self._own_targets = model, float_model, own_targets
        self._batches, self._images, self._folder = batches, images, folder
        self._before: tuple[Unit, UnitInputs] | None = None
        self._files = ExitStack()

    def at(self, unit: Unit) -> UnitInputs:
        """Returns the inputs of the next unit; those of the unit before are gone then.

        Args:
            unit: one that can be run by itself. The units before it are in the quantized model as they are to be.

        Raises:
            CalibrationError: images have several sizes.
        """
        files, before = ExitStack(), self._before
        try:
            name = files.enter_context(tempfile.TemporaryDirectory(prefix="qzoo-", dir=self._folder))
            kept = [files.enter_context(closing(TensorFile(Path(name, what)))) for what in _FILES]
            given = self._from(*before) if before is not None and unit.follows else self._from_images(unit)
            found = self._written(unit, given, kept)
        except BaseException:
            files.close()
            raise
        self.close()
        self._files, self._before = files, (unit, found)
        return found

    def close(self) -> None:
        """Removes the files of the last unit."""
        self._files.close()
        self._before = None

    def _from_images(self, unit: Unit) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the inputs of a unit, float and quantized, batch by batch."""
        both = (passes(model, unit.paths, self._batches) for model in (self._float_model, self._model))
        yield from zip(*both, strict=True)

    def _from(self, before: Unit, inputs: UnitInputs) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what the unit before makes of its inputs."""

        def made(model: nn.Module, rows: Tensor) -> Tensor:
            # It may write to its input, which is in a file.
            x = rows.to(device_of(model), inputs.dtype, copy=True)
            return run_unit(model, before.paths, inputs.given, x)

        batches = (rows.split(inputs.sizes) for rows in (inputs.floats, inputs.quantized))
        for floats, quantized in zip(*batches, strict=True):
            yield made(self._float_model, floats), made(self._model, quantized)

    def _written(self, unit: Unit, given: Iterable[tuple[Tensor, Tensor]], files: list[TensorFile]) -> UnitInputs:
        assert unit.given is not None
        sizes, dtype = [], torch.float32
        with torch.no_grad():
            for floats, quantized in given:
                x = (quantized if self._own_targets else floats).clone()
                for file, rows in zip(files, (floats, quantized), strict=False):
                    file.append(rows)
                files[2].append(run_unit(self._float_model, unit.paths, unit.given, x))
                sizes.append(len(quantized))
                dtype = quantized.dtype
            floats, quantized, targets = (file.mapped() for file in files)
        rows_of_one = max(len(floats) // max(self._images, 1), 1)
        return UnitInputs(unit.given, floats, quantized, targets, rows_of_one, dtype, tuple(sizes))


_FILES = ("floats", "quantized", "targets")


def run_unit(model: nn.Module, paths: tuple[str, ...], given: Given, x: Tensor) -> Tensor:
    """Returns what a unit makes of rows; it may write to them."""
    y = given.call(model.get_submodule(paths[0]), x)
    for path in paths[1:]:
        y = model.get_submodule(path)(y)
    return y
