"""Operators as matrix products: patches against loops over the definition of each operator, in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch.nn import functional as F

from qzoo.optimization.closed_form.matrix_form import (
    PIECE,
    Form,
    as_matrices,
    as_weight,
    form_of,
    input_columns,
    mean_column,
    output_columns,
)
from tests.each import for_each

CONVOLUTIONS = [
    (1, {}),
    (1, {"stride": 3, "padding": 2, "dilation": 2}),
    (2, {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    (2, {"padding": (2, 0), "stride": (1, 3)}),
    (2, {"groups": 4}),
    (2, {"padding": "valid"}),
    (3, {"padding": 1, "groups": 2}),
]
TRANSPOSED = [
    (1, {"stride": 2, "padding": 1, "output_padding": 1}),
    (2, {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "output_padding": 1}),
    (2, {"stride": (3, 1), "padding": (0, 2)}),
    (3, {"groups": 4}),
]


def each(value: object, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (int(value),) * dims  # type: ignore[call-overload]


def patches(x: np.ndarray, kernel: tuple[int, ...], options: dict[str, object]) -> np.ndarray:
    """The patch under the kernel at each place of the output, one place after the other."""
    dims, groups = len(kernel), int(options.get("groups", 1))  # type: ignore[call-overload]
    stride, dilation = (each(options.get(name, 1), dims) for name in ("stride", "dilation"))
    padding = each(0 if options.get("padding") == "valid" else options.get("padding", 0), dims)
    x = np.pad(x, [(0, 0), (0, 0), *((one, one) for one in padding)])
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(x.shape[2:], dilation, kernel, stride, strict=True)]
    columns = []
    for image in x:
        for place in itertools.product(*map(range, sizes)):
            taps = [
                [p * s + k * d for k in range(n)] for p, s, n, d in zip(place, stride, kernel, dilation, strict=True)
            ]
            columns.append(image[np.ix_(range(len(image)), *taps)].reshape(groups, -1))
    return np.stack(columns, -1)


def transposed_patches(
    x: np.ndarray, kernel: tuple[int, ...], out: tuple[int, ...], options: dict[str, object]
) -> np.ndarray:
    """What each place of a transposed convolution's output is made of: input `p` goes to `p * s + k * d - padding`."""
    dims, groups = len(kernel), int(options.get("groups", 1))  # type: ignore[call-overload]
    stride, dilation = (each(options.get(name, 1), dims) for name in ("stride", "dilation"))
    padding = each(options.get("padding", 0), dims)
    columns = np.zeros((len(x), *out, x.shape[1], *kernel))
    for place in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, kernel)):
            to = [p * s + k * d - a for p, s, k, d, a in zip(place, stride, tap, dilation, padding, strict=True)]
            if all(0 <= one < size for one, size in zip(to, out, strict=True)):
                columns[(slice(None), *to, slice(None), *tap)] += x[(..., *place)]
    return np.moveaxis(columns.reshape(-1, groups, columns[0].size // int(np.prod(out)) // groups), 0, -1)


def as_rows(y: np.ndarray, groups: int) -> np.ndarray:
    return np.moveaxis(y, 1, 0).reshape(groups, y.shape[1] // groups, -1)


def assert_outputs_go_with_inputs(form: Form, x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor) -> None:
    """Thinned out or not, what lies at the places of the inputs is their product."""
    for step in (1, 3, 1000):
        columns = torch.cat([*input_columns(form, x, tuple(weight.shape), step)], 2)
        torch.testing.assert_close(as_matrices(form, weight) @ columns, output_columns(form, y, step))


@for_each("dims, options", CONVOLUTIONS)
def test_columns_of_a_convolution_are_its_patches(dims: int, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, *(9, 7, 5)[:dims]), torch.randn(8, 4 // options.get("groups", 1), *(3, 2, 2)[:dims])  # type: ignore[operator]
    form = form_of(f"conv{dims}d", "weight", weight, (x, weight), options)
    assert form is not None
    columns = torch.cat([*input_columns(form, x, tuple(weight.shape))], 2).numpy()
    np.testing.assert_array_equal(columns, patches(x.numpy(), tuple(weight.shape[2:]), options).astype(np.float32))
    y = getattr(F, f"conv{dims}d")(x, weight, **options).numpy()
    np.testing.assert_allclose(as_matrices(form, weight).numpy() @ columns, as_rows(y, form.groups), atol=1e-5)
    assert_outputs_go_with_inputs(form, x, weight, torch.from_numpy(y))
    mean = mean_column(form, x, tuple(weight.shape)).numpy()
    np.testing.assert_allclose(mean, columns.mean(2, keepdims=True), atol=1e-6)


@for_each("dims, options", TRANSPOSED)
def test_columns_of_a_transposed_convolution_are_what_its_output_is_made_of(
    dims: int, options: dict[str, object]
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, *(5, 4, 3)[:dims]), torch.randn(4, 8 // options.get("groups", 1), *(3, 2, 2)[:dims])  # type: ignore[operator]
    form = form_of(f"conv_transpose{dims}d", "weight", weight, (x, weight), options)
    assert form is not None
    y = getattr(F, f"conv_transpose{dims}d")(x, weight, **options).numpy()
    columns = torch.cat([*input_columns(form, x, tuple(weight.shape))], 2).numpy()
    expected = transposed_patches(x.numpy(), tuple(weight.shape[2:]), y.shape[2:], options)
    np.testing.assert_array_equal(columns, expected.astype(np.float32))
    np.testing.assert_allclose(as_matrices(form, weight).numpy() @ columns, as_rows(y, form.groups), atol=1e-5)
    assert_outputs_go_with_inputs(form, x, weight, torch.from_numpy(y))


def test_same_padding_of_an_even_kernel_is_longer_at_the_end() -> None:
    x, weight = torch.randn(1, 1, 6), torch.randn(1, 1, 4)
    form = form_of("conv1d", "weight", weight, (x, weight, None, 1, "same"), {})
    assert form is not None
    (columns,) = input_columns(form, x, (1, 1, 4))
    np.testing.assert_array_equal(columns[0, :, 0], [0, *x[0, 0, :3]])
    assert columns.shape[2] == 6


@for_each("operand, shape", [("left", (3, 4)), ("right", (4, 3))])
def test_a_matrix_product_has_its_weight_on_either_side(operand: str, shape: tuple[int, int]) -> None:
    weight = torch.randn(shape)
    x = torch.randn(2, 4, 5) if operand == "left" else torch.randn(2, 5, 4)
    form = Form("matmul", operand)
    (columns,) = input_columns(form, x, shape)
    y = (weight @ x).transpose(1, 2) if operand == "left" else x @ weight
    torch.testing.assert_close((as_matrices(form, weight) @ columns)[0].t(), y.reshape(-1, 3))
    wanted = x.mean((0, 2 if operand == "left" else 1))
    torch.testing.assert_close(mean_column(form, x, shape)[0, :, 0], wanted)
    assert_outputs_go_with_inputs(form, x, weight, weight @ x if operand == "left" else x @ weight)


def test_a_weight_comes_back_from_its_matrices() -> None:
    for op, groups, shape in [
        ("conv2d", 2, (6, 4, 3, 2)),
        ("conv_transpose2d", 2, (6, 4, 3, 2)),
        ("linear", 1, (3, 4)),
    ]:
        weight = torch.randn(shape)
        form = Form(op, "weight", groups, *((1, 1),) * (3 if op != "linear" else 0))
        assert torch.equal(as_weight(form, as_matrices(form, weight), shape), weight)


def test_many_images_come_in_pieces() -> None:
    x = torch.ones(4, 1, PIECE // 8)
    form = Form("conv1d", "weight", 1, (1,), (0,), (1,))
    assert [piece.shape[2] for piece in input_columns(form, x, (1, 1, 4))] == [2 * (PIECE // 8 - 3)] * 2


def test_thinned_columns_are_evenly_spread_over_the_image() -> None:
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    form = Form("conv2d", "weight", 1, (1, 1), (0, 0), (1, 1))
    (columns,) = input_columns(form, x, (1, 1, 1, 1), step=16)
    assert columns.flatten().tolist() == [18, 22, 50, 54]
