"""What is taken for a batch, and what is said of everything else."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import DataError
from qzoo.tasks.inputs.batches import as_batches
from tests.each import for_each

CPU = torch.device("cpu")
X, Y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])


def test_inputs_and_labels_in_every_form() -> None:
    meta = torch.zeros(4, 7)
    items = [X, [X], (X, Y), [X, [0, 1, 2, 3]], (X, np.array([3, 2, 1, 0], np.uint8)), ((X, meta), Y), [[X, meta], Y],
             {"x": X, "meta": meta}, {"x": X, "labels": Y}, ({"x": X}, Y)]  # fmt: skip
    items += [((X, meta),), ((X, meta), None), [[X, [meta, meta]], Y], {"x": X.numpy(), "sizes": [8, 8], "labels": Y},
              UserDict(x=X, label=Y), {"image": X, "ids": torch.ones(4, 3).long()}]  # fmt: skip
    batches = list(as_batches(items, CPU))
    unlabelled = [place for place, batch in enumerate(batches) if batch.labels is None]
    assert unlabelled == [0, 1, 7, 10, 11, 15]
    kinds = [*[Tensor] * 5, tuple, tuple, dict, dict, dict, tuple, tuple, tuple, dict, dict, dict]
    assert [type(batch.inputs) for batch in batches] == kinds
    assert all(batch.images == 4 for batch in batches)
    assert all(batch.labels.dtype == torch.int64 for batch in batches if batch.labels is not None)
    assert set(batches[8].inputs) == {"x"}
    assert batches[13].inputs["sizes"] == [8, 8]
    assert torch.equal(batches[13].inputs["x"], X)
    assert [batch.position for batch in batches] == list(range(16))
    assert [batch.images for batch in as_batches({"x": X, "labels": Y}, CPU)] == [4]


WRONG: dict[str, tuple[Any, str]] = {
    "three elements": (
        (X, Y, Y),
        r"Item 1 of the images has 3 elements \(float32 \(4, 1, 8, 8\), int64 \(4,\), int64 \(4,\)\), and nothing "
        r"tells which are inputs\. Put the inputs together, \(\(x, x2\), y\); or say which .*: to_inputs=lambda item:",
    ),
    "a list of images": (list(X[:3]), r"Item 1 of the images has 3 elements"),
    "two images": (list(X[:2]), r"Item 1 of the images has labels float32 \(1, 8, 8\)\. Labels are whole numbers"),
    "an empty list": ([], "Item 1 of the images has 0 elements"),
    "a path": ("a.png", r"Item 1 of the images is str; expected a tensor \(N, C, H, W\)"),
    "None": (None, "Item 1 of the images is NoneType"),
    "bytes": (X.mul(255).byte(), r"is uint8 \(4, 1, 8, 8\); expected floats, already transformed"),
    "complex": (X.to(torch.complex64), "is complex64"),
    "sparse": (X.to_sparse(), r"is torch.sparse_coo, float32 \(4, 1, 8, 8\); expected an ordinary tensor"),
    "meta": (X.to("meta"), "is on the meta device"),
    "nested": (torch.nested.nested_tensor(list(X), layout=torch.jagged), r"is nested, float32 \(N, \.\.\.\)"),
    "NaN": ((X * torch.nan, Y), r"Item 1 of the images, float32 \(4, 1, 8, 8\), holds NaN or Inf"),
    "Inf": ((X + torch.inf, Y), r"holds NaN or Inf"),
    "a number": (torch.tensor(1.0), r"has shape \(\)"),
    "one image flat": (torch.rand(64), r"has shape \(64,\)"),
    "an array of objects": (np.array([X], dtype=object), "is ndarray; expected a tensor"),
    "an array of bytes": (X.mul(255).byte().numpy(), r"is uint8 \(4, 1, 8, 8\); expected floats, already transformed"),
    "what nothing is known of": (object(), r"is object; expected .*; of anything else, to_inputs= has to make one"),
    "labels of -100": ((X, torch.full((4,), -100)), "has the label -100. Labels are whole numbers from 0"),
    "labels of bool": ((X, Y > 1), r"has labels bool \(4,\)"),
    "labels of float": ((X, Y.float()), r"has labels float32 \(4,\)"),
    "one-hot": ((X, torch.eye(4)), r"has labels float32 \(4, 4\)"),
    "one-hot of integers": ((X, torch.eye(4).long()), r"has labels int64 \(4, 4\)"),
    "two-dimensional labels": ((X, Y.view(4, 1)), r"has labels int64 \(4, 1\)"),
    "a label for all": ((X, 3), r"has labels int64 \(\)"),
    "labels of text": ((X, ["cat"] * 4), "has labels of type list"),
    "meta labels": ((X, Y.to("meta")), "has labels int64"),
    "nested labels": (
        (X, torch.nested.nested_tensor([Y, Y[:3]], layout=torch.jagged)),
        r"has labels int64 \(N, \.\.\.\)",
    ),
    "too few labels": ((X, Y[:3]), "has 4 images but 3 labels"),
    "a mask of classes": ((X, torch.ones(4, 8, 8).long()), "What is no label is left out by to_inputs=lambda item: i"),
    "a second input": ((X, torch.zeros(4, 7)), r"A second input .* stands beside the first: \(\(x, x2\), y\)"),
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return qzoo.create("resnet8_digits_int8", pretrained=True)


def finetune(model: nn.Module, images: list[Any]) -> Any:
    return qzoo.finetune(model, images, epochs=1, lr=1e-4, batch_size=4)


TASKS: dict[str, Callable[[nn.Module, list[Any]], Any]] = {
    "calibrate": qzoo.calibrate,
    "evaluate": qzoo.evaluate,
    "sensitivity": lambda model, images: qzoo.sensitivity(model, images, mend=0),
    "finetune": finetune,
}


@for_each("task", TASKS)
@for_each("name", WRONG)
def test_what_is_no_batch_is_said_by_every_task(model: nn.Module, task: str, name: str) -> None:
    item, text = WRONG[name]
    with pytest.raises(DataError, match=text):
        TASKS[task](model, [(X, Y), item])


UNFIT = {
    "three channels": (torch.rand(4, 3, 8, 8), r"float32 \(4, 3, 8, 8\): DigitsResNet does not run on it \(.*channels"),
    "one image": (X[0], r"is a single image|does not run on it"),
    "float64": (X.double(), r"float64 \(4, 1, 8, 8\): DigitsResNet does not run on it"),
    "no channels": (X[:, 0], r"does not run on it|is a single image"),
    "five dimensions": (X.unsqueeze(0), r"does not run on it|images; the model's output"),
}


@for_each("task", TASKS)
@for_each("name", UNFIT)
def test_what_the_model_does_not_run_on_is_said_of_the_batch(model: nn.Module, task: str, name: str) -> None:
    x, text = UNFIT[name]
    y = torch.zeros(len(x), dtype=torch.long)
    with pytest.raises(DataError, match=rf"Item 1 of the images.*({text})"):
        TASKS[task](model, [(X, Y), (x, y)])
    with pytest.raises(DataError, match="Item 0 of the images"):
        TASKS[task](model, [(x, y)])


@pytest.mark.parametrize("task", ["evaluate", "sensitivity", "finetune"])
def test_a_label_without_a_class(model: nn.Module, task: str) -> None:
    text = "Item 1 of the images: its labels are 7 to 10; the model has 10 classes, so they have to be whole numbers"
    with pytest.raises(DataError, match=text):
        TASKS[task](model, [(X, Y), (X, Y + 7)])


class Plain(nn.Module):
    """A convolutional network that torch lets run on a single image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((-1, -2))


