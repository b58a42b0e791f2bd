from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import qzoo
from qzoo import environment
from qzoo.commands.sensitivity import sensitivity_named
from qzoo.commands.settings import Settings
from qzoo.errors import DataError, NotCalibratedError
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import parse_recipe
from qzoo.schema.resolution.resolve import resolve
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.tasks.measuring.deviation import sqnr_db
from qzoo.tasks.measuring.quantizer_groups import quantizer_groups, with_equal_rules
from qzoo.zoo.name_lookup import find

Batches = list[tuple[Tensor, Tensor]]
PLANTED = """
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
calibration: {images: 64}
variants:
  planted: {scheme: int8, rules: [{match: {name: layer2.conv1}, weight: {bits: 2, per: tensor}}]}
"""


@pytest.fixture(scope="module")
def batches() -> Batches:
    recipe = qzoo.recipe("resnet8_digits")
    return list(evaluation_images(recipe.base, recipe.dataset, images=300, batch_size=100))


def digits() -> nn.Module:
    return qzoo.create("resnet8_digits_int8", pretrained=True)


def too_wide(path: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = digits()
        quantizer = model.get_submodule(path)
        assert isinstance(quantizer, TensorQuantizer)
        quantizer.set_amax(quantizer.amax * 100)
        return model

    return make


def two_bits() -> nn.Module:
    model = qzoo.create(parse_recipe(PLANTED), "float", variant="planted")
    recipe = qzoo.recipe("resnet8_digits")
    return qzoo.calibrate(model, list(evaluation_images(recipe.base, recipe.dataset, images=64)))


BAD = {
    "layer1.conv2": too_wide("layer1.conv2.weight_quantizer"),
    "layer3.conv1": too_wide("layer3.conv1.input_quantizer"),
    "layer2.conv1": two_bits,
}


@pytest.mark.parametrize("name", BAD)
def test_a_planted_bad_layer_ranks_first_both_ways_and_its_rule_mends_it(name: str, batches: Batches) -> None:
    report = qzoo.sensitivity(BAD[name](), batches)
    worst = report.layers[0]
    assert worst.name == report.by_drop()[0].name == name
    assert worst.drop is not None
    assert worst.drop > 1
    assert max(report.layers, key=lambda layer: layer.gain or 0).name == name
    assert report.mended[0].layers == [name]
    assert report.mended[0].deviation == worst.left_out
    assert report.mended[0].gain == worst.gain
    assert report.mended[0].deviation.sqnr_db > report.quantized.sqnr_db + 10  # type: ignore[operator]


@pytest.mark.parametrize("mend", [1, 2])
def test_the_rules_do_in_a_recipe_what_was_measured(mend: int, batches: Batches) -> None:
    model = BAD["layer1.conv2"]()
    report = qzoo.sensitivity(model, batches, mend=mend)
    lines = "".join(f"      {line}\n" for line in report.rules_yaml().splitlines())
    recipe = parse_recipe(f"{PLANTED}  mended:\n    scheme: int8\n    rules:\n{lines}")
    variant = resolve(RecipeEntry.from_recipe(recipe, "pasted"), "mended")
    mended = qzoo.quantize(qzoo.create("resnet8_digits", pretrained=True), variant)
    for path, quantizer in quantizers(mended).items():
        same = model.get_submodule(path)
        assert isinstance(same, TensorQuantizer)
        quantizer.set_amax(same.amax)
    assert len(quantizers(mended)) < len(quantizers(model))
    assert qzoo.evaluate(mended, batches).top1 == report.mended[-1].deviation.top1
    assert [rule["why"] for rule in report.rules()] == [
        f"sensitivity: SQNR {layer.alone.sqnr_db:.1f} dB alone" for layer in report.layers[:mend]
    ]


def test_equals_the_naive_way(batches: Batches) -> None:
    model = digits()
    report = qzoo.sensitivity(model, batches, mend=0)
    reference = qzoo.create("resnet8_digits", pretrained=True)
    logits = torch.cat([_logits(reference, x) for x, _ in batches])
    for layer in report.layers:
        for deviation, base, other in ((layer.alone, "off", "quantizing"), (layer.left_out, "quantizing", "off")):
            for path, quantizer in quantizers(model).items():
                quantizer.state = other if path.rpartition(".")[0] == layer.name else base  # type: ignore[assignment]
            naive = torch.cat([_logits(model, x) for x, _ in batches])
            power, noise = (float(t.double().square().sum()) for t in (logits, naive.double() - logits.double()))
            assert deviation.sqnr_db == pytest.approx(10 * math.log10(power / noise), abs=1e-3)
            assert deviation.flips == int((naive.argmax(1) != logits.argmax(1)).sum())
            labels = torch.cat([y for _, y in batches])
            assert deviation.top1 == round(100 * int((naive.argmax(1) == labels).sum()) / len(labels), 4)


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)  # type: ignore[no-any-return]


