"""The driver of the steps; each step has tests of its own in tests/optimization."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import ArgumentError, CalibrationError, DataError, UnsupportedError, WeightsError
from qzoo.models.bases import base_digest
from qzoo.progress import silent
from qzoo.quant.weights import quantized_weights
from qzoo.schema.optimize import OptimizeSpec
from tests.each import for_each

FAST = {"iterations": 20, "batch_size": 16}
VARIANTS = """
version: 1
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
calibration: {images: 64}
scheme: w4a4
variants:
  ranges: {}
  rounded: {optimize: {reconstruct: {iterations: 20, batch_size: 16}}}
  moved: {scheme: int8, weight: {per: tensor}, optimize: {fold: true, equalize: true}}
  trained: {from: rounded, finetune: {epochs: 1, lr: 0.001, batch_size: 64}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(VARIANTS)
    return path


def batches(count: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(16, 1, 8, 8, generator=generator) for _ in range(count)]


def quantized(scheme: str = "w4a4") -> nn.Module:
    return qzoo.quantize(qzoo.create("resnet8_digits", pretrained=True), scheme)


def on_grid(model: nn.Module) -> bool:
    """Whether every weight is what its quantizer makes of it."""
    weights = quantized_weights(model).values()
    return all(torch.equal(one.quantizer(one.values), one.values) for one in weights if one.values is not None)


def stopping_after(steps: int) -> Any:
    """Progress of somebody who presses Ctrl-C after some steps of learning."""

    def progress(items: Iterable[Any], images: int | None, what: Any) -> Iterator[Any]:
        for place, item in enumerate(items):
            if "learning" in str(what) and place == steps:
                raise KeyboardInterrupt
            yield item

    return progress


def test_a_model_without_ranges_gets_them_too() -> None:
    model = quantized()
    report = qzoo.optimize(model, batches(), {"reconstruct": FAST})
    assert ([step.step for step in report.steps], report.images) == (["calibrate", "reconstruct"], 64)
    assert on_grid(model)


def test_ranges_are_kept_where_nothing_moves_them() -> None:
    model = qzoo.calibrate(quantized(), batches())
    before = model.conv1.input_quantizer.amax.clone()
    report = qzoo.optimize(model, batches(), {"reconstruct": FAST | {"learn_ranges": False}})
    assert [step.step for step in report.steps] == ["reconstruct"]
    assert torch.equal(model.conv1.input_quantizer.amax, before)


def test_steps_that_move_ranges_come_before_them() -> None:
    model = qzoo.calibrate(quantized("int8"), batches())
    report = qzoo.optimize(model, batches(), {"correct_bias": True, "equalize": True, "fold": True})
    assert [step.step for step in report.steps] == ["fold", "equalize", "calibrate", "correct_bias"]


def test_what_is_saved_makes_the_same_of_the_base(tmp_path: Path, recipe: Path) -> None:
    for variant in ("rounded", "moved"):
        model = qzoo.create(f"{recipe}:{variant}", pretrained="float")
        qzoo.optimize(model, batches())
        path = qzoo.save(model, tmp_path / f"{variant}.safetensors")
        again = qzoo.load(qzoo.create(f"{recipe}:{variant}", pretrained="float"), path)
        x = batches(1, seed=1)[0]
        with torch.no_grad():
            assert torch.equal(model(x), again(x))
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_batch_norm_that_turns_channels_round_or_ends_them_is_in_the_file(tmp_path: Path) -> None:
    def base() -> nn.Module:
        net = qzoo.create("resnet8_digits", pretrained=True)
        with torch.no_grad():
            net.bn1.weight[0], net.bn1.weight[1] = -net.bn1.weight[0], 0
        return qzoo.quantize(net, "int8")

    model, again, x = base(), base(), batches(1, seed=1)[0]
    qzoo.optimize(model, batches(), {"fold": True, "correct_bias": True})
    qzoo.load(again, qzoo.save(model, tmp_path / "x.safetensors"))
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_batches_of_any_form_serve() -> None:
    wanted = quantized()
    qzoo.optimize(wanted, batches(), {"reconstruct": FAST})
    forms: dict[str, tuple[Any, Any]] = {
        "read once": (iter(batches()), None),
        "labels": ([(x, torch.zeros(16, dtype=torch.int64)) for x in batches()], None),
        "names": ([{"x": x} for x in batches()], None),
        "own": ([[x, "an image", 3] for x in batches()], lambda item: item[0]),
    }
    for form, (images, to_inputs) in forms.items():
        model = quantized()
        qzoo.optimize(model, images, {"reconstruct": FAST}, to_inputs=to_inputs)
        assert torch.equal(model.conv1.weight, wanted.conv1.weight), form


def test_what_fails_leaves_the_model_as_it_was() -> None:
    model = qzoo.calibrate(quantized(), batches())
    before = {key: value.clone() for key, value in model.state_dict().items()}

    with pytest.raises(KeyboardInterrupt):
        qzoo.optimize(model, batches(), {"reconstruct": FAST}, progress=stopping_after(50))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert not any(parameter.is_meta for parameter in model.parameters())
    with pytest.raises(DataError, match="NaN"):
        qzoo.optimize(model, [torch.full((2, 1, 8, 8), torch.nan)], {"fold": True})
    assert base_digest(model) == base_digest(qzoo.create("resnet8_digits", pretrained=True))


def test_interrupted_and_gone_on_with_it_is_the_same(tmp_path: Path) -> None:
    wanted = qzoo.calibrate(quantized(), batches())
    qzoo.optimize(wanted, batches(), {"reconstruct": FAST})
    model = qzoo.calibrate(quantized(), batches())
    with pytest.raises(KeyboardInterrupt):
        qzoo.optimize(model, batches(), {"reconstruct": FAST}, folder=tmp_path, progress=stopping_after(50))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2  # of 20 steps each
    # What is left are three units of the five.
    qzoo.optimize(model, batches(), {"reconstruct": FAST}, folder=tmp_path, progress=stopping_after(61))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in wanted.state_dict().items())
    assert not list(tmp_path.rglob("*.safetensors"))  # all is done


