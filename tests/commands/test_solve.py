"""Ranges solved from histograms are those of a calibration, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import qzoo
from qzoo.commands import solve as solving
from qzoo.commands.calibrate import calibrate_variants
from qzoo.commands.settings import Settings
from qzoo.commands.solve import solve
from qzoo.errors import CalibrationError, RecipeError, WeightsError
from qzoo.quant.ranges import get_ranges
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.loading import dump_yaml, parse_recipe
from qzoo.schema.reading.sources import PythonRecipe
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.resolve import resolve
from qzoo.weights.histograms import load_histograms, save_histograms
from qzoo.weights.ranges import load_ranges
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel
from tests.each import for_each

METHODS: dict[str, dict[str, Any]] = {
    "max": {"method": "max"},
    "mse": {"method": "mse"},
    "entropy": {"method": "entropy"},
    "p99.9": {"method": "percentile", "percentile": 99.9},
    "p99.99": {"method": "percentile"},
}
SYMMETRIC = [(name, bits, 4 if bits == 5 else 8) for name in METHODS for bits in range(4, 9)]
REFERENCE_CASES = [case for case in SYMMETRIC if case[1] in (4, 8)]
METHODS |= {
    "mse_asym": {"method": "mse", "symmetric": False},
    "p99_asym": {"method": "percentile", "percentile": 99.0, "symmetric": False},
    "entropy_auto": {"method": "entropy", "symmetric": "auto"},
}
CASES = [*SYMMETRIC, ("mse_asym", 4, 8), ("p99_asym", 8, 8), ("entropy_auto", 6, 8)]


def with_cases(entry: RecipeEntry, binning: str = "aligned") -> RecipeEntry:
    """The recipe with a variant for each case, written as a person writes it."""
    content = entry.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    content["calibration"] = {"images": 128, "binning": binning}
    for name, bits, weight_bits in CASES if binning == "aligned" else REFERENCE_CASES:
        said = METHODS[name]
        calibrator = {"percentile": said.get("percentile", 99.99)} if name[0] == "p" else said["method"]
        of_input = {"bits": bits, "calibrator": calibrator, "symmetric": said.get("symmetric", True)}
        variant = {"from": "int8", "input": of_input, "weight": {"bits": weight_bits}}
        content["variants"][f"case_{name}_{bits}_{weight_bits}"] = variant
    return replace(entry, recipe=Recipe.model_validate_json(json.dumps(content)), source=PythonRecipe())


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each binning, with the histograms of `int8` and the ranges of each case."""
    folders = {}
    for binning in ("aligned", "reference"):
        entry = with_cases(Catalog.load().find("resnet8_digits")[0], binning)
        folders[binning] = tmp_path_factory.mktemp(binning)
        cases = [name for name in entry.variants if name.startswith("case")]
        calibrate_variants([ZooModel(entry, name) for name in ("int8", *cases)], Settings(), output=folders[binning])
    return folders


@for_each(
    ("binning", "name", "bits", "weight_bits"),
    [("aligned", *case) for case in CASES] + [("reference", *case) for case in REFERENCE_CASES],
)
def test_solving_is_calibrating(
    binning: str, name: str, bits: int, weight_bits: int, calibrated: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("qzoo.tasks.inputs.images.open_split", lambda *_: pytest.fail("images were opened"))
    histograms = calibrated[binning] / "resnet8_digits_int8.histograms.safetensors"
    made = solve(histograms, **METHODS[name], bits=bits, weight_bits=weight_bits, output=tmp_path)
    expected, _ = load_ranges(
        calibrated[binning] / f"resnet8_digits_case_{name}_{bits}_{weight_bits}.ranges.safetensors"
    )
    written, info = load_ranges(made.path)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)
    assert all(torch.equal(get_ranges(made.model)[key], expected[key]) for key in expected)
    assert info.calibration_images == 128


@pytest.fixture(scope="module")
def histograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    return calibrate_variants([find("resnet8_digits_int8")], Settings(), output=folder)[0].histograms or Path()


