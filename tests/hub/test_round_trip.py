"""From calibrate to push to create on another machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.commands.release.push import pin
from qzoo.commands.settings import Settings
from qzoo.errors import RecipeError, UnknownNameError, WeightsError
from qzoo.hub.client import HubAddress, release
from qzoo.hub.released_model import ReleasedModel, facts_of
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.resolution.resolve import resolve
from qzoo.weights.receipt import load_receipt, save_receipt
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel
from tests.hub.conftest import NAME, REPO, logits

HUB_NAME = f"hf-hub:{REPO}"
FRESH = """
import sys, torch, qzoo
from qzoo.quant.ranges import get_ranges
from qzoo.schema.resolution.resolve import resolve
from qzoo.zoo.name_lookup import find
name, images = sys.argv[1], torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    out = {"logits": qzoo.create(name, pretrained=True)(images)}
digest = find(name).resolved.digest
torch.save(out | {"digest": torch.tensor(list(digest.encode()))}, sys.argv[3])
"""


def fresh(name: str, environment: dict[str, str], tmp_path: Path, place: str = "out") -> dict[str, Tensor]:
    """What another process with an empty cache makes of a name."""
    from tests.hub.conftest import IMAGES

    torch.save(IMAGES, tmp_path / "images.pt")
    out = tmp_path / f"{place}.pt"
    command = [sys.executable, "-c", FRESH, name, str(tmp_path / "images.pt"), str(out)]
    done = subprocess.run(
        command, check=False, env=os.environ | environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


def test_a_pushed_model_comes_back_bit_for_bit_in_another_process(
    hub: Any, hub_client: Any, hub_environment: dict[str, str], tmp_path: Path, expected: Tensor
) -> None:
    pushed = qzoo.push(NAME, REPO)
    assert [*hub.repos] == [REPO]
    assert pushed.address == HubAddress(REPO, hub.repos[REPO].head)
    there = fresh(HUB_NAME, hub_environment, tmp_path)
    assert torch.equal(there["logits"], expected)
    assert bytes(there["digest"].tolist()).decode() == find(NAME).resolved.digest


def test_ranges_and_base_give_the_logits_of_the_whole_model(
    hub_client: Any, made: ReleasedModel, expected: Tensor, tmp_path: Path
) -> None:
    release(made.folder, REPO)
    qzoo.push(NAME, "tester/scales_only", weights="none")
    assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)
    assert torch.equal(logits(qzoo.create("hf-hub:tester/scales_only", pretrained=True)), expected)
    model = qzoo.create(NAME, pretrained="float")
    assert torch.equal(logits(qzoo.load(model, made.folder / "ranges.safetensors")), expected)


def test_float_weights_can_be_published_and_trained_further(hub_client: Any, expected: Tensor) -> None:
    qzoo.push(NAME, REPO, weights="float")
    model = qzoo.create(HUB_NAME, pretrained=True)
    assert torch.equal(logits(model), expected)
    float_model = qzoo.create("resnet8_digits", pretrained=True)
    assert torch.equal(model.conv1.weight, float_model.conv1.weight)


def test_the_recipe_comes_back_equal(hub_client: Any, made: ReleasedModel) -> None:
    release(made.folder, REPO)
    on_hub, mine = find(HUB_NAME), find(NAME)
    assert on_hub.entry.recipe == mine.entry.self_contained("int8")
    assert on_hub.resolved.digest == mine.resolved.digest
    assert qzoo.recipe(HUB_NAME) == on_hub.entry.recipe
    assert str(qzoo.transform(HUB_NAME)) == str(qzoo.transform(NAME))


def test_other_classes_take_ranges_and_base(hub_client: Any, made: ReleasedModel) -> None:
    release(made.folder, REPO)
    with pytest.warns(UserWarning, match="num_classes differs"):
        model = qzoo.create(HUB_NAME, pretrained=True, num_classes=3)
    assert logits(model).shape == (16, 3)


def test_a_revision_is_a_branch_a_tag_or_a_commit(
    hub: Any, hub_client: Any, made: ReleasedModel, expected: Tensor
) -> None:
    first = release(made.folder, REPO)
    hub.repos[REPO].tags["v1"] = first.revision
    hub.repos[REPO].add({"model.safetensors": b"spoilt", "manifest.json": b"{}"})
    for revision in (first.revision, "v1"):
        assert torch.equal(logits(qzoo.create(f"{HUB_NAME}@{revision}", pretrained=True)), expected)
    with pytest.raises(WeightsError, match=r"manifest\.json of hf-hub:tester/resnet8_digits_int8 is damaged"):
        qzoo.create(HUB_NAME, pretrained=True)


def test_pushing_the_same_again_makes_no_commit_and_another_model_replaces_it(
    hub: Any, hub_client: Any, made: ReleasedModel
) -> None:
    first = release(made.folder, REPO)
    assert release(made.folder, REPO) == first
    qzoo.push("resnet8_digits_w4a8", REPO, weights="none")
    files = hub.repos[REPO].files(hub.repos[REPO].head)
    assert {"model.safetensors", "histograms.safetensors"}.isdisjoint(files)
    assert find(HUB_NAME).variant == "w4a8"


def test_a_pull_without_a_network_says_so(hub_client: Any, tmp_path: Path, no_network: list[Any]) -> None:
    with pytest.raises(WeightsError, match=r"http.* can't be reached .*cache, which is looked into first.*HF_ENDPOINT"):
        qzoo.pull(REPO, tmp_path / "copy")
    assert no_network


def test_a_pulled_folder_is_a_model(hub_client: Any, made: ReleasedModel, expected: Tensor, tmp_path: Path) -> None:
    release(made.folder, REPO)
    folder = qzoo.pull(f"hf-hub:{REPO}", tmp_path / "copy").folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(["manifest.json", *made.manifest.files])
    hub_client.go_offline()
    assert torch.equal(logits(qzoo.create(str(folder), pretrained=True)), expected)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"model\.safetensors of .*copy has .* bytes, expected"):
        qzoo.create(str(folder), pretrained=True)


@pytest.mark.slow
def test_two_processes_pull_at_once(
    hub: Any, hub_client: Any, hub_environment: dict[str, str], made: ReleasedModel, expected: Tensor, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    release(made.folder, REPO)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda n: fresh(HUB_NAME, hub_environment, tmp_path, str(n)), range(2)))
    assert all(torch.equal(one["logits"], expected) for one in both)


@pytest.mark.parametrize("cut", ["in this process", pytest.param("in another", marks=pytest.mark.slow)])
def test_offline_with_a_warm_cache_needs_no_socket(
    cut: str, hub: Any, hub_client: Any, made: ReleasedModel, expected: Tensor, hub_environment: dict[str, str],
    no_network_environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    release(made.folder, REPO)
    assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)
    before = len(hub.requests)
    if cut == "in this process":
        attempts = request.getfixturevalue("no_network")
        hub_client.go_offline()
        assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)
        assert attempts == []
    else:
        fresh(HUB_NAME, hub_environment, tmp_path)
        before = len(hub.requests)
        environment = hub_environment | no_network_environment | {"HF_HUB_OFFLINE": "1"}
        assert torch.equal(fresh(HUB_NAME, environment, tmp_path)["logits"], expected)
        assert not Path(no_network_environment["LOOPBACK_NO_NETWORK"]).exists()
    assert len(hub.requests) == before


def test_offline_without_it_in_the_cache_says_what_to_do(hub_client: Any, made: ReleasedModel) -> None:
    release(made.folder, REPO)
    hub_client.go_offline()
    with pytest.raises(WeightsError, match=r"hf-hub:tester/.* is not in the cache, and HF_HUB_OFFLINE is set\. Unset"):
        qzoo.create(HUB_NAME, pretrained=True)


def test_an_index_makes_the_name_enough(
    hub: Any, hub_client: Any, expected: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    mine = Catalog.load().find(NAME)[0]
    assert mine.path is not None
    (recipes / "other_digits.yaml").write_text(mine.path.read_text())
    monkeypatch.setenv("QZOO_RECIPES", str(recipes))
    assert "other_digits_int8" not in qzoo.list_models(pretrained=True)
    with pytest.raises(
        WeightsError, match=r"Nothing is released or calibrated for other_digits_int8 yet\. .* once: qzoo"
    ):
        qzoo.create("other_digits_int8", pretrained="exact")
    address = qzoo.push("other_digits_int8", "tester/other_digits_int8").address
    assert address is not None
    pin(recipes / "hub.json", "other_digits_int8", address)
    (tmp_path / "home" / "artifacts").exists()
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "another machine"))
    assert "other_digits_int8" in qzoo.list_models(pretrained=True)
    assert torch.equal(logits(qzoo.create("other_digits_int8", pretrained=True)), expected)
    hub.repos["tester/other_digits_int8"].add({"ranges.safetensors": b"newer"})
    assert torch.equal(logits(qzoo.create("other_digits_int8", pretrained=True)), expected)


def test_an_index_names_one_owner_and_repositories_by_variant(tmp_path: Path) -> None:
    path, commit = tmp_path / "hub.json", "a" * 40
    pin(path, "a_int8", HubAddress("me/a_int8", commit))
    pin(path, "b_int8", HubAddress("me/b_int8", commit))
    assert json.loads(path.read_text()) == {"organisation": "me", "revisions": {"a_int8": commit, "b_int8": commit}}
    with pytest.raises(RecipeError, match=r"hub\.json can't name you/a_int8: by it, a_int8 lies in me/a_int8"):
        pin(path, "a_int8", HubAddress("you/a_int8", commit))
    with pytest.raises(RecipeError, match=r"can't name me/other: by it, a_int8 lies in me/a_int8\. Push it there"):
        pin(path, "a_int8", HubAddress("me/other", commit))


@pytest.mark.parametrize("rest", ["owner", "a/b/c", "../../etc", "a/b@", "/b", ""])
def test_names_that_are_no_repository(rest: str) -> None:
    with pytest.raises(UnknownNameError, match=r"is no repository of the hub\. Give hf-hub:owner/repo or"):
        qzoo.create(f"hf-hub:{rest}", pretrained=True)


def test_a_base_and_a_revision_cannot_be_pushed(hub_client: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet8_digits' is a float base; name one of its variants"):
        qzoo.push("resnet8_digits", REPO)
    with pytest.raises(UnknownNameError, match=r"names a revision, but a push makes a new one\. Give tester/x alone"):
        qzoo.push(NAME, "tester/x@main")


def test_without_ranges_and_data_a_push_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"resnet50_int8 is not calibrated\. Give --data PATH, or calibrate"):
        qzoo.push("resnet50_int8", REPO, dry_run=True)


def test_offline_nothing_is_pushed_and_nothing_measured_before(hub_client: Any) -> None:
    hub_client.go_offline()
    with pytest.raises(WeightsError, match=r"Nothing can be sent to hf-hub:tester/.*: HF_HUB_OFFLINE is set"):
        qzoo.push(NAME, REPO)


def test_what_is_pinned_is_checked_before_the_push(hub: Any, hub_client: Any, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"hub\.json can't name tester/other: by it, resnet8_digits_int8 lies in tester/res"
    ):
        qzoo.push(NAME, "tester/other", pin_file=tmp_path / "hub.json")
    assert not hub.repos


def test_a_model_is_not_pushed_into_its_own_folder(hub_client: Any, made: ReleasedModel, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "own")
    with pytest.raises(RecipeError, match=r"own is the model that is to be pushed\. Give another folder with -o"):
        qzoo.push(str(folder), REPO, folder=folder, dry_run=True)
    assert torch.equal(logits(qzoo.create(str(folder), pretrained=True)), logits(qzoo.create(NAME, pretrained=True)))


def test_equal_models_are_equal_files(made: ReleasedModel, tmp_path: Path) -> None:
    artifacts = made.folder.parent / "artifacts"
    both = [qzoo.push(NAME, REPO, artifacts=artifacts, folder=tmp_path / n, dry_run=True).manifest for n in "ab"]
    assert both[0].digest == both[1].digest == made.manifest.digest


def test_a_receipt_of_another_recipe_is_no_evidence(made: ReleasedModel, tmp_path: Path) -> None:
    artifacts = shutil.copytree(made.folder.parent / "artifacts", tmp_path / "artifacts")
    path = artifacts / f"{NAME}.receipt.safetensors"
    receipt = load_receipt(path)
    save_receipt(
        path, replace(receipt, info=receipt.info.model_copy(update={"recipe_sha256": "0" * 64, "date": "old"}))
    )
    made_again = qzoo.push(NAME, REPO, artifacts=artifacts, folder=tmp_path / "model", dry_run=True)
    assert made_again.missing == ()
    assert load_receipt(tmp_path / "model" / "receipt.safetensors").info.date != "old"


def test_fewer_images_are_measured_anew_and_do_not_stick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZooModel, "artifact_at_hand", _without_shipped(ZooModel.artifact_at_hand))
    for n, images in ((0, 100), (1, None)):
        folder = tmp_path / str(n)
        qzoo.push(NAME, REPO, settings=Settings(eval_images=images), folder=folder, dry_run=True)
        assert len(load_receipt(folder / "receipt.safetensors")) == (images or 597)


def _without_shipped(find: Any) -> Any:
    def at_hand(zoo_model: ZooModel, kind: Any) -> Any:
        path = find(zoo_model, kind)
        shipped = path is not None and kind.name == "receipt" and "recipes" in path.parts
        return None if shipped else path

    return at_hand


def test_a_recipe_that_is_not_the_manifest_s_is_refused(made: ReleasedModel, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "other")
    for change in ({"version": 7}, {"base": "another"}, {"recipe_sha256": "0" * 64}):
        (folder / "manifest.json").write_text(made.manifest.model_copy(update=change).to_json())
        with pytest.raises(WeightsError, match=r"recipe of .*other is not the one that its manifest speaks of"):
            qzoo.create(str(folder), pretrained=True)
    (folder / "manifest.json").write_text(made.manifest.model_copy(update={"base": "/tmp/x"}).to_json())
    with pytest.raises(WeightsError, match=r"manifest\.json of .*other is damaged or of another version"):
        qzoo.create(str(folder), pretrained=True)


def test_a_huge_model_beside_a_small_file_takes_no_memory(
    made: ReleasedModel, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("qzoo.zoo.pretrained.create_bare", lambda _: pytest.fail("memory was taken"))
    folder = shutil.copytree(made.folder, tmp_path / "huge")
    recipe = "base: {source: timm, architecture: vit_small_patch16_224}\ndataset: digits\nvariants: {int8: {}}\n"
    (folder / "recipe.yaml").write_text(recipe)
    digest = resolve(Catalog.load().hub_entry(folder / "recipe.yaml", "x", "x"), "int8").digest
    files = made.manifest.files | {"recipe.yaml": facts_of(folder / "recipe.yaml")}
    change = {"base": "x", "name": "x_int8", "recipe_sha256": digest, "files": files}
    (folder / "manifest.json").write_text(made.manifest.model_copy(update=change).to_json())
    with pytest.raises(WeightsError, match=r"model\.safetensors does not fit: \d+ tensors of the model are missing"):
        qzoo.create(str(folder), pretrained=True)


def test_a_recipe_that_names_a_folder_is_neither_pushed_nor_loaded(made: ReleasedModel, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text((made.folder / "recipe.yaml").read_text().replace("dataset: digits", "dataset: /etc"))
    with pytest.raises(WeightsError, match=r"mine\.yaml names a folder as its dataset, '/etc'"):
        qzoo.push(f"{mine}:int8", REPO, artifacts=tmp_path, folder=tmp_path / "out", dry_run=True)


def test_a_dry_run_sends_nothing(hub: Any, hub_client: Any, tmp_path: Path) -> None:
    pushed = qzoo.push(NAME, REPO, dry_run=True, folder=tmp_path / "look")
    assert pushed.address is None
    assert not hub.repos
    assert not hub.requests
    assert (tmp_path / "look" / "README.md").is_file()
    assert any("no histograms" in sentence for sentence in pushed.missing)
