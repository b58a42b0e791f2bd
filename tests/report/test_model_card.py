"""A model card is metadata that the hub takes, and a text whose figures and commands are those of the facts."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard
from PIL import Image
from sklearn.datasets import load_digits

from qzoo.cli.subcommands import SUBCOMMANDS
from qzoo.commands.release.bundle import make_bundle
from qzoo.hub.manifest import FILES, FileFacts, InputConfig, Manifest, ModelConfig
from qzoo.report.card_facts import CardFacts, Measured
from qzoo.report.model_card import model_card
from qzoo.results.export import ExportReport, NodeParity, Parity
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.loading import dump_yaml, parse_recipe
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve
from qzoo.zoo.name_lookup import find

NAME = "tf_efficientnet_lite0_int8"
SIZES = {
    "recipe.yaml": 1_300, "config.json": 20_000, "ranges.safetensors": 250_000, "model.safetensors": 4_700_000,
    "histograms.safetensors": 1_000_000, "receipt.safetensors": 2_300_000,
}  # fmt: skip
MEASURED = Measured(
    dataset="imagenet-1k", split="val", images=50_000, complete=True, float_top1=74.846, float_top5=92.17, top1=74.4,
    top5=91.9, agreement=92.5, date="2026-11-25",
    environment={"cpu": "AMD EPYC (2 cores)", "device": "cpu", "numpy": "2.4.6", "qzoo": "0.1.0", "torch": "2.15.0",
                 "processes": 1, "threads": 2},
)  # fmt: skip


def manifest(*without: str, **changes: Any) -> Manifest:
    files = {
        name: FileFacts(bytes=size, sha256=f"{place}" * 64)
        for place, (name, size) in enumerate(SIZES.items())
        if name not in without
    }
    fields: dict[str, Any] = {
        "name": NAME, "base": entry().name, "variant": "int8", "version": 1, "recipe_sha256": resolved().digest,
        "base_sha256": "b" * 64, "qzoo": "0.1.0", "torch": "2.15.0", "files": files,
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


CONFIG = ModelConfig(
    name=NAME, source="timm", architecture="tf_efficientnet_lite0", weights="in1k", dataset="imagenet-1k",
    num_classes=1000, labels=[f"class {n}" for n in range(1000)], parameters=4_652_008, quantizers=97,
    input=InputConfig(
        channels=3, size=224, mean=[0.5, 0.5, 0.5], std=[0.229, 0.224, 0.225], interpolation="bicubic"
    ),
)  # fmt: skip


def entry() -> RecipeEntry:
    return Catalog.load().find(NAME)[0]


def resolved() -> ResolvedVariant:
    return resolve(entry(), "int8")


def facts() -> CardFacts:
    calibration = resolved().calibration
    return CardFacts(
        manifest=manifest(), config=CONFIG, recipe=dump_yaml(entry().self_contained("int8")), description="For a test.",
        method="percentile 99.99", calibration=calibration, calibration_images=calibration.images,
        weights={"8bit per-channel max": 49}, activations={"8bit per-tensor percentile 99.99": 47},
        float_bytes=18_800_000,
        license="apache-2.0", base_model="timm/tf_efficientnet_lite0.in1k", repo="owner/lite0", measured=MEASURED,
        published=(Claim(top1_at_least=74.4, source="a published source"),),
        published_float=(Claim(top1=75.1, tolerance=0.5, source="a|b, a published source"),),
    )  # fmt: skip


def card(**changes: Any) -> str:
    return model_card(replace(facts(), **changes))


def measured(**changes: Any) -> Measured:
    return replace(MEASURED, **changes)


def data(text: str) -> dict[str, Any]:
    return ModelCard(text).data.to_dict()  # type: ignore[no-any-return]


def results(text: str) -> list[EvalResult]:
    return ModelCard(text).data.get("eval_results", [])  # type: ignore[no-any-return]


def block(text: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)\n```$", text, flags=re.S | re.M)
    return str(found)


def row(text: str, first: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1]]


def test_the_hub_gets_its_metadata() -> None:
    fields = data(card())
    del fields["model-index"]
    assert fields == {
        "base_model": "timm/tf_efficientnet_lite0.in1k",
        "base_model_relation": "quantized",
        "datasets": ["ILSVRC/imagenet-1k"],
        "library_name": "qzoo",
        "license": "apache-2.0",
        "metrics": ["accuracy"],
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "quantization", "int8", "qzoo", "timm"],
    }
    assert ModelCard(card()).data.model_name == "tf_efficientnet_lite0_int8"


def test_the_hub_gets_the_figures_of_the_quantized_model_with_their_command() -> None:
    first, second = results(card())
    assert (first.metric_type, first.metric_name, first.metric_value) == ("accuracy", "top-1", 74.4)
    assert (second.metric_type, second.metric_name, second.metric_value) == ("accuracy", "top-5", 91.9)
    for place, result in ((1, first), (5, second)):
        assert (result.dataset_type, result.dataset_name) == ("ILSVRC/imagenet-1k", "ImageNet-1k")
        assert (result.dataset_split, result.task_type) == ("validation", "image-classification")
        command = "qzoo verify hf-hub:owner/lite0 --data PATH"
        assert result.metric_args == {"top": place, "unit": "percent", "images": 50_000, "command": command}
        assert result.source_url == "https://hf.co/owner/lite0/blob/main/receipt.safetensors"
        assert command in str(result.source_name)
        # Only the hub's own service may say so.
        assert result.verified is None
        assert result.verify_token is None


def test_a_part_of_the_images_is_never_passed_off_as_all() -> None:
    text = card(measured=measured(images=500, complete=False))
    assert [result.metric_name for result in results(text)] == [
        "top-1 on 500 images of ImageNet-1k val", "top-5 on 500 images of ImageNet-1k val",
    ]  # fmt: skip
    assert "**Partial**: measured on 500 images of ImageNet-1k val, which are not all" in text
    assert "One image is 0.2 points" in text
    assert "Partial" not in card()
    assert "measured on all 50,000 images of ImageNet-1k val" in card()


@pytest.mark.parametrize(
    "found", [None, measured(float_top1=None, float_top5=None, top1=None, top5=None)], ids=["no receipt", "no labels"]
)
def test_without_figures_there_are_none(found: Measured | None) -> None:
    text = card(measured=found)
    assert not {"model-index", "metrics", "eval_results", "model_name"} & data(text).keys()
    assert row(text, "quantized") == ["", "", "", "92.50" if found else "", "≥ 74.4"]
    assert row(text, "float")[-1] == "75.1 ±0.5"
    assert ("**Not measured**" in text) == (found is None)
    # There is nothing to verify without a receipt.
    assert ("qzoo verify" in block(text, "bash")) == (found is not None)


OTHER = {"license": "other", "license_link": "https://hf.co/timm/tf_efficientnet_lite0.in1k"}


@pytest.mark.parametrize(("name", "fields", "said"), [
    ("mit", {"license": "mit"}, "License: mit, as timm states it"),
    ("dinov3-license", {**OTHER, "license_name": "dinov3-license"}, "License: dinov3-license, as timm states it"),
    ("Own License 1.0", {**OTHER, "license_name": "own-license-1.0"}, "License: Own License 1.0, as timm states it"),
    ("unknown", {}, "License: **not known**. timm states none"),
    ("other", {}, "License: **not known**"),
    (None, {}, "License: **not known**"),
])  # fmt: skip
def test_license(name: str | None, fields: dict[str, str], said: str) -> None:
    text = card(license=name)
    assert {key: value for key, value in data(text).items() if key.startswith("license")} == fields
    assert said in text


def test_a_base_that_is_not_on_the_hub_is_no_base_model() -> None:
    config = CONFIG.model_copy(update={"source": "torchvision", "weights": "IMAGENET1K_V1"})
    text = card(base_model=None, config=config, license="bsd-3-clause")
    assert not {"base_model", "base_model_relation"} & data(text).keys()
    assert data(text)["tags"][-2:] == ["qzoo", "torchvision"]
    assert "Base: `tf_efficientnet_lite0` of torchvision, weights `IMAGENET1K_V1`." in text
    assert "It names none for single weights" in text


@pytest.mark.parametrize(("weights", "activations", "tags", "said"), [
    ({"narrow 4bit per-channel max": 8}, {"8bit per-tensor max": 8}, ["int4", "int8"], "int4 weights and int8 activ"),
    ({"e4m3 per-channel max": 8}, {"e4m3 per-tensor max": 8}, ["fp8"], "fp8 weights and fp8 activations"),
    ({"8bit per-channel max": 7, "4bit per-channel max": 1}, {}, ["int8", "int4"], "int8 and int4 weights."),
])  # fmt: skip
def test_formats(weights: dict[str, int], activations: dict[str, int], tags: list[str], said: str) -> None:
    text = card(weights=weights, activations=activations)
    assert data(text)["tags"] == ["image-classification", "quantization", *tags, "qzoo", "timm"]
    assert said in text


def test_without_a_repository_it_speaks_of_a_folder() -> None:
    text = card(repo=None)
    assert not re.search("hf-hub|owner|repo/", text, flags=re.I)
    assert 'qzoo.create("./tf_efficientnet_lite0_int8", pretrained=True)' in text
    assert "qzoo verify ./tf_efficientnet_lite0_int8 --data PATH" in text
    assert results(text)[0].source_url is None


def test_a_folder_of_images_is_named_without_its_place() -> None:
    config = CONFIG.model_copy(update={"dataset": "/home/me/flowers", "labels": []})
    text = card(config=config, measured=measured(dataset="/home/me/flowers"))
    assert "/home/me" not in text
    assert "datasets" not in data(text)
    assert {(result.dataset_type, result.dataset_split) for result in results(text)} == {("flowers", "val")}
    assert "labels" not in block(text, "python")


def test_figures_stand_beside_what_was_published() -> None:
    text = card()
    assert row(text, "float") == ["74.85", "92.17", "", "", "75.1 ±0.5"]
    assert row(text, "quantized") == ["**74.40**", "**91.90**", "+0.45", "92.50", "≥ 74.4"]
    assert "- float 75.1 ±0.5: a|b, a published source" in text
    assert "- quantized ≥ 74.4: a published source" in text
    assert (
        "on 2026-11-25 with qzoo 0.1.0, torch 2.15.0, numpy 2.4.6, AMD EPYC (2 cores), processes: 1, threads: 2."
        in text
    )


def test_own_figures_are_called_own_and_missing_ones_missing() -> None:
    own = Claim(top1=74.4, own=True, source="a run of ours")
    text = card(published=(own,), published_float=())
    assert row(text, "quantized")[-1] == "74.4 (own)"
    assert row(text, "float")[-1] == "none"
    assert "- quantized 74.4: an earlier run of our own, a run of ours" in text


def test_commands_fit_the_recipe() -> None:
    assert block(card(), "bash").splitlines()[1::2] == [
        "qzoo reproduce tf_efficientnet_lite0 --only int8 --data PATH", "qzoo verify hf-hub:owner/lite0 --data PATH",
    ]  # fmt: skip
    assert set(re.findall(r"qzoo (\w+) ", block(card(), "bash"))) <= {*SUBCOMMANDS}
    # qzoo's own recipe of that name is another one.
    for changes in ({"recipe_sha256": "0" * 64}, {"base": "my_own"}, {"variant": "mine"}):
        lines = block(card(manifest=manifest(**changes)), "bash").splitlines()
        assert lines[1] == "qzoo reproduce hf-hub:owner/lite0 --data PATH"
    digits = CONFIG.model_copy(update={"dataset": "digits"})
    assert "--data" not in block(card(config=digits), "bash")


def test_calibration_is_told() -> None:
    images = resolved().calibration.images
    assert (
        f"by percentile 99.99, from {images:,} images of the train split of ImageNet-1k, drawn with seed 0." in card()
    )
    assert row(card(), "weights") == ["49", "8bit per-channel max"]
    assert f"from 64 images (the recipe asks for {images:,}) of" in card(calibration_images=64)
    assert "from images whose number is not known of the train" in card(calibration_images=0)
    without = card(calibration_source="statistics", calibration_images=16)
    assert (
        "from 16 synthetic images, scaled to batch norm's statistics: **no image of the dataset was seen.**" in without
    )
    assert "split of ImageNet-1k, drawn" not in without
    assert "the figures are too good" not in card()
    leaking = resolved().calibration.model_copy(update={"allow_leak": True, "split": "val", "transform": "train"})
    assert "augmented as for training. **These may be images that the figures" in card(calibration=leaking)


def test_files_have_sizes_and_purposes() -> None:
    text = card()
    assert all(file.purpose for file in FILES.values())
    assert row(text, "`model.safetensors`") == ["4.7 MB", "25 %", "the full checkpoint"]
    assert row(text, "`ranges.safetensors`")[:2] == ["250.0 kB", "1.3 %"]
    assert row(text, "the float model")[:2] == ["18.8 MB", "100 %"]
    assert "The weights are not among the files" not in text
    with_card = manifest()
    with_card.files["README.md"] = FileFacts(bytes=1, sha256="c" * 64)
    assert card(manifest=with_card) == text, "a card can't tell its own size"


def test_onnx_files_are_told_of_with_what_was_compared() -> None:
    node = NodeParity(node="conv1.input_quantizer", alone=1, plain=2, plain_share=0, optimized=3, optimized_share=0.1)
    parity = Parity(
        images=32, own_runtime=True, agreement_plain=100, agreement=96.9, logit_difference_plain=0.1,
        logit_difference=0.2, largest_logit=9, nodes=[node],
    )  # fmt: skip
    report = ExportReport(
        name="lite0", runtime="openvino", file="openvino.onnx", opset=21, bytes=5, float_bytes=20, layers=50,
        quantized_layers=49, findings=[], parity=parity, seconds=1, environment={},
    )  # fmt: skip
    text = card(exports=(report, report.model_copy(update={"file": "a.onnx", "parity": None})))
    assert row(text, "`openvino.onnx`") == ["49 of 50", "32", "96.9", "1"]
    assert row(text, "`a.onnx`") == ["49 of 50", "0", "", ""]
    assert "stood in" not in text
    other = parity.model_copy(update={"own_runtime": False})
    assert "For openvino, ONNX Runtime" in card(exports=(report.model_copy(update={"parity": other}),))
    assert "In a runtime" not in card()


def test_without_a_model_file_it_says_where_the_weights_come_from() -> None:
    text = card(manifest=manifest("model.safetensors"))
    assert "`model.safetensors`" not in text
    assert "qzoo takes the float weights from timm, and refuses any but those" in text


def test_the_recipe_in_it_is_the_recipe() -> None:
    assert parse_recipe(block(card(), "yaml")) == entry().self_contained("int8")
    text = card(recipe="description: |\n  ```\n  # not a heading\n")
    assert "````yaml\ndescription" in text
    assert text.count("\n````") == 2


def test_digests_are_those_that_stay() -> None:
    text = card()
    assert f"`{resolved().digest}`" in text
    assert f"`{'b' * 64}`" in text
    assert manifest().digest not in text, "the manifest changes once the card lies beside it"


def test_nothing_heavy_is_imported_for_it_but_when_it_is_written() -> None:
    code = "import qzoo.report.model_card, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_of_a_real_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = make_bundle(find("resnet8_digits_int8"), Path("resnet8_digits_int8"))
    text = (bundle.folder / "README.md").read_text()
    pixels = load_digits().images[3] * 255 / 16
    Image.fromarray(pixels.astype("uint8")).convert("RGB").save("image.png")
    exec(block(text, "python"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"9\d\.\d%  3", lines[0])
    assert [result.metric_value for result in results(text)] == [pytest.approx(99.33, abs=0.34), 100.0]


@pytest.mark.parametrize(("std", "said"), [([0.2, 0.2, 0.2], "by 0.2;"), ([0.2, 0.2, 0.3], "by 0.2 0.2 0.3;")])
def test_the_input_is_told_channel_by_channel(std: list[float], said: str) -> None:
    text = card(config=CONFIG.model_copy(update={"input": CONFIG.input.model_copy(update={"std": std})}))
    assert f"Input: 3 × 224 × 224, pixels in 0..1 minus 0.5, divided {said}" in text
