"""Models of several inputs: each tensor is an input of the file, under its name; sizes are fixed, or not, as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.inputs import run
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.named_inputs import dynamic_axes, named_inputs
from qzoo.runtimes.registry import runtime_named
from qzoo.tasks.measuring.running import RuntimeModel
from tests.each import for_each

pytestmark = pytest.mark.runtimes

CHANCE = torch.Generator().manual_seed(0)


def images(number: int, size: int = 8) -> Tensor:
    return torch.randn(number, 3, size, size, generator=CHANCE)


def inputs(number: int = 6, size: int = 8) -> dict[str, Any]:
    """Arguments in another order than the forward's: images, a mask of whole numbers, metadata, more in a list."""
    meta = torch.randn(number, 7, generator=CHANCE)
    mask = torch.randint(0, 2, (number, size, size), generator=CHANCE)
    more = [torch.randn(number, 4, generator=CHANCE) for _ in range(2)]
    return {"mask": mask, "right": images(number, size), "left": images(number, size), "meta": meta, "more": more,
            "scale": 0.5, "other": torch.randn(number, 4, generator=CHANCE)}  # fmt: skip


class Stereo(nn.Module):
    """Takes inputs by place and by name. A parameter is called as an input is, a layer as what torch's graphs have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
        self.meta, self.mask = nn.Linear(7, 4), nn.Parameter(torch.full((4, 1, 1), 2.0))

    def forward(
        self, left: Tensor, right: Tensor, meta: Tensor | None = None, *, mask: Tensor | None = None,
        more: tuple[Tensor, ...] = (), scale: float = 1.0, **named: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        y = (self.image(left) + self.image(right)) * self.mask
        y = (y if mask is None else y * mask.unsqueeze(1)).relu().mean((2, 3))
        y = y if meta is None else y + self.meta(meta)
        for one in (*more, *named.values()):
            y = y + one
        return {"hidden": y, "scores": scale * self.head(y)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    quantized = qzoo.quantize(Stereo().eval(), "int8", residual="skip", example=inputs(1))
    return qzoo.calibrate(quantized, [inputs()])


NAMES = ["left", "right", "meta", "mask", "more.0", "more.1", "other"]


@pytest.mark.parametrize(
    ("runtime", "dynamic"), [("onnxruntime", "batch"), ("onnxruntime", "none"), ("openvino", "size")]
)
def test_each_tensor_is_an_input(runtime: str, dynamic: Any, model: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    report = qzoo.export(model, file, runtime, images=[inputs()], logits="scores", dynamic=dynamic, reduce_range=True,
                         adapt_on=[inputs()], example=inputs(1))  # fmt: skip
    assert report.parity is not None
    assert (report.parity.images, report.parity.agreement_plain, report.parity.agreement) == (6, 100, 100)
    assert (report.parity.first_diverging, report.fault) == (None, None)
    session = onnxruntime.load(file, optimized=False)
    batch = 1 if dynamic == "none" else "batch"
    sides = ["height", "width"] if dynamic == "size" else [8, 8]
    image, rest = ("tensor(float)", [batch, 3, *sides]), ("tensor(float)", [batch, 4])
    expected = [image, image, ("tensor(float)", [batch, 7]), ("tensor(int64)", [batch, *sides]), rest, rest, rest]
    assert [one.name for one in session.get_inputs()] == NAMES
    assert [(one.type, one.shape) for one in session.get_inputs()] == expected
    assert [one.name for one in session.get_outputs()] == ["hidden", "scores"]


def test_it_computes_what_the_model_does_for_any_size(model: nn.Module, tmp_path: Path) -> None:
    qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", dynamic="size", example=inputs(1))
    session = onnxruntime.load(tmp_path / "a.onnx", optimized=False)
    for number, size in [(1, 8), (3, 8), (2, 13), (5, 24)]:
        given = inputs(number, size)
        tensors = [given["left"], given["right"], given["meta"], given["mask"], *given["more"], given["other"]]
        feeds = {name: tensor.numpy() for name, tensor in zip(NAMES, tensors, strict=True)}
        with torch.no_grad():
            expected = model(**given)
        for found, right in zip(session.run(None, feeds), expected.values(), strict=True):
            np.testing.assert_allclose(found, right.numpy(), atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_is_evaluated_as_the_model_is(runtime: str, model: nn.Module, tmp_path: Path) -> None:
    qzoo.export(model, tmp_path / "a.onnx", runtime, dynamic="size", example=inputs(1))
    loaded = RuntimeModel(runtime_named(runtime).session(tmp_path / "a.onnx", 1, True), model)
    labels = torch.arange(6) % 5
    batches = [inputs() | {"labels": labels}, inputs(6, 12) | {"labels": labels}]
    with pytest.raises(qzoo.DataError, match=r"gives 2 tensors \(hidden \(6, 4\), scores \(6, 5\)\); none is called"):
        qzoo.evaluate(loaded, batches)
    assert qzoo.evaluate(loaded, batches, logits="scores").images == 12
    with pytest.raises(KeyError, match="meta"):
        run(loaded, (images(2), images(2)))


def test_a_benchmark_feeds_all_of_them(model: nn.Module) -> None:
    report = qzoo.benchmark(model, "onnxruntime", example=inputs(1), batches=(1, 3), threads=1)
    assert [timing.batch for timing in report.timings] == [1, 3]
    with pytest.raises(
        UnsupportedError, match=r"It takes left, right, .*example=\{'left': \.\.\., 'right': \.\.\.\}\."
    ):
        qzoo.benchmark(model, "onnxruntime")


def test_in_float16_inputs_keep_their_types(model: nn.Module, tmp_path: Path) -> None:
    report = qzoo.export(model, tmp_path / "a.onnx", "tensorrt", rest="fp16", images=[inputs()], logits="scores")
    session = onnxruntime.load(tmp_path / "a.onnx", optimized=False)
    types = {one.name: one.type for one in session.get_inputs()}
    assert types == dict.fromkeys(NAMES, "tensor(float)") | {"mask": "tensor(int64)"}
    assert report.parity is not None
    assert report.parity.logit_difference_plain < 0.01 * report.parity.largest_logit


class Any4(nn.Module):
    """Takes whatever it is given by place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.stack([self.layer(x).mean((2, 3)) for x in xs]).sum(0)


