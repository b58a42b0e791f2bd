"""Second moments of the inputs of weights: what rounding and moving weights in closed form is computed from.

Gathered as images pass, for many layers in one pass; no inputs are kept. Where the moments of all layers at once would
take too much memory, or what is done to the first layers is to be seen by the later ones, there are several passes,
each for some of the layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.matrix_form import Form, as_matrices, as_weight, input_columns
from qzoo.optimization.products import Part, Product, watching
from qzoo.quant.inputs import batch_size, run, with_images
from qzoo.quant.weights import QuantizedWeight

MEMORY = 2**29
"""How many bytes the moments of one pass take at most, unless those of one layer take more."""
PLACES_A_COLUMN = 32
"""How many places of inputs are looked at for each column of a weight; more of them are thinned out evenly."""
Progress = Callable[[Iterable[Any], int | None, str], Iterable[Any]]
"""Passes batches on, and shows how far they are: given the batches, how many images they hold, and what is done."""


def silent(batches: Iterable[Any], images: int | None, what: str) -> Iterable[Any]:
    """The progress that shows nothing."""
    return batches


class Read(NamedTuple):
    """A weight, or a part of one, that operators multiply by, in the order of evaluation.

    Attributes:
        weight: the path of the weight's quantizer.
        part: which part of it.
        form: how it is multiplied.
        places: how many columns its inputs have, for one image.
    """

    weight: str
    part: Part
    form: Form
    places: int

    @property
    def columns(self) -> tuple[int, int]:
        """The number of groups, and of the weight's columns in each."""
        groups, _, columns = as_matrices(self.form, torch.empty(self.part.size, device="meta")).shape
        return groups, columns

    @property
    def memory(self) -> int:
        """The size of its second moments, in bytes."""
        groups, columns = self.columns
        return 4 * groups * columns**2

    def matrices(self, whole: Tensor) -> Tensor:
        """Returns the part of a tensor of the parameter's shape and strides as `(groups, rows, columns)`, float32."""
        return as_matrices(self.form, self.part.of(whole)).float()

    def write(self, whole: Tensor, matrices: Tensor) -> None:
        """Writes matrices to the part of a tensor of the parameter's shape and strides."""
        self.part.of(whole).copy_(as_weight(self.form, matrices, self.part.size))


class Moments:
    """Sums over all places of inputs `x`, and of `x0`, what the float model has there.

    Attributes:
        own: the sum of `x x^T`, float32 `(groups, columns, columns)`.
        cross: the sum of `x0 x^T`; None where no float model was asked.
        places: how many places were summed.
    """

    def __init__(self) -> None:
        self.own: Tensor | None = None
        self.cross: Tensor | None = None
        self.places = 0

    def add(self, x: Tensor, x0: Tensor | None = None) -> None:
        """Adds inputs `(groups, columns, places)`."""
        x = x.float()
        self.own = _added(self.own, x, x)
        if x0 is not None:
            self.cross = _added(self.cross, x0.float(), x)
        self.places += x.shape[2]

    @property
    def hessian(self) -> Tensor:
        """The mean of `x x^T`: half of the Hessian of a row's squared error, `(groups, columns, columns)`."""
        assert self.own is not None
        return self.own / self.places


def _added(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    right = right.transpose(1, 2)
    return left @ right if total is None else total.baddbmm_(left, right)


def reads_of(model: nn.Module, weights: Mapping[str, QuantizedWeight], inputs: Any) -> list[Read]:
    """Returns what a model multiplies by, in the order of evaluation.

    Args:
        model: quantized; it runs once, on the first of the inputs.
        weights: those to look for.
        inputs: a batch.
    """
    found: dict[tuple[str, Part], Read] = {}

    def see(product: Product) -> None:
        _, rows, _ = as_matrices(product.form, product.part.of(_like(weights[product.weight]))).shape
        places = product.output.numel() // (rows * product.form.groups)
        before = found.get(product.read)
        places += 0 if before is None else before.places
        found[product.read] = Read(*product.read, product.form if before is None else before.form, places)

    with watching(model, weights, see):
        run(model, with_images(inputs, 1))
    return list(found.values())


def _like(weight: QuantizedWeight) -> Tensor:
    assert weight.values is not None
    return torch.empty_like(weight.values, device="meta")


def in_passes(reads: list[Read], at_least: int) -> Iterator[list[Read]]:
    """Yields what is gathered in one pass each: weight by weight, in the order of evaluation.

    Args:
        reads: all.
        at_least: into how many passes they are put, about evenly; more where memory asks for more.
    """
    weights: dict[str, list[Read]] = defaultdict(list)
    for read in reads:
        weights[read.weight].append(read)
    length = -(-len(weights) // at_least)
    taken: list[list[Read]] = []
    for parts in weights.values():
        if taken and (len(taken) == length or _memory([*taken, parts]) > MEMORY):
            yield sum(taken, [])
            taken = []
        taken.append(parts)
    if taken:
        yield sum(taken, [])


def _memory(weights: list[list[Read]]) -> int:
    return sum(read.memory for parts in weights for read in parts)


def gather(
    model: nn.Module,
    weights: Mapping[str, QuantizedWeight],
    reads: Collection[Read],
    batches: Iterable[Any],
    *,
    float_model: nn.Module | None = None,
    images: int | None = None,
) -> dict[Read, Moments]:
    """Returns the moments of the inputs of some weights, of one pass over the images.

    Args:
        model: quantized, with ranges; left as it is.
        weights: all of its quantized weights.
        reads: what to look at.
        batches: inputs of the model.
        float_model: what else sees them, for the moments across; its parameters have the same names.
        images: how many images there are, if known: then inputs are thinned out to `PLACES_A_COLUMN`.
    """
    found = {(read.weight, read.part): (read, Moments(), _step(read, images)) for read in reads}
    own = {path: weights[path] for path in {read.weight for read in reads}}
    # What the float model multiplied with, until the quantized one does.
    floats: dict[tuple[str, Part], list[Tensor]] = defaultdict(list)

    def see(product: Product) -> None:
        if product.read in found:
            read, moments, step = found[product.read]
            x0 = floats[product.read].pop(0) if floats.get(product.read) else None
            _add(moments, read, product.input, x0, step)

    for batch in batches:
        if float_model is not None:
            with watching(float_model, own, lambda one: floats[one.read].append(one.input)):
                run(float_model, batch)
        with watching(model, own, see):
            run(model, batch)
        floats.clear()
    return {read: moments for read, moments, _ in found.values()}


def _add(moments: Moments, read: Read, x: Tensor, x0: Tensor | None, step: int) -> None:
    columns = input_columns(read.form, x, read.part.size, step)
    if x0 is None:
        for piece in columns:
            moments.add(piece)
        return
    for piece, of_float in zip(columns, input_columns(read.form, x0, read.part.size, step), strict=True):
        moments.add(piece, of_float)


def _step(read: Read, images: int | None) -> int:
    wanted = PLACES_A_COLUMN * read.columns[1]
    return 1 if images is None else max(1, read.places * images // wanted)


def images_in(batches: Iterable[Any]) -> int | None:
    """Returns how many images batches hold, where they are a list; None where they have to be read for it."""
    return sum(map(batch_size, batches)) if isinstance(batches, (list, tuple)) else None
