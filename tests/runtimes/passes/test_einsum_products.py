from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qzoo

pytestmark = pytest.mark.runtimes

EQUATIONS = {
    "bi,oi->bo": ((3, 6), (5, 6)),
    "bti,io->bto": ((3, 4, 6), (6, 5)),
    "bchw,oc->bohw": ((3, 6, 4, 2), (5, 6)),
    "bthk,hkd->btd": ((3, 4, 2, 3), (2, 3, 5)),
    "btd,dhk->bhtk": ((3, 4, 6), (6, 2, 5)),
    "oi,bi->bo": ((5, 6), (3, 6)),
}
LEFT_ALONE = {
    "bni,nio->bno": ((3, 2, 6), (2, 6, 5)),  # a batch of weights
    "bi,oi->b": ((3, 6), (5, 6)),  # channels are summed over
}


class Products(nn.Module):
    """Computes all equations of one input each, and gives what they sum to."""

    def __init__(self, equations: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.equations, self.turned = equations, [equation.startswith("oi,") for equation in equations]
        self.first = nn.Linear(48, 48)
        weights = [one[0] if turned else one[1] for one, turned in zip(equations.values(), self.turned, strict=True)]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in weights])

    def forward(self, x: Tensor) -> Tensor:
        x, sums = self.first(x), []
        for (equation, shapes), weight, turned in zip(self.equations.items(), self.weights, self.turned, strict=True):
            shape = shapes[1] if turned else shapes[0]
            given = x[:, : torch.Size(shape[1:]).numel()].reshape(-1, *shape[1:])
            y = torch.einsum(equation, weight, given) if turned else torch.einsum(equation, given, weight)
            sums.append(y.flatten(1).sum(1) if y.dim() > 1 else y)
        return torch.stack(sums, 1)


def exported(equations: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], path: Path) -> qzoo.ExportReport:
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    model = qzoo.calibrate(qzoo.quantize(Products(equations).eval(), "int8", example=x), [x])
    return qzoo.export(model, path, "onnxruntime", images=[x])


def test_products_with_stored_weights_are_matrix_products_of_integers(tmp_path: Path) -> None:
    report = exported(EQUATIONS, tmp_path / "model.onnx")
    assert (report.quantized_layers, report.layers) == (len(EQUATIONS) + 1, len(EQUATIONS) + 1)
    assert report.parity is not None
    assert max(node.alone for node in report.parity.nodes) <= 1
    assert report.parity.logit_difference_plain <= 1e-4 * report.parity.largest_logit


def test_what_is_no_matrix_product_stays_as_it_is(tmp_path: Path) -> None:
    report = exported(LEFT_ALONE, tmp_path / "model.onnx")
    assert (report.quantized_layers, report.layers) == (1, 3)
    assert report.parity is not None
    assert report.parity.agreement_plain == 100
