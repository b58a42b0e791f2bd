from __future__ import annotations

import copy
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
import torch
from torch import nn

import qzoo
from qzoo.commands.calibrate import calibratable, calibrate_variants
from qzoo.commands.settings import Settings
from qzoo.environment import packaged
from qzoo.errors import NotCalibratedError, RuleError, UnknownNameError, WeightsError
from qzoo.models.architectures.resnet_digits import DigitsResNet
from qzoo.models.bases import meta_model
from qzoo.models.on_base import check_fit, info_of
from qzoo.models.select_layers import plan_quantizers
from qzoo.models.survey import survey
from qzoo.quant.quantizer import UncalibratedWarning
from qzoo.quant.ranges import get_ranges, quantizers, uncalibrated
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.sources import OwnFile
from qzoo.schema.recipe import Base, Recipe, Variant
from qzoo.weights.base_weights import NewHeadWarning
from qzoo.weights.kinds import MODEL, RANGES, ROUNDING
from qzoo.weights.ranges import load_ranges
from qzoo.zoo.name_lookup import find
from qzoo.zoo.pretrained import OtherImagesWarning, create_on_base
from qzoo.zoo.zoo_model import ZooModel
from tests.each import for_each

CATALOG = Catalog.load()
DIGITS = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def calibrated() -> list[ZooModel]:
    """Returns all variants that calibration alone makes."""
    return [variant for entry in CATALOG.entries for variant in calibratable(ZooModel(entry))]


def shipped() -> list[str]:
    """Returns the variants whose ranges ship."""
    return [variant.name for variant in calibrated() if variant.artifact_at_hand(RANGES)]


@pytest.mark.timeout(600)
@for_each("entry", lambda: CATALOG.entries, ids=lambda entry: entry.name)
def test_every_variant_is_its_bases_class_with_quantizers_inside(
    entry: RecipeEntry,
) -> None:
    base, variants = meta_model(entry.recipe.base), [one.resolved for one in calibratable(ZooModel(entry))]
    seen = survey(base)  # the same for all
    plans = [plan_quantizers(base, variant, seen=seen) for variant in variants]
    assert all({planned.role for planned in plan.quantizers} >= {"input", "weight"} for plan in plans)
    # A plan is all that a variant has of its own: one shows how plans are carried out.
    model = qzoo.quantize(base, variants[-1])
    assert type(model) is type(base)
    assert not model.training
    assert uncalibrated(model) == list(quantizers(model))
    assert set(quantizers(model)) == {planned.path for planned in plans[-1].quantizers}


@for_each("variant", lambda: calibratable(find("resnet20_cifar10")))
def test_create_makes_a_variant_of_its_base(variant: ZooModel) -> None:
    model = qzoo.create(variant.name)
    assert type(model) is type(qzoo.create("resnet20_cifar10"))
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert uncalibrated(model) == list(quantizers(model))


def test_the_tutorials_resnet50_has_55_input_and_54_weight_quantizers() -> None:
    model = qzoo.create("resnet50_int8")
    assert len(quantizers(model, "input")) == 55
    assert len(quantizers(model, "weight")) == 54
    assert str(quantizers(model)["avgpool.input_quantizer"].spec) == "8bit per-tensor max"


def test_ranges_are_shipped_for_every_variant_of_a_public_dataset() -> None:
    names = {variant.name for variant in calibrated() if variant.dataset != "imagenet-1k"}
    assert names - {*shipped()} == set(), "make them: qzoo calibrate BASE -o recipes/FAMILY/artifacts"


@for_each("name", shipped)
def test_shipped_ranges_belong_to_the_recipe_of_today(name: str) -> None:
    zoo_model = find(name)
    ranges, info = load_ranges(zoo_model.artifact_at_hand(RANGES))  # type: ignore[arg-type]
    assert info.name == name
    assert info.recipe_sha256 == zoo_model.resolved.digest, f"run `qzoo calibrate {name}` again"
    model = qzoo.quantize(meta_model(zoo_model.base), zoo_model.resolved)
    assert set(ranges) == set(get_ranges(model.to_empty(device="cpu")))


