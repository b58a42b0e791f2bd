"""Arguments that a public function does not take: one message, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

import qzoo
from qzoo.arguments import checked, fits
from tests.each import for_each

X, Y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
NAME = "resnet8_digits_int8"

WRONG: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "a misspelt field of a schedule": (
        lambda model: qzoo.finetune(model, [(X, Y)], epoch=1),
        r"finetune\(\) has no argument 'epoch'. Did you mean 'epochs'",
    ),
    "a field of a wrong type": (
        lambda model: qzoo.finetune(model, [(X, Y)], epochs="x", lr=0.1),
        r"finetune\(\): epochs: Input should be a valid integer \(given: \"x\"\)",
    ),
    "a field that is missing": (lambda model: qzoo.finetune(model, [(X, Y)], epochs=1), r"lr: this field is missing"),
    "a dict for settings": (
        lambda model: qzoo.reproduce("resnet8_digits", {"data": "x"}),  # type: ignore[arg-type]
        r"reproduce\(\) got settings=\{'data': 'x'\} of type dict; expected Settings or None: data, device",
    ),
    "a misspelt setting": (
        lambda model: qzoo.reproduce("resnet8_digits", evl_images=3),
        r"Settings\(\) has no argument 'evl_images'. Did you mean 'eval_images'",
    ),
    "a setting of a wrong type": (
        lambda model: qzoo.Settings(eval_images=3.5),  # type: ignore[arg-type]
        r"Settings\(\) got eval_images=3.5 of type float; expected int or None",
    ),
    "batches for a count": (
        lambda model: qzoo.verify(NAME, images=[X]),  # type: ignore[arg-type]
        r"verify\(\) got images=\[tensor.* of type list; expected int or None: how many to check",
    ),
    "no model": (
        lambda model: qzoo.evaluate(3, [(X, Y)]),
        r"evaluate\(\) got model=3 of type int; expected Module",  # type: ignore[arg-type]
    ),
    "nothing": (
        lambda model: qzoo.push("a"),
        r"push\(\): missing a required argument: 'repo'. It takes name, repo, \[settings\]",  # type: ignore[call-arg]
    ),
    "what is quantized": (
        lambda model: qzoo.quantize("resnet50"),
        r"qzoo.quantize takes a float module, not 'resnet50'",  # type: ignore[arg-type]
    ),
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return qzoo.create(NAME, pretrained=True)


@for_each("case", WRONG)
def test_says_what_was_given_and_what_is_accepted(case: str, model: nn.Module) -> None:
    call, text = WRONG[case]
    with pytest.raises(qzoo.ArgumentError, match=text):
        call(model)


@for_each(
    ("value", "hint", "accepted"),
    [
        (np.int64(3), int, True), (True, int, False), (3, float, True), (np.float32(3), float, True),
        ("3", float, False),
        ("a/b", Path, True), (Path("a"), str | Path, True), (None, int | None, True), ("b", Literal["a"], False),
        ([1], Literal["a"], False), ([1], list[int], True), (3, list[int], False), (object(), Any, True),
        (len, Callable[..., int], True),
    ],
)  # fmt: skip
def test_what_is_of_a_type(value: object, hint: object, accepted: bool) -> None:
    assert fits(value, hint) is accepted


def test_a_word_that_is_none_of_those_accepted_has_the_nearest(model: nn.Module) -> None:
    with pytest.raises(qzoo.UnknownNameError, match=r"Unknown rest 'fp17'. Did you mean 'fp16'\? Known: fp16, fp32"):
        qzoo.export(model, "x.onnx", rest="fp17")  # type: ignore[arg-type]


def test_a_checked_function_is_itself() -> None:
    @checked
    def half(number: float, *more: float, **others: str) -> float:
        """Halves."""
        return number / 2

    assert (half(3), half(number=3), half.__name__, half.__doc__) == (1.5, 1.5, "half", "Halves.")
    assert half(1, 2, other="3") == 0.5


def test_a_name_stands_for_its_model_and_its_images() -> None:
    found = qzoo.evaluate(NAME)
    assert (found.images, found.top1) == (597, pytest.approx(99.33, abs=0.2))  # as README.md says
    assert qzoo.calibrate(NAME, X).conv1.input_quantizer.amax <= 1
    assert qzoo.calibrate(NAME).conv1.input_quantizer.amax.isfinite()


SPEC = {"epochs": 1, "lr": 0.1}
ATTACKS: dict[str, Callable[[nn.Module, Path], Any]] = {
    "no model": lambda model, folder: qzoo.evaluate(),  # type: ignore[call-arg]
    "nothing to create": lambda model, folder: qzoo.create(),  # type: ignore[call-arg]
    "nothing to quantize": lambda model, folder: qzoo.quantize(),  # type: ignore[call-arg]
    "an unknown argument of a constructor": lambda model, folder: qzoo.create("resnet8_digits", classes=3),
    "a library's constructor that fails": lambda model, folder: qzoo.create("timm/test_resnet", num_classes="many"),
    "an unknown argument": lambda model, folder: qzoo.quantize(nn.Linear(2, 2), sceme="int8"),  # type: ignore[call-arg]
    "no pattern": lambda model, folder: qzoo.list_models(3),  # type: ignore[arg-type]
    "no progress": lambda model, folder: qzoo.evaluate(model, X, progress=3),  # type: ignore[arg-type]
    "a class for a count": lambda model, folder: qzoo.sensitivity(model, [X], mend=int),  # type: ignore[arg-type]
    "less than nothing": lambda model, folder: qzoo.sensitivity(model, [X], mend=-1),
    "tensors for a count": lambda model, folder: qzoo.save(model, folder / "x", images=X),  # type: ignore[arg-type]
    "fewer images than none": lambda model, folder: qzoo.save(model, folder / "x", images=-1),
    "no digest": lambda model, folder: qzoo.save(model, folder / "x", sample_sha256="a"),
    "no path": lambda model, folder: qzoo.save(model, ""),
    "a path that ends early": lambda model, folder: qzoo.export(model, "a\0b"),
    "numbers for names": lambda model, folder: qzoo.reproduce("resnet8_digits", only=[1]),  # type: ignore[list-item]
    "bytes for names": lambda model, folder: qzoo.push(NAME, "me/x", onnx=b"x"),  # type: ignore[arg-type]
    "a schedule of nothing": lambda model, folder: qzoo.FinetuneSpec(),  # type: ignore[call-arg]
    "a schedule of words": lambda model, folder: qzoo.FinetuneSpec(epochs="x", lr=0.1),  # type: ignore[arg-type]
    "a schedule of NaN": lambda model, folder: qzoo.FinetuneSpec(epochs=1, lr=float("nan")),
    "a variant of nothing known": lambda model, folder: qzoo.Variant(wieght=False),  # type: ignore[call-arg]
    "a scheme without rules": lambda model, folder: qzoo.Scheme(rules=[]),
    "a recipe of nothing": lambda model, folder: qzoo.Recipe(),  # type: ignore[call-arg]
    "an unknown part of a run": lambda model, folder: qzoo.Run(foldr="x"),  # type: ignore[call-arg]
    "no specification": lambda model, folder: qzoo.TensorQuantizer(8),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_error_comes_from_inside(attack: str, model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(qzoo.ArgumentError) as caught:
        ATTACKS[attack](model, tmp_path)
    assert isinstance(caught.value, ValueError)
    assert "validation error" not in str(caught.value)


def test_a_schedule_says_which_field_is_wrong_in_the_words_of_a_recipe() -> None:
    with pytest.raises(qzoo.ArgumentError, match=r"FinetuneSpec\(\): .*epoch.*Did you mean 'epochs'"):
        qzoo.FinetuneSpec(**SPEC, epoch=1)  # type: ignore[arg-type, call-arg]


def test_counts_of_numpy_and_folders_as_text_are_taken(model: nn.Module, tmp_path: Path) -> None:
    qzoo.save(model, tmp_path / "x", images=np.int64(3))  # type: ignore[arg-type]
    qzoo.reproduce("resnet8_digits", only=["int8"], artifacts=str(tmp_path / "kept"))  # type: ignore[arg-type]
    assert (tmp_path / "kept" / "resnet8_digits_int8.ranges.safetensors").exists()
