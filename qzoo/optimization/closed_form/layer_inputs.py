"""Second moments of the inputs of weights: what rounding and moving weights in closed form is computed from.

Gathered as images pass, for many layers in one pass; no inputs are kept. Where the moments of all layers at once would
take too much memory, there are several passes, each for some of the layers; the later ones see what was done before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.closed_form.matrix_form import Form, as_matrices, as_weight, input_columns
from qzoo.optimization.closed_form.moments import Moments, Products
from qzoo.optimization.closed_form.products import Part, Product, watching
from qzoo.quant.inputs import run, with_images
from qzoo.quant.ranges import switched_off
from qzoo.quant.weights import QuantizedWeight

MEMORY = 2**29
"""How many bytes the moments of one pass take at most, unless those of one layer take more."""
PLACES_A_COLUMN = 16
"""How many places of inputs are looked at for each column of a weight; more of them are thinned out evenly."""


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
    def read(self) -> tuple[str, Part]:
        """What products with it are known by."""
        return self.weight, self.part

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of groups, and of the weight's rows and columns in each."""
        groups, rows, columns = as_matrices(self.form, torch.empty(self.part.size, device="meta")).shape
        return groups, rows, columns

    @property
    def columns(self) -> int:
        """The number of the weight's columns in each group."""
        return self.shape[2]

    def memory(self, *, products: bool) -> int:
        """Returns the size of its moments in bytes, without or with those of its products."""
        groups, rows, columns = self.shape
        return 4 * groups * columns * (columns + rows * products)

    def matrices(self, whole: Tensor) -> Tensor:
        """Returns the part of a tensor of the parameter's shape and strides as `(groups, rows, columns)`, float32."""
        return as_matrices(self.form, self.part.of(whole)).float()

    def write(self, whole: Tensor, matrices: Tensor) -> None:
        """Writes matrices to the part of a tensor of the parameter's shape and strides."""
        self.part.of(whole).copy_(as_weight(self.form, matrices, self.part.size))


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


def by_weight(reads: Iterable[Read]) -> dict[str, list[Read]]:
    """Returns what is read of each weight, in order."""
    found: dict[str, list[Read]] = defaultdict(list)
    for read in reads:
        found[read.weight].append(read)
    return found


def in_passes(reads: Iterable[Read], *, products: bool = False) -> Iterator[list[Read]]:
    """Yields what is gathered in one pass each: weight by weight, in order, as many as `MEMORY` holds.

    Args:
        reads: all.
        products: whether moments of products are gathered too.
    """
    taken: list[list[Read]] = []
    for parts in by_weight(reads).values():
        if taken and sum(read.memory(products=products) for read in chain(*taken, parts)) > MEMORY:
            yield [*chain(*taken)]
            taken = []
        taken.append(parts)
    if taken:
        yield [*chain(*taken)]


def gather(
    model: nn.Module,
    weights: Mapping[str, QuantizedWeight],
    reads: Collection[Read],
    batches: Iterable[Any],
    *,
    products: bool = False,
    images: int | None = None,
) -> dict[Read, Moments]:
    """Returns the moments of the inputs of some weights, of one pass over the images.

    Activations are quantized in it and weights are not: below eight bits nearest rounding may leave so little of a
    network that what its later layers are given is no guide.

    Args:
        model: quantized, with ranges; left as it is.
        weights: all of its quantized weights that are parameters.
        reads: what to look at.
        batches: inputs of the model.
        products: whether `Products` are wanted, by which the weights' products with quantized inputs are off those with
            what the inputs were before.
        images: how many images there are, if known: then inputs are thinned out to `PLACES_A_COLUMN`.
    """
    found = {read.read: (read, _moments(read, weights[read.weight], products)) for read in reads}

    def see(product: Product) -> None:
        if product.read in found:
            _add(*found[product.read], product, thinning(found[product.read][0], images))

    with switched_off(one.quantizer for one in weights.values()):
        for batch in batches:
            with watching(model, weights, see):
                run(model, batch)
    return dict(found.values())


def _moments(read: Read, weight: QuantizedWeight, products: bool) -> Moments:
    assert weight.values is not None
    if not products:
        return Moments()
    return Products(read.matrices(weight.values.detach()), "its inputs are not quantized, or changed after that")


def _add(read: Read, moments: Moments, product: Product, step: int) -> None:
    inputs = input_columns(product.form, product.input, read.part.size, step)
    if not isinstance(moments, Products):
        for x in inputs:
            moments.add(x)
    elif product.exact is not None:
        for x, exact in zip(inputs, input_columns(product.form, product.exact, read.part.size, step), strict=True):
            moments.add_products(x, moments.weight @ exact.float())


def thinning(read: Read, images: int | None, places_a_column: int = PLACES_A_COLUMN) -> int:
    """Returns which places of its inputs are looked at: one of so many; all, where nobody knows how many there are."""
    wanted = places_a_column * read.columns
    return 1 if images is None else max(1, read.places * images // wanted)