def test_shipped_roundings_belong_to_the_recipe_of_today() -> None:
    files = [*packaged().rglob(f"*{ROUNDING.suffix}")]
    assert files
    for file in files:
        zoo_model = find(file.name.removesuffix(ROUNDING.suffix))
        check_fit(zoo_model.resolved, file)
        assert info_of(file).recipe_sha256 == zoo_model.resolved.digest, f"run `{zoo_model.making_command}` again"


def test_what_is_optimized_comes_from_a_bit_a_weight() -> None:
    model = qzoo.create("resnet8_digits_w2a2_opt", pretrained=True)
    assert qzoo.evaluate("resnet8_digits_w2a2_opt").top1 == pytest.approx(98.66, abs=1.0)
    assert len(model.layer3.conv2.weight.unique()) <= 4 * len(model.layer3.conv2.weight)
    size = (packaged() / "digits" / "artifacts" / "resnet8_digits_w2a2_opt.rounding.safetensors").stat().st_size
    assert size < 0.05 * 4 * sum(parameter.numel() for parameter in model.parameters())


def test_pretrained_needs_no_network_and_predicts() -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained=True)
    assert isinstance(model, DigitsResNet)
    assert not uncalibrated(model)
    float_model = qzoo.create("resnet8_digits", pretrained=True)
    agreement = qzoo.evaluate(model, DIGITS).agreement(qzoo.evaluate(float_model, DIGITS))
    assert agreement > 90
    assert not torch.equal(model(DIGITS), float_model(DIGITS))


def test_prints_one_line_for_each_quantizer() -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained=True)
    lines = [line for line in repr(model).splitlines() if "TensorQuantizer" in line]
    assert len(lines) == len(quantizers(model))
    assert all(re.search(r"TensorQuantizer\(8bit per-(tensor|channel) .+, amax=\S+.*, quantizing\)", x) for x in lines)


@pytest.mark.parametrize(
    "images",
    [DIGITS, [DIGITS], iter(DIGITS.split(8)), [(DIGITS, torch.zeros(32).long()), [DIGITS, torch.zeros(32).long()]]],
    ids=["tensor", "list", "iterator", "pairs"],
)
def test_calibrates_on_any_iterable(images: object) -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained="float")
    assert qzoo.calibrate(model, images) is model
    assert not uncalibrated(model)


