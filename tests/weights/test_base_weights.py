from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from qzoo.errors import WeightsError
from qzoo.models.architectures.weights import WEIGHTS
from qzoo.weights.artifact import content_digest
from qzoo.weights.base_weights import NewHeadWarning, find_file, load_into, read_file, read_weights

STATE = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.zeros(3)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved(path: Path, content: Any = STATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


class TestFinding:
    def test_the_users_folder_beats_the_cache(
        self, tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cached, mine = saved(hub_cache / "w.pth"), saved(tmp_path / "mine" / "w.pth")
        assert find_file("w.pth") == cached
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(mine.parent))
        assert find_file("w.pth") == mine

    def test_the_cache_serves_where_the_users_folder_lacks_it(
        self, tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))
        assert find_file("w.pth") is None
        assert find_file(saved(hub_cache / "w.pth").name) == hub_cache / "w.pth"

    def test_shipped_weights_come_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = WEIGHTS["resnet8_digits"]["v1"]
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(saved(tmp_path / found.file).parent))
        assert read_weights(found.file, sha256=found.sha256, packaged=found.packaged)

    def test_nowhere_and_no_address(self, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(
            WeightsError, match=r"No weights w\.pth .*Put w\.pth into a folder and set QZOO_WEIGHTS_DIR"
        ):
            read_weights("w.pth")
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path / "typo"))
        with pytest.raises(WeightsError, match=r"QZOO_WEIGHTS_DIR is .*typo, and has no w\.pth: put it there"):
            read_weights("w.pth")


