"""From calibrate to push to create on another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.errors import RecipeError, UnknownNameError, WeightsError
from qzoo.schema.catalog import Catalog
from qzoo.schema.resolve import resolve
from qzoo.tasks.push import pin
from qzoo.weights.finding import find_variant
from qzoo.weights.hub import HubAddress, publish
from qzoo.weights.published import Published
from tests.hub.conftest import NAME, REPO, logits

HUB_NAME = f"hf-hub:{REPO}"
FRESH = """
import sys, torch, qzoo
from qzoo.quant.ranges import get_ranges
from qzoo.schema.resolve import resolve
from qzoo.weights.finding import find_variant
name, images = sys.argv[1], torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    out = {"logits": qzoo.create(name, pretrained=True)(images)}
digest = resolve(*find_variant(name)).digest
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
    assert bytes(there["digest"].tolist()).decode() == resolve(*find_variant(NAME)).digest


def test_ranges_and_base_give_the_logits_of_the_whole_model(
    hub_client: Any, made: Published, expected: Tensor, tmp_path: Path
) -> None:
    publish(made.folder, REPO)
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


def test_the_recipe_comes_back_equal(hub_client: Any, made: Published) -> None:
    publish(made.folder, REPO)
    entry, variant = find_variant(HUB_NAME)
    mine, _ = Catalog.load().find(NAME)
    assert entry.recipe == mine.self_contained("int8")
    assert resolve(entry, variant).digest == resolve(mine, "int8").digest
    assert qzoo.recipe(HUB_NAME) == entry.recipe
    assert str(qzoo.transform(HUB_NAME)) == str(qzoo.transform(NAME))


def test_other_classes_take_ranges_and_base(hub_client: Any, made: Published) -> None:
    publish(made.folder, REPO)
    with pytest.warns(UserWarning, match="num_classes differs"):
        model = qzoo.create(HUB_NAME, pretrained=True, num_classes=3)
    assert logits(model).shape == (16, 3)


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Any, hub_client: Any, made: Published, expected: Tensor) -> None:
    first = publish(made.folder, REPO)
    hub.repos[REPO].tags["v1"] = first.revision
    hub.repos[REPO].add({"model.safetensors": b"spoilt", "manifest.json": b"{}"})
    for revision in (first.revision, "v1"):
        assert torch.equal(logits(qzoo.create(f"{HUB_NAME}@{revision}", pretrained=True)), expected)
    with pytest.raises(WeightsError, match=r"manifest\.json of hf-hub:tester/resnet8_digits_int8 is damaged"):
        qzoo.create(HUB_NAME, pretrained=True)


def test_pushing_the_same_again_makes_no_commit_and_another_model_replaces_it(
    hub: Any, hub_client: Any, made: Published
) -> None:
    first = publish(made.folder, REPO)
    assert publish(made.folder, REPO) == first
    qzoo.push("resnet8_digits_w4a8", REPO, weights="none")
    files = hub.repos[REPO].files(hub.repos[REPO].head)
    assert {"model.safetensors", "histograms.safetensors"}.isdisjoint(files)
    assert find_variant(HUB_NAME)[1] == "w4a8"


def test_a_pull_without_a_network_says_so(hub_client: Any, tmp_path: Path, no_network: list[Any]) -> None:
    with pytest.raises(WeightsError, match=r"the hub can't be reached, and this is not in the cache .*HF_ENDPOINT"):
        qzoo.pull(REPO, tmp_path / "copy")
    assert no_network


def test_a_pulled_folder_is_a_model(hub_client: Any, made: Published, expected: Tensor, tmp_path: Path) -> None:
    publish(made.folder, REPO)
    folder = qzoo.pull(f"hf-hub:{REPO}", tmp_path / "copy").folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(["manifest.json", *made.manifest.files])
    hub_client.go_offline()
    assert torch.equal(logits(qzoo.create(str(folder), pretrained=True)), expected)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"model\.safetensors of .*copy has .* bytes, expected"):
        qzoo.create(str(folder), pretrained=True)


def test_two_processes_pull_at_once(
    hub: Any, hub_client: Any, hub_environment: dict[str, str], made: Published, expected: Tensor, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    publish(made.folder, REPO)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda n: fresh(HUB_NAME, hub_environment, tmp_path, str(n)), range(2)))
    assert all(torch.equal(one["logits"], expected) for one in both)


@pytest.mark.parametrize("cut", ["in this process", "in another"])
def test_offline_with_a_warm_cache_needs_no_socket(
    cut: str, hub: Any, hub_client: Any, made: Published, expected: Tensor, hub_environment: dict[str, str],
    no_network_environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    publish(made.folder, REPO)
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


def test_offline_without_it_in_the_cache_says_what_to_do(hub_client: Any, made: Published) -> None:
    publish(made.folder, REPO)
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
        WeightsError, match=r"Nothing is published or calibrated for other_digits_int8 yet\. .* once: qzoo"
    ):
        qzoo.create("other_digits_int8", pretrained=True)
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


def test_a_base_and_a_revision_cannot_be_pushed() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet8_digits' is a base; name one of its variants"):
        qzoo.push("resnet8_digits", REPO)
    with pytest.raises(UnknownNameError, match=r"names a revision, but a push makes a new one\. Give tester/x alone"):
        qzoo.push(NAME, "tester/x@main")


def test_without_ranges_and_data_a_push_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"resnet50_int8 is not calibrated\. Give --data PATH, or calibrate"):
        qzoo.push("resnet50_int8", REPO, dry_run=True)


def test_a_dry_run_sends_nothing(hub: Any, hub_client: Any, tmp_path: Path) -> None:
    pushed = qzoo.push(NAME, REPO, dry_run=True, folder=tmp_path / "look")
    assert pushed.address is None
    assert not hub.repos
    assert not hub.requests
    assert (tmp_path / "look" / "README.md").is_file()
    assert any("no histograms" in sentence for sentence in pushed.missing)
