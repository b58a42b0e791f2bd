"""A home that can't be written, folders of strange names, and several processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qzoo.cli.main import app

STRANGE = "\u00fcn\u00ef-\u65e5\u672c \U0001f600 %s {x} [a] [red]"
CALIBRATE = ["calibrate", "resnet8_digits_int8", "--calib-images", "32"]
FINETUNE = ["finetune", "resnet8_digits_w4a8", "--epochs", "1", "--lr", "0.01", "--batch-size", "64"]


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".locks"]


class TestAHomeThatIsNone:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file: root may write into any folder, but not into that."""
        (tmp_path / "file").write_text("x")
        for variable in ("HOME", "QZOO_HOME", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(variable, str(tmp_path / "file"))
        monkeypatch.chdir(tmp_path)
        return tmp_path / "file"

    @pytest.mark.parametrize(
        "command",
        [
            ["list"], ["show", "resnet8_digits_int8"], ["explain", "resnet8_digits_int8"], ["doctor"],
            ["evaluate", "resnet8_digits_int8", "--eval-images", "16"],
            [*CALIBRATE, "-o", "here"],
        ],
    )  # fmt: skip
    def test_what_needs_none_does_without(self, command: list[str]) -> None:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output

    @pytest.mark.parametrize(
        "command",
        [CALIBRATE, FINETUNE, ["reproduce", "resnet8_digits", "--only", "int8", "--artifacts", "file/x/y"]],
    )
    def test_what_needs_one_says_so_before_it_works(self, command: list[str], home: Path) -> None:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2, done.output
        assert "images/s" not in done.output
        assert done.output.startswith("error [Errno 20] Not a directory: '")
        assert f"{home.name}/" in done.output

    @pytest.mark.parametrize(
        "command",
        [
            [*CALIBRATE, "-o", "file"], [*FINETUNE, "-o", "file/x"], ["list", "--json", "file/x.json"],
            ["export", "resnet8_digits_int8", "-r", "tensorrt", "-o", "a.onnx", "--json", "file/a.json"],
            ["push", "resnet8_digits_int8", "me/resnet8_digits_int8", "--dry-run", "-o", "file/x"],
            ["new", "timm/resnet18", "-o", "file/x.yaml"],
        ],
    )  # fmt: skip
    def test_results_that_can_t_be_written(self, command: list[str]) -> None:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2, done.output
        assert done.output.count("error ") == 1
        assert "file" in done.output
        assert "Traceback" not in done.output


@pytest.mark.parametrize("option", ["--json", "--data", "--receipt"])
def test_the_home_of_nobody(option: str) -> None:
    done = CliRunner().invoke(app, ["verify", "resnet8_digits_int8", option, "~no-such-user/a.json"])
    assert done.exit_code == 2
    assert f"The {option[2:]}" in done.output
    assert "is '~no-such-user/a.json': there is no user 'no-such-user'" in " ".join(done.output.split())


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
@pytest.mark.slow
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code = f"import os, qzoo.files; os.setuid(65534); qzoo.files.require_writable({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(f"PermissionError: [Errno 13] Permission denied: '{tmp_path}'\n")


def test_paths_of_strange_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / STRANGE
    monkeypatch.setenv("QZOO_HOME", str(folder / "home"))
    done = CliRunner().invoke(app, [*CALIBRATE, "-o", str(folder)])
    assert done.exit_code == 0, done.output
    assert f"{folder}/resnet8_digits_int8.ranges.safetensors" in done.output
    report = folder / f"{'e' * 250}.json"
    ranges = str(folder / "resnet8_digits_int8.ranges.safetensors")
    done = CliRunner().invoke(
        app, ["evaluate", "resnet8_digits_int8", "--ranges", ranges, "--eval-images", "16", "--json", str(report)]
    )
    assert done.exit_code == 0, done.output
    assert report.read_text().startswith("{")
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("parts", [["d" * 256], ["d" * 250] * 17])
def test_paths_that_no_disk_has(parts: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["list", "--json", str(tmp_path.joinpath(*parts, "a.json"))])
    assert done.exit_code == 2
    assert "File name too long" in done.output
    assert "A name may have 255 bytes, a path 4,096." in " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_four_processes_on_one_cache_and_one_folder(tmp_path: Path) -> None:
    environment = os.environ | {"QZOO_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "qzoo", *arguments]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    kept = ["--artifacts", str(tmp_path / "home/artifacts"), "--eval-images", "64", "--json", str(tmp_path / "r.json")]
    working = [
        start(*CALIBRATE), start(*CALIBRATE),
        start("reproduce", "resnet8_digits", "--only", "int8", *kept),
        start("reproduce", "resnet8_digits", "--only", "int8", *kept),
    ]  # fmt: skip
    said = [(*process.communicate(timeout=300), process.returncode) for process in working]
    for output, errors, code in said:
        assert code in (0, 1), output + errors
        assert "error" not in errors
    assert (tmp_path / "r.json").read_text().startswith("{")
    ranges = str(tmp_path / "home" / "artifacts" / "resnet8_digits_int8.ranges.safetensors")
    done = start("evaluate", "resnet8_digits_int8", "--ranges", ranges, "--eval-images", "16")
    assert done.communicate(timeout=100)[0].startswith("resnet8_digits_int8: top-1")
    assert unfinished(tmp_path) == []