def test_a_known_variant_is_called_by_its_name_and_found_by_it(
    histograms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = solve(histograms, "mse", output=tmp_path)
    assert made.variant.name == "resnet8_digits_int8_mse"
    assert made.path == tmp_path / "resnet8_digits_int8_mse.ranges.safetensors"
    model = qzoo.create("resnet8_digits_int8_mse", pretrained="float")
    qzoo.load(model, made.path)
    # Bit for bit those of a calibration on this machine; the shipped ones are of another, whose last bits differ.
    (calibrated,) = calibrate_variants(
        [find("resnet8_digits_int8_mse")], Settings(), output=tmp_path / "full", histograms=False
    )
    full = qzoo.load(qzoo.create("resnet8_digits_int8_mse", pretrained="float"), calibrated.path)
    shipped = get_ranges(qzoo.create("resnet8_digits_int8_mse", pretrained=True))
    for key, value in get_ranges(model).items():
        assert torch.equal(value, get_ranges(full)[key])
        torch.testing.assert_close(value, shipped[key], rtol=0.02, atol=0)


def test_another_variant_is_named_after_what_it_changes(histograms: Path, tmp_path: Path) -> None:
    made = solve(histograms, percentile=99.5, bits=6, weight_bits=4, output=tmp_path)
    assert made.variant.variant == "int8_w4_a6_p99.5"
    assert made.written == {
        "from": "int8", "weight": {"bits": 4}, "input": {"bits": 6, "calibrator": {"percentile": 99.5}},
    }  # fmt: skip
    assert solve(histograms, output=tmp_path).variant.name == "resnet8_digits_int8"
    assert solve(histograms, symmetric=False, output=tmp_path).variant.variant == "int8_asym"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "entrpy"}, r"Unknown method 'entrpy'\. Did you mean 'entropy'\?"),
        ({"method": "mse", "percentile": 99.9}, r"The method mse has no percentile\. Leave it out, or say"),
        ({"percentile": 0.0}, r"A percentile of 0: give one above 0, at most 100"),
        ({"percentile": 101.0}, r"A percentile of 101: give one above 0"),
        ({"bits": 1}, r"1 bits for the input: give 2 to 16"),
        ({"weight_bits": 17}, r"17 bits for the weight: give 2 to 16"),
        ({"output": Path("x.txt")}, r"x\.txt is neither a folder nor a \.safetensors file"),
    ],
)
def test_mistakes(arguments: dict[str, Any], text: str, histograms: Path) -> None:
    with pytest.raises(RecipeError, match=text):
        solve(histograms, **arguments)


def test_bits_are_a_whole_number(histograms: Path) -> None:
    said = r"solve\(\) got bits=4\.5 of type float; expected int or None: the number of bits of these inputs, 2 to 16\."
    with pytest.raises(qzoo.ArgumentError, match=said):
        solve(histograms, bits=4.5)  # type: ignore[arg-type]


def test_histograms_of_magnitudes_alone_give_no_range_with_a_zero_point(histograms: Path, tmp_path: Path) -> None:
    seen, info = load_histograms(histograms)
    old = tmp_path / "old.histograms.safetensors"
    save_histograms(old, {path: replace(one, negatives=None) for path, one in seen.items()}, info)
    with pytest.raises(CalibrationError, match="count magnitudes alone"):
        solve(old, "mse", symmetric=False, output=tmp_path)
    by_max = [solve(one, "max", symmetric=False, output=tmp_path) for one in (old, histograms)]
    expected = get_ranges(by_max[1].model)
    assert all(torch.equal(value, expected[key]) for key, value in get_ranges(by_max[0].model).items())


def test_percentiles_near_a_hundred_have_names_of_their_own(histograms: Path, tmp_path: Path) -> None:
    made = [solve(histograms, percentile=value, output=tmp_path) for value in (99.99991, 99.99999, 100.0)]
    assert [each.variant.variant for each in made] == ["int8_p99.99991", "int8_p99.99999", "int8_p100"]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_name_that_the_chain_has_is_not_taken_again(histograms: Path, tmp_path: Path) -> None:
    collected, info = load_histograms(histograms)
    content = parse_recipe(info.recipe).model_dump(mode="json", by_alias=True, exclude_none=True)
    content["variants"] = {"a_mse": {"input": {"bits": 5}}, "a": {"from": "a_mse"}}
    recipe = Recipe.model_validate_json(json.dumps(content))
    digest = resolve(RecipeEntry.from_recipe(recipe, "resnet8_digits"), "a").digest
    path = tmp_path / "x.histograms.safetensors"
    change = {"recipe": dump_yaml(recipe), "variant": "a", "recipe_sha256": digest}
    save_histograms(path, collected, info.model_copy(update=change))
    made = solve(path, "mse", output=tmp_path)
    assert made.variant.variant == "a_mse_"
    assert made.model.conv1.input_quantizer.spec.bits == 5


