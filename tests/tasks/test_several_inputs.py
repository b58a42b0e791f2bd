"""Models of several inputs and of any output go through every task; right values are torch's own, computed here."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import qzoo
from qzoo.errors import DataError, UnsupportedError
from qzoo.models.quantize import float_copy
from qzoo.quant.ranges import quantizers
from tests.each import for_each

IMAGES, CLASSES = 6, 5
CHANCE = torch.Generator().manual_seed(0)
LEFT, RIGHT = (torch.randn(IMAGES, 3, 8, 8, generator=CHANCE) for _ in range(2))
META, MASK = torch.randn(IMAGES, 7, generator=CHANCE), torch.arange(IMAGES * 64).view(IMAGES, 8, 8) % 3
Y = torch.arange(IMAGES) % CLASSES


@dataclass
class Scores:
    scores: Tensor
    hidden: list[Tensor]


class Stereo(nn.Module):
    """Two images, metadata, a mask of whole numbers, and more in a list; gives whatever is made of scores and rest."""

    def __init__(self, given: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.meta, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(7, 4), nn.Linear(4, CLASSES)
        self.given = given

    def forward(
        self, left: Tensor, right: Tensor, meta: Tensor | None = None, *, mask: Tensor | None = None,
        more: tuple[Tensor, ...] = (), scale: float = 1.0,
    ) -> Any:  # fmt: skip
        y = self.image(left) - self.image(right)
        y = (y if mask is None else y * mask.unsqueeze(1)).relu().mean((2, 3))
        y = y if meta is None else y + self.meta(meta)
        for one in more:
            y = y + one
        return self.given(scale * self.head(y), y)


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Any]] = {
    "logits": (lambda z, y: z, None),
    "a dict of one": (lambda z, y: {"out": z}, None),
    "logits among others": (lambda z, y: {"hidden": y, "logits": z}, None),
    "a dict": (lambda z, y: {"out": z, "aux": y}, "out"),
    "a tuple": (lambda z, y: (y, (z,)), "output_1.0"),
    "a dataclass": (lambda z, y: Scores(z, [y, y]), "scores"),
    "with a function": (lambda z, y: Scores(y, [z, 2 * z]), lambda output: output.hidden[1]),
}
ARGUMENTS = {"left": LEFT, "right": RIGHT, "meta": META, "mask": MASK, "more": [META[:, :4], META[:, 3:]], "scale": 0.5}


def rows(where: slice) -> dict[str, Any]:
    """The arguments of some images."""
    cut = {name: one[where] for name, one in ARGUMENTS.items() if isinstance(one, Tensor)}
    return cut | {"more": [one[where] for one in ARGUMENTS["more"]], "scale": 0.5}


BATCHES = [rows(slice(0, 4)) | {"labels": Y[:4]}, rows(slice(4, 6)) | {"label": Y[4:]}]


def by_hand(model: nn.Module, which: Any) -> Tensor:
    with torch.no_grad():
        output = model(**ARGUMENTS)
    if isinstance(which, str):
        for key in which.removeprefix("output_").split("."):
            output = (
                output[int(key)] if key.isdigit() else output[key] if isinstance(output, dict) else vars(output)[key]
            )
        return output
    if which is not None:
        return which(output)
    return output if isinstance(output, Tensor) else output.get("logits", output.get("out"))


@for_each(("name", "output"), OUTPUTS.items())
def test_every_task_takes_it(name: str, output: tuple[Any, Any]) -> None:
    given, logits = output
    model = qzoo.quantize(Stereo(given).eval(), "int8", residual="skip", example=ARGUMENTS)
    qzoo.calibrate(model, BATCHES)
    assert float(model.image.input_quantizer.amax) == pytest.approx(
        float(torch.cat([LEFT, RIGHT]).abs().max()), rel=0.02
    )
    right = by_hand(model, logits)
    result = qzoo.evaluate(model, BATCHES, logits=logits)
    assert torch.equal(result.predictions, right.argmax(1))
    assert result.top1 == pytest.approx(100 * float((right.argmax(1) == Y).float().mean()), abs=1e-3)
    report = qzoo.sensitivity(model, BATCHES, logits=logits, mend=1)
    in_float = by_hand(float_copy(model), logits)
    noise = 10 * torch.log10(in_float.square().sum() / (in_float - right).square().sum())
    assert report.quantized.sqnr_db == pytest.approx(float(noise), abs=1e-2)
    teacher = float_copy(model)
    trained = qzoo.finetune(
        model, BATCHES, epochs=1, lr=1e-2, batch_size=4, logits=logits, teacher=teacher, distill={"weight": 0.5},
        scales={"init": "lsq"}, evaluate_on=BATCHES,
    )  # fmt: skip
    assert trained.start_top1 == result.top1
    assert trained.top1 == qzoo.evaluate(model, BATCHES, logits=logits).top1


def test_a_step_is_that_of_torch() -> None:
    given, logits = OUTPUTS["a dict"]
    model = qzoo.calibrate(qzoo.quantize(Stereo(given).eval(), "int8", example=ARGUMENTS), BATCHES)
    other = float_copy(model).train()
    for quantizer in quantizers(model).values():
        quantizer.state = "off"
    loss = nn.functional.cross_entropy(other(**rows(slice(0, 4)))["out"], Y[:4])
    expected = torch.autograd.grad(loss, other.head.weight)[0]
    before = model.head.weight.detach().clone()
    qzoo.finetune(model, BATCHES[:1], epochs=1, lr=0.1, batch_size=4, momentum=0, weight_decay=0, logits=logits)
    torch.testing.assert_close((before - model.head.weight) / 0.1, expected, rtol=1e-4, atol=1e-5)


class Stories(Dataset[dict[str, Any]]):
    """Samples as a tool gives them: with more than the model takes, and a label of another name."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "file": f"{index}.png",
            "view": (LEFT[index], RIGHT[index]),
            "meta": META[index].numpy(),
            "target": Y[index],
        }


