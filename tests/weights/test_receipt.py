from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qzoo.errors import WeightsError
from qzoo.weights.artifact import versions
from qzoo.weights.receipt import ExactMargins, Predictions, Receipt, ReceiptInfo, load_receipt, save_receipt

INFO = ReceiptInfo(
    name="x_int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, ranges_sha256="c" * 64, dataset="digits",
    split="test", complete=True, classes=10, top1={"float": 90.0, "quantized": 89.0}, top5={}, date="2026-11-25",
    environment={"cpu": "some", "threads": 2}, **versions(),
)  # fmt: skip
PATH = "x.receipt.safetensors"


def predictions(images: int, classes: int) -> Predictions:
    top = torch.stack([torch.randperm(classes)[:5] for _ in range(images)])
    return Predictions(top, torch.rand(images))


def top1(found: Predictions, labels: torch.Tensor) -> float:
    return 100 * float((found.top[:, 0] == labels).double().mean())


def receipt(images: int = 20, classes: int = 10) -> Receipt:
    exact = ExactMargins(torch.tensor([3, 1]), torch.rand(2).double(), torch.rand(2).double())
    ids = torch.randint(0, 256, (images, 16), dtype=torch.uint8)
    one, other = predictions(images, classes), predictions(images, classes)
    labels = torch.randint(0, classes, (images,))
    figures = {"float": top1(one, labels), "quantized": top1(other, labels)}
    info = INFO.model_copy(update={"classes": classes, "top1": figures})
    return Receipt(ids, labels, one, other, exact, info)


@pytest.mark.parametrize("classes", [3, 10, 1000, 40_000])
def test_comes_back_as_it_was(classes: int, tmp_path: Path) -> None:
    made = receipt(classes=classes)
    save_receipt(tmp_path / PATH, made)
    read = load_receipt(tmp_path / PATH)
    assert torch.equal(read.ids, made.ids)
    assert torch.equal(read.labels, made.labels)
    for one, other in ((read.float_model, made.float_model), (read.quantized, made.quantized)):
        assert torch.equal(one.top, other.top)
        assert torch.equal(one.margins, other.margins)
    assert torch.equal(read.exact.rows, made.exact.rows)
    assert torch.equal(read.exact.quantized, made.exact.quantized)
    assert read.info == made.info
    assert len(read) == 20


def test_float_and_quantized_may_be_the_same_tensors(tmp_path: Path) -> None:
    made = receipt()
    same = ExactMargins(made.exact.rows, made.exact.quantized, made.exact.quantized)
    figures = dict.fromkeys(("float", "quantized"), made.info.top1["quantized"])
    info = made.info.model_copy(update={"top1": figures})
    save_receipt(tmp_path / PATH, replace(made, float_model=made.quantized, exact=same, info=info))
    assert torch.equal(load_receipt(tmp_path / PATH).float_model.top, made.quantized.top)


def test_ten_thousand_images_of_ten_classes_fit_into_half_a_megabyte(tmp_path: Path) -> None:
    made = receipt(images=10_000)
    exact = ExactMargins(torch.arange(500), torch.rand(500).double(), torch.rand(500).double())
    save_receipt(tmp_path / PATH, replace(made, exact=exact))
    assert (tmp_path / PATH).stat().st_size < 500_000


@pytest.mark.parametrize("what", ["class", "negative class", "nan", "negative margin", "row", "exact nan", "infinite"])
def test_predictions_that_no_model_makes_are_refused(what: str, tmp_path: Path) -> None:
    made = receipt()
    if what == "class":
        made.quantized.top[0, 0] = 10
    elif what == "negative class":
        made.float_model.top[0, 0] = -1
    elif what == "nan":
        made.quantized.margins[0] = torch.nan
    elif what == "negative margin":
        made.float_model.margins[0] = -1
    elif what == "row":
        made.exact.rows[0] = 20
    elif what == "infinite":
        made.exact.quantized[:] = torch.inf
    else:
        made.exact.quantized[0] = torch.nan
    save_receipt(tmp_path / PATH, made)
    with pytest.raises(WeightsError, match=r"holds predictions that no model of 10 classes makes\. `qzoo evaluate"):
        load_receipt(tmp_path / PATH)


def test_shapes_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    made = receipt()
    save_receipt(tmp_path / PATH, replace(made, ids=made.ids[:5]))
    with pytest.raises(WeightsError, match=r"labels is missing, unknown, or of another shape or dtype"):
        load_receipt(tmp_path / PATH)


@pytest.mark.parametrize("classes", [0, 2**31, 2**70])
def test_so_many_classes_no_model_has(classes: int, tmp_path: Path) -> None:
    # As many as would make the labels int32, so that it is the number alone that is refused.
    made = receipt(classes=40_000)
    save_receipt(tmp_path / PATH, replace(made, info=made.info.model_copy(update={"classes": classes})))
    with pytest.raises(WeightsError, match=r"does not understand \(fields: classes\)"):
        load_receipt(tmp_path / PATH)


def test_a_figure_that_is_not_that_of_the_predictions_is_refused(tmp_path: Path) -> None:
    made = receipt()
    for change in ({"top1": {"float": 99.9, "quantized": 99.99}}, {"top5": {"quantized": 120.0}}):
        save_receipt(tmp_path / PATH, replace(made, info=made.info.model_copy(update=change)))
        with pytest.raises(WeightsError, match=r"states figures that are not those of its predictions"):
            load_receipt(tmp_path / PATH)
    save_receipt(tmp_path / PATH, replace(made, labels=torch.full_like(made.labels, -1)))
    with pytest.raises(WeightsError, match=r"states figures that are not"):
        load_receipt(tmp_path / PATH)