@pytest.mark.parametrize("change", [{"base": "../../x"}, {"variant": "../x"}, {"base": "/x"}, {"base": "a\\b"}])
def test_no_name_leads_out_of_the_folder(change: dict[str, str], histograms: Path, tmp_path: Path) -> None:
    collected, info = load_histograms(histograms)
    save_histograms(tmp_path / "x.histograms.safetensors", collected, info.model_copy(update=change))
    with pytest.raises(WeightsError, match=rf"does not understand \(fields: {next(iter(change))}\)"):
        solve(tmp_path / "x.histograms.safetensors", "mse", output=tmp_path)


def test_histograms_that_lack_a_quantizer_have_one_too_many_or_count_nonsense_are_refused(
    histograms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving, "create_base", lambda *_, **__: pytest.fail("the model was made first"))
    collected, info = load_histograms(histograms)
    path, first = tmp_path / "x.histograms.safetensors", next(iter(collected))
    for counts, said in ((torch.zeros(4096, dtype=torch.int64), "0"), (torch.full((4096,), 2**62), r"1\.8\d+e\+22")):
        save_histograms(path, collected | {first: replace(collected[first], counts=counts)}, info)
        with pytest.raises(WeightsError, match=rf"{first} is no histogram: it counted {said} values in all"):
            solve(path, "mse", output=tmp_path)
    save_histograms(path, {key: one for key, one in collected.items() if key != first}, info)
    with pytest.raises(CalibrationError, match=rf"The collection lacks {first}"):
        solve(path, "mse", output=tmp_path)
    save_histograms(path, {**collected, "layer9.input_quantizer": collected[first]}, info)
    with pytest.raises(WeightsError, match=r"the model has no quantizer layer9\.input_quantizer \(1 such\)"):
        solve(path, "mse", output=tmp_path)


def test_histograms_of_other_weights_or_another_recipe_are_refused(histograms: Path, tmp_path: Path) -> None:
    collected, info = load_histograms(histograms)
    path = tmp_path / "x.histograms.safetensors"
    save_histograms(path, collected, info.model_copy(update={"base_sha256": "0" * 64}))
    with pytest.raises(WeightsError, match=r"belongs to another base: it was made for weights with .* 000000000000"):
        solve(path)
    save_histograms(path, collected, info.model_copy(update={"recipe_sha256": "0" * 64}))
    with pytest.raises(WeightsError, match=r"holds another recipe than the one it was collected by\. Calibrate again"):
        solve(path)
    save_histograms(path, collected, info.model_copy(update={"recipe": "base: {source: timm"}))
    with pytest.raises(RecipeError, match=r"the recipe in x\.histograms\.safetensors:2 is not YAML"):
        solve(path)


@pytest.mark.slow
def test_real_histograms_give_the_shipped_ranges(
    data_root: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    entry = Catalog.load().find("resnet20_cifar10")[0]
    (made,) = calibrate_variants([ZooModel(entry, "int8")], Settings(data=data_root), output=tmp_path)
    for variant, arguments in (
        ("int8_max", {"method": "max"}), ("int8_mse", {"method": "mse"}), ("int8_entropy", {"method": "entropy"}),
        ("int8_p999", {"percentile": 99.9}),
    ):  # fmt: skip
        solved = solve(str(made.histograms), **arguments, output=tmp_path)  # type: ignore[arg-type]
        assert solved.variant.variant == variant
        # Bit for bit those of a calibration on this machine; the shipped ones are of another, whose last bits differ.
        (calibrated,) = calibrate_variants(
            [ZooModel(entry, variant)], Settings(data=data_root), output=tmp_path / "full", histograms=False
        )
        full = get_ranges(qzoo.load(qzoo.create(f"resnet20_cifar10_{variant}", pretrained="float"), calibrated.path))
        shipped = get_ranges(qzoo.create(f"resnet20_cifar10_{variant}", pretrained=True))
        for key, value in get_ranges(solved.model).items():
            assert torch.equal(value, full[key])
            torch.testing.assert_close(value, shipped[key], rtol=0.02, atol=0)