def to_inputs(item: Any) -> Any:
    return {"left": item["view"][0], "right": item["view"][1], "meta": item["meta"], "labels": item["target"]}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    net = Stereo(OUTPUTS["logits"][0]).eval()
    return qzoo.calibrate(qzoo.quantize(net, "int8", example=(LEFT, RIGHT, META)), [((LEFT, RIGHT, META), Y)])


def test_to_inputs_makes_batches_of_whatever_it_is(model: nn.Module) -> None:
    loader = DataLoader(Stories(), 4)
    expected = qzoo.evaluate(model, [((LEFT, RIGHT, META), Y)])
    for images in (loader, list(loader), (item for item in loader), map(dict, loader)):
        assert torch.equal(qzoo.evaluate(model, images, to_inputs=to_inputs).predictions, expected.predictions)
    assert qzoo.sensitivity(model, loader, to_inputs=to_inputs).quantized.top1 == expected.top1
    copy = qzoo.quantize(float_copy(model), "int8")
    qzoo.calibrate(copy, loader, to_inputs=to_inputs)
    report = qzoo.finetune(copy, loader, epochs=1, lr=1e-9, batch_size=4, to_inputs=to_inputs, evaluate_on=loader)
    assert report.start_top1 == expected.top1


FORMS: dict[str, Any] = {
    "a tuple": [((LEFT, RIGHT, META), Y)],
    "a list, as a loader makes it": [[[LEFT, RIGHT, META], Y]],
    "arrays": [((LEFT.numpy(), RIGHT.numpy(), META.numpy()), Y.numpy())],
    "a dict, alone": {"left": LEFT, "right": RIGHT, "meta": META, "labels": Y},
    "a dict of a pair": [({"left": LEFT, "right": RIGHT, "meta": META}, Y)],
    "a mapping": [UserDict(left=LEFT, right=RIGHT, meta=META, label=Y)],
    "lists of numbers": [((LEFT, RIGHT, META), Y.tolist())],
}


@for_each(("form", "batches"), FORMS.items())
def test_every_form_of_a_batch_gives_the_same(form: str, batches: Any, model: nn.Module) -> None:
    with torch.no_grad():
        expected = model(LEFT, RIGHT, META).argmax(1)
    result = qzoo.evaluate(model, batches)
    assert torch.equal(result.predictions, expected)
    assert result.top1 == pytest.approx(100 * float((expected == Y).float().mean()), abs=1e-3)


