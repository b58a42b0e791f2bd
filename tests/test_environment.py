"""Variables and names with a user's folder in them; what isn't there is told in one message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import qzoo
from qzoo import environment
from qzoo.cli.main import app
from qzoo.errors import UnknownNameError

NOBODY = "~no-such-user/x"
VARIABLES: list[tuple[str, Callable[[], object]]] = [
    ("QZOO_DATA", environment.data_root),
    ("QZOO_WEIGHTS_DIR", environment.weights_dir),
    ("QZOO_HOME", environment.home),
    ("QZOO_RECIPES", environment.recipe_folders),
]


@pytest.mark.parametrize(("variable", "read"), VARIABLES)
def test_a_variable_that_names_an_unknown_user(
    variable: str, read: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, NOBODY)
    with pytest.raises(UnknownNameError, match=rf"^{variable} is '{NOBODY}': there is no user 'no-such-user' on this"):
        read()


@pytest.mark.parametrize(("variable", "read"), VARIABLES)
def test_ones_own_folder(variable: str, read: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(variable, "~/x")
    assert read() in (Path("/home/me/x"), [Path("/home/me/x")])


def test_the_cache_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QZOO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", NOBODY)
    with pytest.raises(UnknownNameError, match="The cache, as XDG_CACHE_HOME or HOME says, is '~no-such-user/x'"):
        environment.home()


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(UnknownNameError, match=r"no home folder of yours on this machine.*set HOME, or QZOO_HOME"):
        environment.expanded("~/.cache", "The cache")


@pytest.mark.parametrize("variable", [name for name, _ in VARIABLES])
@pytest.mark.parametrize(
    "command",
    [
        ["list"], ["show", "resnet8_digits_int8"], ["explain", "resnet8_digits_int8"],
        ["evaluate", "resnet8_digits_int8", "--eval-images", "8"],
    ],
)  # fmt: skip
def test_commands_say_so_or_do_without(
    variable: str, command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, NOBODY)
    done = CliRunner().invoke(app, command)
    assert done.exit_code in (0, 2), done.output
    if done.exit_code:
        assert f"{variable} is '{NOBODY}'" in done.output


@pytest.mark.parametrize("name", ["~no-such-user/a.yaml", "~no-such-user/a.yaml:int8", "~no-such-user/folder"])
def test_names(name: str) -> None:
    with pytest.raises(LookupError, match=r"(no user 'no-such-user'|Unknown model '~no-such-user/folder')"):
        qzoo.create(name)


@pytest.mark.parametrize(
    "name", ["a" * 300, "a/" * 3000, "\u00e9" * 200, "a" * 300 + ".yaml", "a\0b", "a\0b.yaml", "\udcff"]
)
def test_names_that_no_disk_has(name: str) -> None:
    done = CliRunner().invoke(app, ["show", name])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("value", ["http://me:hunter2@[::1", "http://me:hunter2@host:99999999", "http://h:x hunter2"])
def test_an_endpoint_that_is_no_address(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    done = CliRunner().invoke(app, ["pull", "me/x"])
    assert done.exit_code == 2
    assert done.output.startswith("error HF_ENDPOINT is no address. Give one such as")
    assert "hunter2" not in done.output
    with pytest.raises(UnknownNameError, match="HF_ENDPOINT is no address"):
        qzoo.create("hf-hub:me/x")
