"""README.md's table of bases has the figures of shipped receipts, and is current."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qzoo import environment
from qzoo.errors import RecipeError, WeightsError
from qzoo.report.readme_table import BEGIN, END, readme_table, rewrite
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.sources import PythonRecipe
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import resolve
from qzoo.weights.artifact import versions
from qzoo.weights.receipt import ExactMargins, Predictions, Receipt, ReceiptInfo, save_receipt

README = Path(__file__).resolve().parents[2] / "README.md"
RESNET20 = "cifar/resnet20_cifar10.yaml"


def shipped() -> list[RecipeEntry]:
    return Catalog([environment.packaged()]).entries


def rows(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {line[0]: line[1:] for line in lines}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of recipes: one that will get receipts, and two that have nothing."""
    for name in (RESNET20, "resnet/resnet18.yaml", "resnet/resnet50.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(environment.packaged(name), tmp_path / name)
    for shared in ("schemes", "variants"):
        shutil.copytree(environment.packaged(shared), tmp_path / shared)
    return tmp_path


def right_on(percent: float | None) -> Predictions:
    """Predictions of which so many are class 0."""
    wrong = (torch.arange(10_000) >= round(100 * (percent or 0))).long()
    top = torch.stack([wrong, 1 - wrong, *(torch.full_like(wrong, other) for other in (2, 3, 4))], 1)
    return Predictions(top, torch.zeros(10_000))


def put_receipt(folder: Path, variant: str = "int8", digest: str | None = None, **changes: object) -> None:
    entry, _ = Catalog([folder]).find("resnet20_cifar10")
    info = ReceiptInfo(
        name=f"{entry.name}_{variant}", version=1, recipe_sha256=digest or resolve(entry, variant).digest,
        base_sha256="", ranges_sha256="", dataset="cifar10", split="test", complete=True, classes=10,
        top1={"float": 91.73, "quantized": 91.6}, top5={}, date="2026-11-25", environment={}, **versions(),
    )  # fmt: skip
    info = info.model_copy(update=changes)
    one, other = (right_on(info.top1.get(model)) for model in ("float", "quantized"))
    labels = torch.zeros(10_000, dtype=torch.int64) if info.top1 else torch.full((10_000,), -1)
    exact = ExactMargins(torch.arange(2), torch.ones(2).double(), torch.ones(2).double())
    receipt = Receipt(torch.zeros(10_000, 16, dtype=torch.uint8), labels, one, other, exact, info)
    save_receipt(folder / "cifar" / "artifacts" / f"{entry.name}_{variant}.receipt.safetensors", receipt)


def test_the_table_is_current() -> None:
    assert README.read_text() == rewrite(README, shipped()), "the table of README.md is stale: run `make style`"


def test_every_base_is_in_it_or_counted() -> None:
    bases = set(rows(readme_table(shipped())))
    named = {name for base in bases if not base[0].isdigit() for name in re.findall(r"`(\w+)`", base)}
    counted = sum(int(base.split()[0]) for base in bases if base[0].isdigit())
    assert named <= {entry.name for entry in shipped()}
    assert len(named) + counted == len(shipped())


def test_measured_figures_come_from_the_receipt(folder: Path) -> None:
    put_receipt(folder)
    put_receipt(folder, "w4a8", top1={"float": 91.73, "quantized": 90.0})
    assert rows(readme_table(Catalog([folder]).entries)) == {
        "`resnet20_cifar10`": [
            "CIFAR-10", "91.73; published 91.73 ±0.05", "91.60", "+0.13", "10,000",
            "int8 (max, p999, mse, entropy, asym, per_tensor, per_tensor_eq, qat), w8a4, w4a8 (gptq, opt), "
            "w4a4 (opt, lsq, qat), fp8, w3a3_opt, w2a4_opt, w3a3_lsq, w2a2_lsq, w3a3_qat, w2a2_opt, w2a2_qat",
        ],
        "2 more bases; `resnet50` with the variants of NVIDIA's tutorial": [
            "ImageNet-1k", "in [docs/zoo.md](docs/zoo.md)", "", "", "rerun with `--data`",
            "mostly int8 (p999, mse, entropy, residual), w4a8 (adaround), w4a4_qdrop, w2a4_qdrop, w3a3_qdrop",
        ],
    }  # fmt: skip


def test_a_part_of_the_images_is_called_partial_and_another_variant_named(folder: Path) -> None:
    put_receipt(folder, "w4a8", complete=False)
    row = rows(readme_table(Catalog([folder]).entries))["`resnet20_cifar10`"]
    assert row[2:5] == ["91.60 (w4a8)", "+0.13", "10,000, partial"]


def test_without_labels_there_are_no_figures(folder: Path) -> None:
    put_receipt(folder, top1={})
    row = rows(readme_table(Catalog([folder]).entries))["`resnet20_cifar10`"]
    assert row[1:4] == ["published 91.73 ±0.05", "", ""]


def test_a_figure_of_our_own_is_not_called_published(folder: Path) -> None:
    put_receipt(folder)
    entry, _ = Catalog([folder]).find("resnet20_cifar10")
    own = entry.recipe.model_copy(update={"published": [Claim(top1=91.73, own=True, source="a run of ours")]})
    assert rows(readme_table([replace(entry, recipe=own)]))["`resnet20_cifar10`"][1] == "91.73"


def test_ranges_without_a_receipt_stand_by_name(folder: Path) -> None:
    (folder / "cifar" / "artifacts").mkdir()
    (folder / "cifar" / "artifacts" / "resnet20_cifar10_int8.ranges.safetensors").touch()
    row = rows(readme_table(Catalog([folder]).entries))["`resnet20_cifar10`"]
    assert row[:5] == ["CIFAR-10", "91.73 published", "", "", "rerun with `--data`"]
    assert row[5].endswith("; ranges ship")


def test_a_receipt_of_an_older_recipe_is_refused(folder: Path) -> None:
    put_receipt(folder, digest="0" * 64)
    command = "qzoo reproduce resnet20_cifar10 --only int8 --data PATH --artifacts .*artifacts"
    with pytest.raises(WeightsError, match=rf"of another state of the recipe .*\.yaml\. Measure again: {command}"):
        readme_table(Catalog([folder]).entries)


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = rewrite(page, shipped())
    assert text.startswith(f"before\n{BEGIN}\n\n| base |")
    assert text.endswith(f"|\n\n{END}\nafter\n")
    page.write_text(text)
    assert rewrite(page, shipped()) == text


@pytest.mark.parametrize("text", ["no markers\n", f"{BEGIN}\nno end\n", f"{END}\nno beginning\n"])
def test_a_page_without_a_place_for_it_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(RecipeError, match=r"has no place for the table\. It goes between <!-- zoo table"):
        rewrite(tmp_path / "README.md", shipped())


def test_a_recipe_made_in_python_ships_nothing(folder: Path) -> None:
    entries = [replace(entry, source=PythonRecipe()) for entry in Catalog([folder]).entries]
    assert [name.split()[0] for name in rows(readme_table(entries))] == ["2", "1"]