def test_modes_and_states_are_restored_even_after_a_failure(batches: Batches) -> None:
    model = digits().train()
    model.conv1.input_quantizer.state = "off"
    states = {path: quantizer.state for path, quantizer in quantizers(model).items()}

    def failing(items: object, images: int | None, what: str) -> object:
        for number, item in enumerate(items):  # type: ignore[arg-type, var-annotated]
            if number == 5:
                raise RuntimeError("stopped")
            yield item

    with pytest.raises(RuntimeError, match="stopped"):
        qzoo.sensitivity(model, batches, progress=failing)
    for report in (None, qzoo.sensitivity(model, batches[:1])):
        assert states == {path: quantizer.state for path, quantizer in quantizers(model).items()}, report
        assert model.training
        assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_quantizer_that_is_off_stays_off() -> None:
    model = digits()
    model.conv1.input_quantizer.state = model.conv1.weight_quantizer.state = "off"
    assert "conv1" not in {group.name for group in quantizer_groups(model)}
    for quantizer in quantizers(model).values():
        quantizer.state = "off"
    with pytest.raises(NotCalibratedError, match=r"Every quantizer of this model is switched off. Switch those on"):
        qzoo.sensitivity(model, torch.rand(2, 1, 8, 8))


def test_a_quantizer_of_no_layer_counts_as_one_and_its_rule_is_the_operator_s() -> None:
    model = qzoo.quantize(qzoo.create("resnet8_digits", pretrained=True), "int8", residual="both")
    qzoo.calibrate(model, torch.rand(32, 1, 8, 8))
    report = qzoo.sensitivity(model, torch.rand(32, 1, 8, 8), mend=0)
    layer = next(layer for layer in report.layers if layer.name == "layer1.residual_quantizer")
    assert layer.rule == {"match": {"name": "layer1"}, "residual": "none"}
    groups = quantizer_groups(model)
    one = [group for group in groups if group.name == "layer1.residual_quantizer"]
    both = {"layer1.residual_quantizer", "layer1.residual_main_quantizer"}
    assert {group.name for group in with_equal_rules(one, groups)} == both


def test_without_labels_there_is_no_drop(batches: Batches) -> None:
    labelled, plain = (qzoo.sensitivity(digits(), images) for images in (batches, [x for x, _ in batches]))
    assert plain.float_top1 is plain.layers[0].drop is plain.mended[0].gain is None
    assert [layer.name for layer in plain.layers] == [layer.name for layer in labelled.layers]
    with pytest.raises(DataError, match=r"Only 100 of 200 images have labels. Give \(x, y\) for all batches"):
        qzoo.sensitivity(digits(), [batches[0], batches[1][0]])


def test_what_can_t_be_measured_is_refused(batches: Batches) -> None:
    with pytest.raises(DataError, match=r"The images are generator, which can be gone through once.* or say mend=0"):
        qzoo.sensitivity(digits(), (batch for batch in batches))
    assert qzoo.sensitivity(digits(), (batch for batch in batches), mend=0).rules() == []
    with pytest.raises(DataError, match="There are no images to measure sensitivity on"):
        qzoo.sensitivity(digits(), [])
    with pytest.raises(NotCalibratedError, match="Can't measure its sensitivity: 17 quantizers have no range"):
        qzoo.sensitivity(qzoo.create("resnet8_digits_int8", "float"), batches)
    with pytest.raises(NotCalibratedError, match="This model has no quantizers"):
        qzoo.sensitivity(nn.Linear(2, 2), batches)


def test_works_in_inference_mode(batches: Batches) -> None:
    with torch.inference_mode():
        inside = qzoo.sensitivity(digits(), [(x.clone(), y) for x, y in batches])
    outside = qzoo.sensitivity(digits(), batches)
    assert inside.layers == outside.layers


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_the_ratio_in_decibels(signal: float, noise: float) -> None:
    assert 10 ** (sqnr_db(signal, noise) / 10) == pytest.approx(signal / noise)
    assert sqnr_db(signal, noise) == pytest.approx(-sqnr_db(noise, signal), abs=1e-9)


def test_the_ratio_of_nothing() -> None:
    assert sqnr_db(1.0, 0.0) == math.inf
    with pytest.raises(DataError, match="The float model's logits are all 0"):
        sqnr_db(0.0, 1.0)


def test_a_recipe_without_ranges_is_calibrated_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"version: 3{PLANTED}")
    report = sensitivity_named(find(f"{file}:planted"), Settings(eval_images=100), mend=0)
    assert report.calibration is not None
    assert report.calibration.images == 64
    assert (report.name, report.version, report.complete) == ("mine_planted", 3, False)
    assert report.layers[0].name == "layer2.conv1"


def test_ranges_at_hand_are_taken() -> None:
    zoo_model = find("resnet8_digits_int8")
    report = sensitivity_named(zoo_model, Settings(eval_images=50), mend=0)
    assert report.calibration is None
    given = environment.packaged("digits/artifacts/resnet8_digits_int8.ranges.safetensors")
    assert sensitivity_named(zoo_model, Settings(eval_images=50), ranges=given, mend=0).layers == report.layers
