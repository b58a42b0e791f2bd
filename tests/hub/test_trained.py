"""A trained variant is published whole, with the report of its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import qzoo
from qzoo.environment import packaged
from qzoo.errors import RecipeError, WeightsError
from qzoo.results.training import TrainingReport
from tests.hub.conftest import logits

NAME = "resnet8_digits_w2a2_qat"
REPO = f"tester/{NAME}"


@pytest.fixture
def pushed(hub_client: Any, tmp_path: Path) -> Any:
    return qzoo.push(NAME, REPO, folder=tmp_path / "made")


def test_it_comes_back_bit_for_bit(pushed: Any) -> None:
    expected = logits(qzoo.create(NAME, pretrained=True))
    assert torch.equal(logits(qzoo.create(f"hf-hub:{REPO}", pretrained=True)), expected)
    assert qzoo.verify(f"hf-hub:{REPO}", images=100).reproduced


def test_nothing_is_missing_and_nothing_fits_other_weights(pushed: Any) -> None:
    assert pushed.missing == ()
    assert set(pushed.manifest.files) == {
        "recipe.yaml", "config.json", "README.md", "model.safetensors", "receipt.safetensors", "training.json",
    }  # fmt: skip
    assert "2bit" not in (pushed.folder / "recipe.yaml").read_text()
    report = TrainingReport.model_validate_json((pushed.folder / "training.json").read_text())
    assert (report.name, report.finetune.epochs, report.start_top1 is not None) == (NAME, 30, True)


def test_the_card_tells_how_it_was_trained(pushed: Any) -> None:
    card = ModelCard.load(pushed.folder / "README.md")
    figures = json.loads((pushed.folder / "training.json").read_text())
    assert "## How it was trained" in card.text
    assert "| ranges | learned (LSQ, arXiv 1902.08153), from the calibrated ones |" in card.text
    assert f"Top-1 was {figures['start_top1']:.2f} after calibration alone." in card.text
    assert f"| {figures['rows'][-1]['top1']:.2f} |" in card.text
    assert "qzoo reproduce resnet8_digits --only w2a2_qat --stage all" in card.text
    assert card.data.eval_results[0].metric_value == pytest.approx(figures["top1"], abs=0.005)


def test_weights_are_part_of_it(hub_client: Any) -> None:
    with pytest.raises(RecipeError, match="is trained, so its weights are its own: store them, packed or float"):
        qzoo.push(NAME, REPO, weights="none")


def test_an_untrained_variant_says_how_to_train_it(
    hub_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"is not trained. Train it first: qzoo finetune resnet50_int8_qat --data"):
        qzoo.push("resnet50_int8_qat", "tester/x")
    with pytest.raises(WeightsError, match=r"This trains it, once: qzoo finetune resnet50_int8_qat --data PATH"):
        qzoo.create("resnet50_int8_qat", pretrained=True)


def test_keywords_change_the_model_that_was_trained() -> None:
    with pytest.raises(WeightsError, match="was trained, so its weights exist for the model as it is, not with num_cl"):
        qzoo.create(NAME, pretrained=True, num_classes=3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"name": "resnet8', r"the file: Invalid JSON: EOF"),
        (b"\xff\xfe\x00", r"the file: Invalid JSON"),
        (b"[" * 5000, r"the file: Invalid JSON: recursion limit"),
        (b'{"name": 1}', r"name: Input should be a valid string"),
    ],
)
def test_a_damaged_report_of_the_training_ends_with_one_message(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.training.json").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{NAME}\.training\.json: {said}.*`qzoo finetune NAME` writes one"):
        qzoo.push(NAME, REPO, artifacts=tmp_path, dry_run=True)


def test_a_report_of_another_training_is_left_out(tmp_path: Path) -> None:
    shipped = json.loads((packaged("digits") / "artifacts" / f"{NAME}.training.json").read_text())
    (tmp_path / f"{NAME}.training.json").write_text(json.dumps(shipped | {"recipe_sha256": "0" * 64}))
    made = qzoo.push(NAME, REPO, artifacts=tmp_path, folder=tmp_path / "made", dry_run=True)
    assert made.missing == ("no report of its training, so the card does not tell how it was trained",)
    assert "training.json" not in made.manifest.files