@pytest.mark.parametrize(("given", "names"), [(1, ["images"]), (2, ["xs.0", "xs.1"])])
def test_arguments_without_names_are_numbered(given: int, names: list[str], tmp_path: Path) -> None:
    batch = tuple(images(4) for _ in range(given))
    model = qzoo.calibrate(qzoo.quantize(Any4().eval(), "int8", example=batch), [(batch,)])
    report = qzoo.export(model, tmp_path / "a.onnx", images=[(batch,)])
    assert report.parity is not None
    assert report.parity.agreement_plain == 100
    assert [one.name for one in onnxruntime.load(tmp_path / "a.onnx", optimized=False).get_inputs()] == names


class Fixed(nn.Module):
    """Is made for images of 8 by 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.position = nn.Conv2d(3, 4, 2, 2), nn.Parameter(torch.ones(1, 4, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) + self.position).mean((2, 3))


def test_a_model_made_for_one_size_is_told(tmp_path: Path) -> None:
    model, file = qzoo.quantize(Fixed().eval(), "int8", example=images(1)), tmp_path / "a.onnx"
    qzoo.calibrate(model, [images(4)])
    text = r"takes images with a height of 8 alone: .* Leave that fixed: --dynamic batch, in Python dynamic='batch'\."
    with pytest.raises(UnsupportedError, match=text):
        qzoo.export(model, file, example=images(1), dynamic="size")
    qzoo.export(model, file, example=images(1))


class Numbers(nn.Module):
    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return x


WRONG: dict[str, tuple[Any, str]] = {
    "one of two": (
        images(1),
        r"Stereo does not take these inputs \(missing a required argument: 'right'\): its forward",
    ),
    "a name": (
        {"left": images(1), "rihgt": images(1)},
        r"takes left, right, \[meta\], \[mask\], \[more\], \[scale\]\. Give a",
    ),
    "text": ("x", "does not take these inputs"),
    "no tensor": ((1, 2), r"no tensor in these inputs, tuple; expected a tensor, a tuple of arguments, or a dict"),
}


@for_each(("name", "wrong"), WRONG.items())
def test_an_example_that_does_not_fit_is_told(name: str, wrong: Any, model: nn.Module, tmp_path: Path) -> None:
    given, text = wrong
    with pytest.raises(UnsupportedError, match=text):
        qzoo.export(model, tmp_path / "a.onnx", example=given)


def test_which_dimensions_are_of_any_size() -> None:
    given = (torch.zeros(2, 3, 8, 9), torch.zeros(2, 8, 9), torch.zeros(2, 9), torch.zeros(7, 5), torch.zeros(()))
    named = {str(place): tensor for place, tensor in enumerate(given)}
    batch = {0: "batch"}
    assert [*dynamic_axes(named, "batch").values()] == [batch, batch, batch, {}, {}]
    of_size = [{0: "batch", 2: "height", 3: "width"}, {0: "batch", 1: "height", 2: "width"}, batch, {}, {}]
    assert [*dynamic_axes(named, "size").values()] == of_size
    assert [*dynamic_axes(named, "none").values()] == [{}] * 5
    apart = dynamic_axes({"a": torch.zeros(2, 3, 8, 8), "b": torch.zeros(2, 3, 4, 4)}, "size")
    assert [axes[2] for axes in apart.values()] == ["height", "b_height"]
    assert [*named_inputs(Numbers(), (given[0], given[2]))] == ["x", "ids"]


class Nested(nn.Module):
    """A layer of the same name within and around; the second input is never read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model, self.head = nn.Sequential(), nn.Conv2d(3, 4, 1)
        self.model.head = nn.Conv2d(4, 5, 1)
        self.exported = self.model

    def forward(self, x: Tensor, unread: Tensor, pair: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        y = self.head(x + pair["a.b"])
        return y, self.model.head(y).mean((2, 3))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_is_never_read_and_names_that_meet(runtime: str, tmp_path: Path) -> None:
    batch = (images(4), torch.ones(4, 2).long(), {"a.b": images(4), "flag": None})
    model = qzoo.calibrate(qzoo.quantize(Nested().eval(), "int8", example=batch), [(batch,)])
    report = qzoo.export(model, tmp_path / "a.onnx", runtime, images=[(batch,)], logits="output_1", dynamic="size")
    session = onnxruntime.load(tmp_path / "a.onnx", optimized=False)
    assert [one.name for one in session.get_inputs()] == ["x", "unread", "pair.a.b"]
    found = session.run(None, {"x": batch[0].numpy(), "unread": batch[1].numpy(), "pair.a.b": batch[2]["a.b"].numpy()})
    with torch.no_grad():
        for one, right in zip(found, model(*batch), strict=True):
            np.testing.assert_allclose(one, right.numpy(), atol=1e-5)
    assert report.parity is not None
    assert [node.node for node in report.parity.nodes] == ["head.input_quantizer", "model.head.input_quantizer"]
    assert report.parity.agreement_plain == 100
