"""What is in the shipped recipes, and that nobody needs torch to read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.resolution.resolve import resolve
from tests.each import for_each

CATALOG = Catalog.load()
CIFAR = [
    "int8", "int8_max", "int8_p999", "int8_mse", "int8_entropy", "int8_asym", "w8a4", "w4a8", "w4a4", "fp8",
    "w4a8_gptq", "w4a8_opt", "w4a4_opt", "w3a3_opt", "w2a4_opt", "int8_per_tensor", "int8_per_tensor_eq",
]  # fmt: skip
TRAINED_CIFAR = [
    "int8_qat", "w4a4_lsq", "w3a3_lsq", "w2a2_lsq", "w4a4_qat", "w3a3_qat", "w2a2_opt", "w2a2_qat",
]  # fmt: skip
DIGITS = ["int8", "int8_max", "int8_mse", "int8_entropy", "w4a8", "w4a4", "fp8", "w2a2_opt", "w4a4_qat", "w2a2_qat"]
RESNET50 = [
    "int8", "int8_p999", "int8_mse", "int8_entropy", "int8_residual", "int8_qat", "int8_qat15", "w4a4_lsq", "w4a8",
    "mixed_example", "w4a8_adaround", "w4a4_qdrop", "w2a4_qdrop", "w3a3_qdrop",
]  # fmt: skip

# NVIDIA's tutorial (bounds and rounded figures) and the logs of its notebooks; Sparsebit, MQBench, QDrop for low bits.
PUBLISHED = {
    "int8": ["76.1 ±0.15", "76.138 ±0.15"],
    "int8_p999": ["< int8", "75.438 ±0.2"],
    "int8_mse": ["≥ 76", "76.186 ±0.15"],
    "int8_entropy": ["≥ 76", "76.206 ±0.15"],
    "int8_qat": ["≥ 76.4", "76.426 ±0.15"],
    "int8_qat15": ["≥ 76.7"],
    "w4a4_lsq": ["76.664 ±0.5"],
    "w4a8_adaround": ["drop ≤ -0.24 ±0.3"],
    "w4a4_qdrop": ["drop ≤ 1.88 ±0.3", "drop ≤ 1.65 ±0.3"],
    "w2a4_qdrop": ["drop ≤ 6.69 ±0.3"],
    "w3a3_qdrop": ["drop ≤ 5.72 ±0.3"],
}
METHODS = {"int8": "percentile 99.99", "int8_p999": "percentile 99.9", "int8_mse": "mse", "int8_entropy": "entropy"}


@pytest.mark.parametrize(
    ("name", "variants"),
    [(f"resnet{depth}_cifar10", CIFAR) for depth in (32, 44, 56)]
    + [("resnet20_cifar10", CIFAR + TRAINED_CIFAR), ("resnet8_digits", DIGITS), ("resnet50", RESNET50)],
)
def test_variants(name: str, variants: list[str]) -> None:
    assert CATALOG.find(name)[0].variants == variants


def test_resnet50_is_held_against_nvidias_figures() -> None:
    entry, _ = CATALOG.find("resnet50")
    assert {name: [*map(str, v.published)] for name, v in entry.recipe.variants.items() if v.published} == PUBLISHED
    assert [*map(str, entry.recipe.published)] == ["76.2 ±0.1"]
    assert {name: resolve(entry, name).method for name in METHODS} == METHODS


def test_resnet50_is_calibrated_as_the_tutorial_does() -> None:
    calibration = resolve(CATALOG.find("resnet50")[0], "int8").calibration
    assert (calibration.split, calibration.images, calibration.batch_size) == ("train", 1024, 512)
    assert (calibration.transform, calibration.binning) == ("train", "reference")


@pytest.mark.parametrize(("depth", "top1"), [(20, 91.73), (32, 92.63), (44, 93.10), (56, 93.39)])
def test_float_figures_of_the_cifar_weights(depth: int, top1: float) -> None:
    claim = CATALOG.find(f"resnet{depth}_cifar10")[0].recipe.published[0]
    assert (claim.top1, claim.own, claim.source.split()[0]) == (
        top1,
        False,
        "github.com/akamaster/pytorch_resnet_cifar10,",
    )


@for_each("entry", lambda: CATALOG.entries, ids=lambda entry: entry.name)
def test_own_figures_name_their_command(entry) -> None:  # type: ignore[no-untyped-def]
    claims = [*entry.recipe.published, *(claim for v in entry.recipe.variants.values() for claim in v.published)]
    assert all(claim.source.startswith("qzoo ") for claim in claims if claim.own)


@for_each("entry", lambda: CATALOG.entries, ids=lambda entry: entry.name)
def test_bases_name_their_weights_and_recipes_say_what_they_are(entry) -> None:  # type: ignore[no-untyped-def]
    assert entry.recipe.base.weights
    assert entry.recipe.description.endswith(".")


@for_each("name", lambda: CATALOG.schemes)
def test_schemes_say_what_they_do_and_quantize_weights_per_channel_unless_their_name_says_more(name: str) -> None:
    scheme = CATALOG.schemes[name].scheme
    assert scheme.description.endswith(".")
    expected = "tensor" if name.endswith("per_tensor") else "channel"
    assert scheme.rules[0].weight.per == expected  # type: ignore[union-attr]


def test_commands_that_only_read_recipes_import_no_torch() -> None:
    commands = ["list", "show resnet50", "show resnet50_int8", "validate --schema-only", "--help"]
    assert "torch" not in modules_after(f"""
from qzoo.cli import main
for command in {commands}:
    sys.argv = ["qzoo", *command.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
""")


def test_schema_and_results_import_no_torch() -> None:
    folder = Path(sys.modules["qzoo"].__path__[0])
    paths = [path for room in ("schema", "results") for path in (folder / room).rglob("*.py")]
    names = [".".join(("qzoo", *path.relative_to(folder).with_suffix("").parts)) for path in paths]
    loaded = modules_after(f"import qzoo, {', '.join(names)}")
    assert {"qzoo.schema.resolution.binding", "qzoo.results.reproduce"} <= loaded
    assert loaded.isdisjoint({"torch", "torchvision", "timm", "numpy"})


def modules_after(code: str) -> set[str]:
    """Returns the modules that a fresh interpreter has loaded after the code."""
    code = f"import atexit, sys; atexit.register(lambda: print('modules', *sys.modules)); {code}"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(result.stdout.splitlines()[-1].split()[1:])