class TestDownload:
    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    def test_goes_into_the_cache_once(self, name: str, served: Path, server: str, hub_cache: Path) -> None:
        digest = sha256(saved(served / name))
        state = read_weights(name, url=f"{server}/{name}", sha256=digest)
        assert content_digest(state) == content_digest(STATE)
        assert os.listdir(hub_cache) == [name]
        (served / name).unlink()
        assert read_weights(name, url=f"{server}/{name}", sha256=digest).keys() == STATE.keys()

    def test_of_another_sha256_is_refused(self, served: Path, server: str, hub_cache: Path) -> None:
        saved(served / "w.pth")
        with pytest.raises(WeightsError, match=r"/w\.pth sends is not the file.*SHA-256 \w{16}\.\.\., expected 0000"):
            read_weights("w.pth", url=f"{server}/w.pth", sha256="0" * 64)
        assert os.listdir(hub_cache) == []

    @pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest unknown"])
    def test_that_breaks_off_is_refused(self, known: bool, served: Path, server: str, hub_cache: Path) -> None:
        digest = sha256(saved(served / "w.pth", {"weight": torch.randn(500, 500)})) if known else None
        with pytest.raises(WeightsError, match=r"cut/w\.pth"):
            read_weights("w.pth", url=f"{server}/cut/w.pth", sha256=digest)
        assert os.listdir(hub_cache) == []

    def test_of_a_web_page_is_refused(self, served: Path, server: str, hub_cache: Path) -> None:
        (served / "w.pth").write_text("<html>Please log in</html>")
        with pytest.raises(WeightsError, match=r"sends is not the file it should be: .*damaged or no weights file"):
            read_weights("w.pth", url=f"{server}/w.pth")
        assert os.listdir(hub_cache) == []

    def test_of_what_is_not_there(self, server: str, hub_cache: Path) -> None:
        with pytest.raises(WeightsError, match=r"Can't download w\.pth from http://127.*404.*set QZOO_WEIGHTS_DIR"):
            read_weights("w.pth", url=f"{server}/w.pth")
        assert os.listdir(hub_cache) == []

    def test_without_a_server(self, hub_cache: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(
            WeightsError, match=r"Can't download w\.pth .*refused.*looked into first.*network: Put w\.pth"
        ):
            read_weights("w.pth", url=f"http://127.0.0.1:{port}/w.pth")


class TestReading:
    @pytest.mark.parametrize("content", [STATE, {"state_dict": STATE, "epoch": 3}, {"model": STATE}])
    def test_takes_a_state_dict_bare_or_wrapped(self, content: Any, tmp_path: Path) -> None:
        assert content_digest(read_file(saved(tmp_path / "w.pth", content))) == content_digest(STATE)

    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_truncated(self, name: str, share: float, tmp_path: Path) -> None:
        path = saved(tmp_path / name)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(WeightsError, match=r"damaged or no weights file \(.+\)\. Delete it and fetch it again"):
            read_file(path)

    @pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {"state_dict": {"a": "b"}}, torch.zeros(2)])
    def test_no_state_dict(self, content: Any, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"holds no state dict: .*Save it with torch\.save\(model\.state_dict"):
            read_file(saved(tmp_path / "w.pth", content))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_nan_and_inf(self, value: float, tmp_path: Path) -> None:
        path = saved(tmp_path / "w.pth", STATE | {"bias": torch.tensor([0.0, value, 0.0])})
        with pytest.raises(WeightsError, match="holds NaN or Inf in bias: it is damaged"):
            read_file(path)

    def test_another_file_than_named(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "w.pth")
        assert read_file(path, sha256(path)[:8])
        with pytest.raises(WeightsError, match=rf"has SHA-256 {sha256(path)[:16]}\.\.\., expected 12345678\.\.\."):
            read_file(path, "12345678")

    def test_code_in_a_pickle_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "ran"),)

        path = saved(tmp_path / "w.pth", {"weight": Evil()})
        with pytest.raises(WeightsError, match=r"asks for posix\.mkdir, and code from a weights file is never run"):
            read_file(path)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("depth", [20, 32, 44, 56])
    def test_the_published_files(self, depth: int, weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
        found = WEIGHTS[f"resnet{depth}_cifar10"]["akamaster"]
        assert read_weights(found.file, url="http://127.0.0.1:9/never", sha256=found.sha256)


class TestLoading:
    def test_puts_the_weights_into_the_model(self) -> None:
        model = nn.Linear(4, 3)
        assert load_into(model, STATE, "w.pth") == {}
        assert content_digest(model.state_dict()) == content_digest(STATE)

    @pytest.mark.parametrize(("change", "message"), [
        ({"weight": torch.zeros(3, 5)}, r"0 keys missing \(none\), 0 unknown \(none\), 1 of another shape \(weight\)"),
        ({"extra": torch.zeros(1)}, r"0 keys missing \(none\), 1 unknown \(extra\)"),
        ({"bias": None}, r"1 keys missing \(bias\), 0 unknown"),
    ])  # fmt: skip
    def test_misfits_are_named_and_nothing_is_changed(self, change: dict[str, Tensor | None], message: str) -> None:
        model = nn.Linear(4, 3)
        before = content_digest(model.state_dict())
        state = {key: value for key, value in (STATE | change).items() if value is not None}
        with pytest.raises(WeightsError, match=rf"w\.pth does not fit Linear: {message}.*recipe's base"):
            load_into(model, state, "w.pth")
        assert content_digest(model.state_dict()) == before

    def test_batch_norms_counter_may_be_missing(self) -> None:
        model = nn.BatchNorm2d(2)
        load_into(model, {key: torch.ones(2) for key in ("weight", "bias", "running_mean", "running_var")}, "w.pth")
        assert model.bias.tolist() == [1, 1]

    def test_versions_of_modules_are_kept(self) -> None:
        seen = []

        class Versioned(nn.Linear):
            _version = 7

            def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *args: Any) -> None:
                seen.append(metadata.get("version"))
                super()._load_from_state_dict(state, prefix, metadata, *args)

        model = Versioned(4, 3)
        load_into(model, model.state_dict(), "w.pth")
        assert seen == [7]

    @pytest.mark.parametrize("classes", [2, 5])
    def test_another_number_of_classes_leaves_the_classifier_out(self, classes: int) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, classes))
        fc = model[1].weight.clone()
        state = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).state_dict()
        with pytest.warns(NewHeadWarning, match=r"1\.weight, 1\.bias of w\.pth are left out: num_classes differs"):
            left_out = load_into(model, state, "w.pth", num_classes=classes)
        assert left_out.keys() == {"1.weight", "1.bias"}
        assert torch.equal(model[0].weight, state["0.weight"])
        assert torch.equal(model[1].weight, fc)

    def test_no_classifier_at_all(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.Identity())
        state = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).state_dict()
        with pytest.warns(NewHeadWarning):
            assert load_into(model, state, "w.pth", num_classes=0).keys() == {"1.weight", "1.bias"}

    def test_what_is_left_out_has_the_models_dtype(self) -> None:
        state = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).half().state_dict()
        with pytest.warns(NewHeadWarning):
            left_out = load_into(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5)), state, "w.pth", num_classes=5)
        assert {value.dtype for value in left_out.values()} == {torch.float32}

    def test_only_a_tensor_of_as_many_rows_as_classes_is_a_classifier(self) -> None:
        state = nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 3)).state_dict()
        with (
            pytest.raises(WeightsError, match=r"2 of another shape \(0\.weight, 0\.bias\)"),
            pytest.warns(NewHeadWarning),
        ):
            load_into(nn.Sequential(nn.Linear(4, 6), nn.Linear(4, 5)), state, "w.pth", num_classes=5)