def test_before_calibration_activations_pass_with_one_warning() -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained="float")
    with pytest.warns(UncalibratedWarning, match=r"not calibrated: its activations stay in float. Run qzoo.calibrate"):
        model(DIGITS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(DIGITS)
    with pytest.raises(
        NotCalibratedError, match=r"Can't evaluate: 17 quantizers have no range \(conv1.input_quantizer"
    ):
        qzoo.evaluate(model, DIGITS)
    with pytest.raises(NotCalibratedError, match=r"Can't save the ranges: 17 quantizers have no range"):
        qzoo.save(model, "never.safetensors")


def test_what_is_no_scheme_is_refused() -> None:
    with pytest.raises(qzoo.ArgumentError, match=r"takes the name of a scheme or a variant, not a Recipe\."):
        qzoo.quantize(nn.Linear(2, 2), qzoo.recipe("resnet8_digits"))  # type: ignore[arg-type]


def test_save_and_load_give_bit_identical_logits(tmp_path: Path) -> None:
    model = qzoo.calibrate(qzoo.create("resnet8_digits_w4a4", pretrained="float"), DIGITS)
    qzoo.save(model, tmp_path / "w4a4.ranges.safetensors")
    again = qzoo.load(qzoo.create("resnet8_digits_w4a4", pretrained="float"), tmp_path / "w4a4.ranges.safetensors")
    assert torch.equal(again(DIGITS), model(DIGITS))


def test_ranges_of_another_base_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    file = qzoo.save(qzoo.create("resnet8_digits_int8", pretrained=True), tmp_path / "a.safetensors")
    other = qzoo.create("resnet8_digits_int8")
    with pytest.raises(WeightsError, match="belongs to another base: it was made for weights with content digest"):
        qzoo.load(other, file)
    assert len(uncalibrated(other)) == 17


def test_ranges_of_another_variant_are_refused(tmp_path: Path) -> None:
    file = qzoo.save(qzoo.create("resnet8_digits_int8", pretrained=True), tmp_path / "a.safetensors")
    other = qzoo.create("resnet8_digits_w4a4", pretrained="float")
    with pytest.raises(
        WeightsError, match=r"holds the ranges of resnet8_digits_int8 \(.+\); this model is resnet8_digits_w4a4"
    ):
        qzoo.load(other, file)


def test_without_ranges_the_message_has_the_command() -> None:
    expected = r"Nothing is released or calibrated for .* once: qzoo calibrate \S+ --data PATH"
    with pytest.raises(WeightsError, match=expected):
        create_on_base(find("resnet50_int8"))


def test_ranges_of_fewer_images_than_the_recipe_says_are_reported(tmp_path: Path) -> None:
    zoo_model = find("resnet8_digits_int8")
    (made,) = calibrate_variants([zoo_model], Settings(calib_images=16), output=tmp_path / "artifacts")
    copy = replace(zoo_model.entry, source=OwnFile(tmp_path / "resnet8_digits.yaml"))
    with pytest.warns(OtherImagesWarning, match=r"was calibrated on 16 images, the recipe says 512"):
        create_on_base(ZooModel(copy, "int8"))
    assert made.images == 16


def test_another_number_of_classes_keeps_the_ranges_of_all_other_layers() -> None:
    with pytest.warns(NewHeadWarning, match=r"linear.bias, linear.weight of resnet8_digits.safetensors are left out"):
        model = qzoo.create("resnet8_digits_int8", pretrained=True, num_classes=3)
    ours, theirs = get_ranges(model), get_ranges(qzoo.create("resnet8_digits_int8", pretrained=True))
    assert ours["linear.weight_quantizer.amax"].shape == (3, 1)
    for key in theirs.keys() - {"linear.weight_quantizer.amax"}:
        assert torch.equal(ours[key], theirs[key]), key
    assert model(DIGITS).shape == (32, 3)


def test_a_base_by_name_is_the_float_model() -> None:
    model = qzoo.create("resnet8_digits", pretrained=True)
    assert not quantizers(model)
    assert qzoo.evaluate(model, DIGITS).images == 32


def test_a_recipe_may_be_a_file_or_made_in_python(tmp_path: Path) -> None:
    recipe = Recipe(
        base=Base(source="qzoo", architecture="resnet8_digits"), dataset="digits", variants={"int8": Variant()}
    )
    assert len(quantizers(qzoo.create(recipe, variant="int8"))) == 17
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: {source: qzoo, architecture: resnet8_digits}\ndataset: digits\nvariants: {w4a8: {scheme: w4a8}}\n"
    )
    for model in (qzoo.create(f"{file}:w4a8"), qzoo.create(file, variant="w4a8")):
        assert quantizers(model, "weight")["conv1.weight_quantizer"].spec.bits == 4
    assert not quantizers(qzoo.create(file))


@pytest.mark.parametrize(
    ("name", "keywords", "text"),
    [
        ("resnet8_digits_int9", {}, "Unknown model 'resnet8_digits_int9'. Did you mean 'resnet8_digits_int8'?"),
        ("resnet8_digits", {"variant": "int9"}, "has no variant 'int9'. Did you mean 'int8'?"),
        (
            "resnet8_digits",
            {"pretrained": "yes"},
            "pretrained='yes' means nothing here. Known: True, 'exact', 'float', False.",
        ),
        ("nothing.yaml", {}, "There is no recipe file nothing.yaml"),
        ("resnet8_digits_int8", {"variant": "w4a4"}, "is a variant already; variant='w4a4' goes with its base"),
        ("resnet8_digits_int8", {"quantize": True}, "is a variant already; quantize=True goes with its base"),
        ("resnet8_digits", {"quantize": "int8"}, "quantize='int8' is neither True nor False. To choose one: variant='"),
        ("resnet8_digits", {"variant": ["int8"]}, "variant=['int8'] is no name; give one, such as variant='int8'."),
        (
            "resnet8_digits",
            {"residual": "skip"},
            "residual='skip' goes with a variant or a scheme, and 'resnet8_digits'",
        ),
        (
            "resnet8_digits_int8",
            {"residual": "both", "pretrained": True},
            "for which there are no ranges: create it with",
        ),
    ],
)
def test_mistakes_are_named(name: str, keywords: dict[str, object], text: str) -> None:
    with pytest.raises(qzoo.QzooError, match=re.escape(text)):
        qzoo.create(name, **keywords)  # type: ignore[arg-type]