@for_each(
    ("steps", "text"),
    [
        (None, r"optimize\(\) got no steps, and the model's recipe says none. Give some: steps="),
        ({"ronud": "gptq"}, r"optimize\(\): ronud: unknown key 'ronud'. Did you mean 'round'"),
        ({}, r"optimize\(\): an `optimize` block needs one of"),
    ],
)
def test_mistakes_are_told(steps: dict[str, Any] | None, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        qzoo.optimize(quantized(), batches(), steps)


def test_twice_is_refused() -> None:
    model = quantized()
    qzoo.optimize(model, batches(), {"reconstruct": FAST})
    with pytest.raises(UnsupportedError, match=r"optimized already. Start from its float base"):
        qzoo.optimize(model, batches(), {"reconstruct": FAST})


def test_without_images_it_says_so() -> None:
    with pytest.raises(DataError, match=r"There is no image"):
        qzoo.optimize(quantized(), [], {"fold": True})


def test_the_steps_of_the_recipe_are_the_default(recipe: Path) -> None:
    model = qzoo.create(f"{recipe}:moved", pretrained="float")
    assert [step.step for step in qzoo.optimize(model, batches()).steps] == ["fold", "equalize", "calibrate"]


def test_reproduce_carries_the_steps_out(recipe: Path) -> None:
    report = qzoo.reproduce(recipe, only=["ranges", "rounded", "moved"], eval_images=200)
    assert [row.stage for row in report.rows] == ["float", "ptq", "ptq", "ptq"]
    assert report.calibration is not None
    assert report.calibration.images == 64


def test_a_variant_that_is_trained_after_it_starts_from_it(recipe: Path, tmp_path: Path) -> None:
    from qzoo.tasks.training_run import Run

    report = qzoo.reproduce(recipe, only="trained", stage="qat", eval_images=100, run=Run(tmp_path / "runs"))
    assert report.rows[1].stage == "qat"


def test_a_trained_model_can_be_optimized() -> None:
    model = qzoo.create("resnet8_digits_w2a2_qat", pretrained=True)
    report = qzoo.optimize(model, batches(), OptimizeSpec.model_validate({"reconstruct": FAST}))
    assert report.steps[0].step == "reconstruct"
    assert on_grid(model)


def test_nothing_that_a_quantizer_sees_is_told_as_in_calibration() -> None:
    class TwoWays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) if x.sum() < 1e6 else self.unused(x)

    model = qzoo.quantize(TwoWays(), "int8", example=torch.full((1, 4), 1e6))
    with pytest.raises(CalibrationError):
        qzoo.optimize(model, [torch.rand(8, 4)], {"reconstruct": FAST})


class TwoTensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 8), nn.Linear(4, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.last(torch.relu(self.one(x) + self.other(y)))  # type: ignore[no-any-return]


def test_two_inputs_of_one_length_are_no_images_and_labels() -> None:
    net = TwoTensors().eval()
    pairs = [(torch.rand(16, 4), torch.rand(16, 4)) for _ in range(3)]
    model = qzoo.quantize(net, "int8", example=pairs[0])
    qzoo.optimize(model, [(pair,) for pair in pairs], {"round": "gptq"})
    wanted = max(float(y.abs().max()) for _, y in pairs)
    assert float(model.other.input_quantizer.amax) == pytest.approx(wanted)


def test_the_same_tensor_twice_is_kept_twice() -> None:
    net, x = TwoTensors().eval(), torch.rand(16, 4)
    model = qzoo.quantize(net, "int8", example=(x, x))
    assert qzoo.optimize(model, [((x, x),)], {"round": "gptq"}).images == 16


def test_calibrating_an_optimized_model_leaves_its_weights_on_their_grids(tmp_path: Path) -> None:
    model = quantized()
    qzoo.optimize(model, batches(), {"reconstruct": FAST})
    weights = {path: one.quantizer.amax.clone() for path, one in quantized_weights(model).items()}
    inputs = model.conv1.input_quantizer.amax.clone()
    qzoo.calibrate(model, [2 * x for x in batches()])
    assert all(torch.equal(one.quantizer.amax, weights[path]) for path, one in quantized_weights(model).items())
    assert not torch.equal(model.conv1.input_quantizer.amax, inputs)
    assert on_grid(model)
    again = quantized()
    qzoo.load(again, qzoo.save(model, tmp_path / "x.safetensors"))
    x = batches(1, seed=1)[0]
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_other_ranges_of_optimized_weights_are_not_saved_as_rounding(tmp_path: Path) -> None:
    model = quantized()
    qzoo.optimize(model, batches(), {"reconstruct": FAST})
    model.conv1.weight_quantizer.set_amax(2 * model.conv1.weight_quantizer.amax)
    with pytest.raises(WeightsError, match=r"or their ranges, were changed since they were optimized.*whole=True"):
        qzoo.save(model, tmp_path / "x.safetensors")


@for_each("other", ["images", "scheme", "base"])
def test_units_of_something_else_are_not_gone_on_with(tmp_path: Path, other: str) -> None:
    def made(folder: Path | None, other: str = "") -> nn.Module:
        net = qzoo.create("resnet8_digits", pretrained=True)
        if other == "base":
            torch.nn.init.zeros_(net.linear.bias)
        model = qzoo.calibrate(qzoo.quantize(net, "w4a8" if other == "scheme" else "w4a4"), batches())
        images = batches(seed=1 if other == "images" else 0)
        progress = silent if other else stopping_after(99)  # in the last of five units
        with contextlib.suppress(KeyboardInterrupt):
            qzoo.optimize(model, images, {"reconstruct": FAST}, folder=folder, progress=progress)
        return model

    folder = tmp_path / "units"
    made(folder)
    assert list(folder.iterdir())
    resumed, wanted = made(folder, other), made(None, other)
    assert all(torch.equal(value, wanted.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_files_of_others_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    mine = [tmp_path / "mine.safetensors", tmp_path / "units" / "unit-notes.txt"]
    for file in mine:
        file.write_text("mine")
    qzoo.optimize(quantized(), batches(), {"reconstruct": FAST}, folder=tmp_path)
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == sorted(mine)