def test_a_single_image_that_runs_is_told_all_the_same() -> None:
    model = qzoo.quantize(Plain().eval(), "int8")
    with pytest.raises(DataError, match=r"\(1, 8, 8\), is a single image; .*torch\.stack\(images\)"):
        qzoo.calibrate(model, list(X))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.meta, self.head = nn.Conv2d(1, 4, 3), nn.Linear(7, 4), nn.Linear(4, 10)

    def forward(self, image: Tensor, meta: Tensor) -> Tensor:
        return self.head(self.image(image).mean((2, 3)) + self.meta(meta))


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_a_model_of_two_inputs_is_calibrated_and_measured(form: str) -> None:
    torch.manual_seed(0)
    net, meta = TwoInputs().eval(), torch.randn(4, 7)
    batch = ((X, meta), Y) if form == "tuple" else {"image": X, "meta": meta, "labels": Y}
    model = qzoo.calibrate(qzoo.quantize(net, "int8", residual="skip", example=(X, meta)), [batch])
    assert float(model.meta.input_quantizer.amax) == pytest.approx(float(meta.abs().max()), rel=0.05)
    result = qzoo.evaluate(model, [batch])
    assert result.top1 == 100 * float((model(X, meta).argmax(1) == Y).float().mean())
    report = qzoo.sensitivity(model, [batch])
    assert {layer.name for layer in report.layers} >= {"image", "meta", "head"}
    assert all(layer.alone.sqnr_db is None or math.isfinite(layer.alone.sqnr_db) for layer in report.layers)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_labels_are_labels(dtype: torch.dtype) -> None:
    (batch,) = as_batches([(torch.rand(2, 3, 8, 8), torch.tensor([1, 9]).to(dtype))], torch.device("cpu"))
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 9]


@pytest.mark.parametrize("task", ["calibrate", "evaluate", "finetune"])
def test_a_batch_of_no_image_is_named(model: nn.Module, task: str) -> None:
    empty = (torch.rand(0, 3, 8, 8), torch.zeros(0, dtype=torch.long))
    with pytest.raises(DataError, match=r"^Item 0 of the images, float32 \(0, 3, 8, 8\), holds no image"):
        next(as_batches([empty], torch.device("cpu")))
    call = {
        "calibrate": lambda: qzoo.calibrate(model, [empty[0]]),
        "evaluate": lambda: qzoo.evaluate(model, [empty]),
        "finetune": lambda: qzoo.finetune(model, [empty], epochs=1, lr=1e-3),
    }[task]
    with pytest.raises(DataError, match=r"^Item 0 of the images"):
        call()


@pytest.mark.runtimes
def test_export_names_the_batch_that_the_model_does_not_run_on(model: nn.Module, tmp_path: Path) -> None:
    for images in ([torch.rand(2, 3, 8, 8)], [X, torch.rand(2, 3, 8, 8)]):
        text = rf"^Item {len(images) - 1} of the images, float32 \(2, 3, .* does not run on it"
        with pytest.raises(DataError, match=text):
            qzoo.export(model, tmp_path / "x.onnx", "onnxruntime", images=images)


def test_images_that_want_gradients_are_images() -> None:
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    for given in (x, x * 1):
        (batch,) = as_batches([given], torch.device("cpu"))
        assert not batch.inputs.requires_grad
        assert torch.equal(batch.inputs, x if given is x else given)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
def test_a_masked_tensor_is_no_batch() -> None:
    with pytest.raises(
        DataError, match=r"Item 0 of the images is masked, float32 \(4, 1, 8, 8\); expected an ordinary"
    ):
        next(as_batches([torch.masked.MaskedTensor(X, X > 0.5)], CPU))