def residual_quantizers(model: nn.Module) -> list[str]:
    return [path for path in quantizers(model) if "residual" in path]


class TestResidualQuantizers:
    @pytest.mark.parametrize("name", ["resnet50", "torchvision/resnet34", "timm/test_resnet"])
    def test_one_flag_gives_the_variant(self, name: str) -> None:
        model = qzoo.create(name, quantize=True)
        assert list(quantizers(model)) == list(quantizers(qzoo.create(name, variant="int8_residual")))
        residuals = [path for path in quantizers(model) if "residual" in path]
        assert residuals == [
            f"{path}.residual_quantizer" for path, m in model.named_modules() if hasattr(m, "downsample")
        ]

    @pytest.mark.parametrize(("residual", "count"), [(None, 0), ("none", 0), ("skip", 3), ("both", 6)])
    def test_of_a_users_model(self, residual: str | None, count: int) -> None:
        mine = qzoo.create("resnet8_digits", pretrained=True)
        model = qzoo.quantize(mine, "int8", residual=residual, example=DIGITS)
        assert len(residual_quantizers(model)) == count
        qzoo.calibrate(model, DIGITS)
        assert qzoo.evaluate(model, DIGITS).agreement(qzoo.evaluate(mine, DIGITS)) > 90

    def test_a_call_beats_the_scheme_and_the_variant(self) -> None:
        mine = qzoo.create("resnet8_digits")
        assert not [p for p in quantizers(qzoo.quantize(mine, "int8_ort", residual="none")) if "residual" in p]
        assert (
            len([p for p in quantizers(qzoo.quantize(mine, "resnet50_int8_residual", residual="both")) if "resid" in p])
            == 6
        )

    def test_an_unknown_placement(self) -> None:
        with pytest.raises(RuleError, match=r"^residual='skp': unknown placement 'skp'\. Did you mean 'skip'\?"):
            qzoo.quantize(nn.Linear(2, 2), residual="skp")
        with pytest.raises(RuleError, match=r"^residual=True: expected skip, both, none"):
            qzoo.quantize(nn.Linear(2, 2), residual=True)  # type: ignore[arg-type]

    def test_create_takes_a_placement_and_adds_the_manual_pattern_where_a_recipe_has_none(self) -> None:
        assert len(residual_quantizers(qzoo.create("resnet8_digits", quantize=True))) == 3
        assert len(residual_quantizers(qzoo.create("resnet8_digits_int8", residual="both"))) == 6
        four = qzoo.create("timm/test_resnet", scheme="int8", residual={"placement": "skip", "bits": 4})
        assert {four.get_submodule(path).spec.bits for path in residual_quantizers(four)} == {4}

    def test_ranges_come_back(self, tmp_path: Path) -> None:
        mine = qzoo.create("resnet8_digits", pretrained=True)
        model = qzoo.calibrate(qzoo.quantize(mine, "int8_ort"), DIGITS)
        again = qzoo.load(qzoo.quantize(mine, "int8_ort"), qzoo.save(model, tmp_path / "ort.safetensors"))
        assert torch.equal(again(DIGITS), model(DIGITS))