class Lists(nn.Module):
    """Takes a list of images of any size, as detectors do, and gives a list of dicts without logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"boxes": self.layer(one.unsqueeze(0)).flatten(2)[0].T} for one in images]


def test_calibration_needs_no_logits() -> None:
    images = [torch.full((3, 8, 9), 2.0), torch.full((3, 5, 7), -3.0)]
    targets = [{"boxes": torch.zeros(1, 4)}] * 2
    model = qzoo.quantize(Lists().eval(), "int8", example=(images,))
    with pytest.raises(
        DataError, match=r"has labels of type tuple\. .* left out by to_inputs=lambda item: item\[0\]\."
    ):
        qzoo.calibrate(model, [(tuple(images), tuple(targets))])
    for batches, convert in [
        ([(images, targets)], lambda item: {"images": item[0]}),
        ([((images,), None)], None),
        ([{"images": images}], None),
    ]:
        qzoo.calibrate(model, batches, to_inputs=convert)
        assert float(model.layer.input_quantizer.amax) == pytest.approx(3.0, rel=0.01)
    with pytest.raises(
        DataError, match=r"gives 2 tensors \(output_0\.boxes .*, output_1\.boxes .*\); none is called logits"
    ):
        qzoo.evaluate(model, [{"images": images}])


def _broken(item: Any) -> Any:
    return item["image"]


def test_what_does_not_fit_is_told(model: nn.Module) -> None:
    batch = {"left": LEFT, "rigth": RIGHT}
    told = r"Item 0 of the images, left: float32 \(6, 3, 8, 8\), rigth: .* Its forward takes left, right, \[meta\], "
    with pytest.raises(DataError, match=told + r"\[mask\].*; to_inputs= says what of an item it gets\."):
        qzoo.calibrate(model, [batch])
    with pytest.raises(KeyError, match="image") as caught:
        qzoo.calibrate(model, [batch], to_inputs=_broken)
    assert caught.value.__notes__[0].startswith("to_inputs= was called with item 0 of the images, left: float32 (6, 3,")
    with pytest.raises(DataError, match="Item 0 of the images is NoneType; expected"):
        qzoo.calibrate(model, [batch], to_inputs=lambda item: None)
    with pytest.raises(
        UnsupportedError, match=r"It takes left, right, \[meta\].*: example=\{'left': \.\.\., 'right': \.\.\.\}"
    ):
        qzoo.quantize(float_copy(model), "int8", residual="both")
    with pytest.raises(qzoo.ArgumentError, match="got to_inputs='x' of type str"):
        qzoo.calibrate(model, [batch], to_inputs="x")  # type: ignore[arg-type]


def test_whole_numbers_alone_are_indices() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, CLASSES))
    ids = torch.arange(18).view(6, 3) % 10
    model = qzoo.calibrate(qzoo.quantize(net.eval(), "int8", example=ids), [ids])
    assert float(model[2].input_quantizer.amax) == pytest.approx(float(net[0].weight.detach().abs().max()), rel=0.02)


class Encoder(nn.Module):
    """Has a method of its own beside its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.words = nn.Linear(8, 4), nn.Parameter(torch.eye(CLASSES, 4))

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.encode(x) @ self.words[ids].T


class Encoding(nn.Module):
    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.encode(x)


def test_another_method_is_called_by_a_module_around_the_model() -> None:
    x = torch.linspace(-4, 4, 48).view(6, 8)
    with pytest.warns(qzoo.FloatWeightsWarning, match="stay in float: words"):  # a table, which is looked up
        model = qzoo.quantize(Encoder().eval(), "int8", example=(x, torch.arange(CLASSES)))
    around = Encoding(model)
    qzoo.calibrate(around, [x])
    assert float(model.layer.input_quantizer.amax) == pytest.approx(4.0, rel=0.01)
    with torch.no_grad():
        expected = (model.encode(x) @ model.words.T).argmax(1)
    result = qzoo.evaluate(around, [x], logits=lambda y: y @ model.words.detach().T)
    assert torch.equal(result.predictions, expected)
    assert torch.equal(qzoo.evaluate(model, [((x, torch.arange(CLASSES)),)]).predictions, expected)


def _once() -> Iterator[Any]:
    yield (LEFT, RIGHT, META), Y


def test_what_can_be_gone_through_once_is_gone_through_once(model: nn.Module) -> None:
    with torch.no_grad():
        expected = model(LEFT, RIGHT, META).argmax(1)
    assert np.array_equal(qzoo.evaluate(model, _once()).predictions, expected)
    with pytest.raises(DataError, match="The images are generator, which can be gone through once"):
        qzoo.sensitivity(model, _once())