class TestLibraries:
    def test_any_model_by_name(self) -> None:
        assert not quantizers(qzoo.create("timm/test_vit"))
        named, asked = qzoo.create("timm/test_vit:int8_vit"), qzoo.create("timm/test_vit", scheme="int8_vit")
        assert list(quantizers(named)) == list(quantizers(asked))
        assert "blocks.0.attn.sdpa_query_quantizer" in quantizers(named)
        assert qzoo.create("timm/test_resnet", scheme="int8", num_classes=7).num_classes == 7

    @pytest.mark.parametrize(("name", "keywords", "text"), [
        ("timm/test_rsnet", {}, "timm has no model 'test_rsnet'. Did you mean 'test_resnet"),
        ("torchvision/resnet19", {}, "'resnet19'. Did you mean 'resnet1"),
        ("timm/test_resnet", {"scheme": "int9"}, "has no variant 'int9'. Did you mean 'int8'?"),
        ("timm/test_resnet", {"scheme": "int8", "quantize": True}, "scheme='int8' and quantize=True both name a "),
        ("timm/test_resnet:int8", {"scheme": "int8"}, "is a variant already; scheme='int8' goes with its base"),
        ("resnet50", {"scheme": "int8"}, "scheme='int8' goes with a library's model, torchvision/resnet50. The "),
    ])  # fmt: skip
    def test_mistakes(self, name: str, keywords: dict[str, object], text: str) -> None:
        with pytest.raises(qzoo.QzooError, match=re.escape(text)):
            qzoo.create(name, **keywords)  # type: ignore[arg-type]


def test_quantize_copies_the_users_model() -> None:
    mine = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    model = qzoo.quantize(mine, "int8")
    assert not quantizers(mine)
    assert [type(layer).__name__ for layer in model] == ["QuantConv2d", "ReLU", "Flatten", "QuantLinear"]
    qzoo.calibrate(model, DIGITS)
    assert not torch.equal(model(DIGITS), mine(DIGITS))
    assert torch.equal(copy.deepcopy(model)(DIGITS), model(DIGITS))
    with pytest.raises(UnknownNameError, match=r"Unknown scheme 'int9'. Did you mean 'int8'?"):
        qzoo.quantize(mine, "int9")
    with pytest.raises(UnknownNameError, match=r"'resnet50' is a float base. Give a scheme \(fp8, int8"):
        qzoo.quantize(mine, "resnet50")


def test_quantize_takes_the_rules_of_a_variant() -> None:
    model = qzoo.quantize(nn.Linear(4, 2), "resnet8_digits_w4a8")
    assert quantizers(model, "weight")["weight_quantizer"].spec.bits == 4


def test_list_models() -> None:
    assert "resnet50_int8" in qzoo.list_models()
    low_bits = ["w2a2_opt", "w2a2_qat", "w4a4", "w4a4_qat", "w4a8"]
    assert qzoo.list_models("resnet8_digits_w*") == [f"resnet8_digits_{variant}" for variant in low_bits]
    others = {path.name.split(".")[0] for kind in (MODEL, ROUNDING) for path in packaged().rglob(f"*{kind.suffix}")}
    assert {*shipped(), *others} == set(qzoo.list_models(pretrained=True))


def test_transform_comes_from_the_weights() -> None:
    assert "mean=[0.485, 0.456, 0.406]" in repr(qzoo.transform("resnet50_int8"))
    assert "mean=[0.5]" in repr(qzoo.transform("resnet8_digits"))
    assert qzoo.recipe("resnet50_int8").dataset == "imagenet-1k"


def test_a_name_costs_two_thousand_calls_and_no_file_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    qzoo.create("resnet8_digits_int8", pretrained=True)
    monkeypatch.setattr("qzoo.schema.reading.catalog.read_yaml", None)
    monkeypatch.setattr("qzoo.schema.reading.loading.read_yaml", None)
    own, package = 0, str(Path(qzoo.__file__).parent)

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal own
        own += event == "call" and frame.f_code.co_filename.startswith(package)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        qzoo.create("resnet8_digits_int8", pretrained=True)
    finally:
        sys.setprofile(before)
    assert own <= 2000
