"""Tokens and passwords: a mirror that answers with garbage, or says what it was sent, makes nobody say them."""

from __future__ import annotations

import json
import logging
import socket
import threading
import traceback
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import qzoo
from qzoo.cli.main import app
from qzoo.errors import WeightsError
from qzoo.hub import errors as hub_errors
from qzoo.hub.client import fetch, parse_address, release
from qzoo.hub.released_model import ReleasedModel
from qzoo.weights import base_weights
from tests.hub.conftest import NAME, REPO

TOKEN, PASSWORD = "hf_thisIsAWholeToken0123456789", "hunter2-and-more"
SECRETS = (TOKEN, PASSWORD)
GARBAGE = {
    "no-http": b"\x00\x01 %s",
    "header": b"HTTP/1.1 200 OK\r\n%s\r\n: nameless\r\n\r\n",
    "echo-404": b"HTTP/1.1 404 %s\r\nX-Error-Message: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "echo-403": b"HTTP/1.1 403 No\r\nX-Error-Message: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "echo-503": b"HTTP/1.1 503 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://me:%s@[::::]/?token=%s\r\nContent-Length: 0\r\n\r\n",
    "warning": b"HTTP/1.1 404 No\r\nX-HF-Warning: t; %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "nothing": b"",
}


class Mirror:
    """Answers every request with one text, in which what it was sent as authorization stands for each %s."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.listening = answer, socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                with connection, suppress(OSError):
                    self.reply(connection)

    def reply(self, connection: socket.socket) -> None:
        connection.settimeout(2)
        request = connection.recv(65536)
        sent = [line for line in request.split(b"\r\n") if line.lower().startswith(b"authorization:")]
        said = (sent or [b"authorization: Bearer " + TOKEN.encode()])[0]
        connection.sendall(self.answer.replace(b"%s", said))

    def close(self) -> None:
        self.listening.close()


@pytest.fixture
def mirror(request: pytest.FixtureRequest) -> Iterator[Mirror]:
    server = Mirror(GARBAGE[request.param])
    yield server
    server.close()


@pytest.fixture
def turned(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """This process's client uses the mirror, at an address with a password, with a token, and does not wait."""
    from huggingface_hub import close_session

    from tests.loopback_hub.client import environment_for, turn_to

    hub: Any = SimpleNamespace(endpoint=f"http://me:{PASSWORD}@{mirror.address}")
    close_session()
    monkeypatch.setattr(hub_errors.time, "sleep", lambda _: None)
    turn_to(hub, environment_for(hub, tmp_path, TOKEN), monkeypatch)
    yield mirror
    close_session()


def whole_text(error: BaseException | None) -> str:
    """All that can be read of an error: messages, notes, causes and contexts, the traceback."""
    text = "".join(traceback.format_exception(error)) if error else ""
    while error is not None:
        text += f"{error} {error!r} {error.args} {getattr(error, '__notes__', '')}"
        error = error.__cause__ or error.__context__
    return text


def check(text: str) -> None:
    found = [secret for secret in SECRETS if secret in text]
    assert not found, text


@pytest.mark.parametrize("mirror", GARBAGE, indirect=True)
def test_fetching(turned: Mirror, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    from huggingface_hub.utils import logging as client_logging

    handler = logging.StreamHandler()  # as the client's own, on the stderr of now
    logging.getLogger("huggingface_hub").addHandler(handler)
    client_logging.enable_propagation()
    try:
        with caplog.at_level(logging.DEBUG), pytest.raises(WeightsError, match=r"^hf-hub:a/b: ") as caught:
            fetch(parse_address("a/b"))
    finally:
        logging.getLogger("huggingface_hub").removeHandler(handler)
        client_logging.disable_propagation()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    said = capfd.readouterr()
    check(whole_text(caught.value) + said.out + said.err + caplog.text)


@pytest.mark.parametrize("mirror", ["no-http", "echo-403"], indirect=True)
def test_publishing(turned: Mirror, made: ReleasedModel, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        release(made.folder, REPO)
    said = capfd.readouterr()
    check(whole_text(caught.value) + said.out + said.err)


@pytest.mark.parametrize("mirror", ["no-http", "echo-404"], indirect=True)
@pytest.mark.parametrize(
    "command", [["pull", "a/b"], ["show", "hf-hub:a/b"], ["evaluate", "hf-hub:a/b"], ["verify", "hf-hub:a/b"]]
)
def test_commands(turned: Mirror, command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2, done.output
    said = capfd.readouterr()
    check(done.output + said.out + said.err + whole_text(done.exception))


@pytest.mark.parametrize("mirror", ["no-http"], indirect=True)
def test_timm_downloads_through_the_same_client(turned: Mirror, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match="Can't load the weights of resnet18") as caught:
        qzoo.create("timm/resnet18.a1_in1k", pretrained="float")
    assert caught.value.__cause__ is None
    said = capfd.readouterr()
    check(whole_text(caught.value) + said.out + said.err)


@pytest.mark.parametrize("mirror", ["no-http", "echo-403"], indirect=True)
def test_files_at_an_address_and_proxies_with_a_password(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # keeps the proxies of the first address it opens
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", f"http://me:{PASSWORD}@{mirror.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(WeightsError, match=r"Can't download a\.pth from http") as caught:
        base_weights.read_weights("a.pth", url=f"http://nowhere.invalid/a.pth?token={TOKEN}&x=1")
    said = capfd.readouterr()
    check(whole_text(caught.value) + said.out + said.err)
    assert "a.pth?token=***&x=1" in str(caught.value)


def test_results_and_models_hold_none(
    hub: Any, hub_client: Any, made: ReleasedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ReleasedModel files, receipts in them too, and JSON of a command, on a machine that has secrets."""
    monkeypatch.setenv("https_proxy", f"http://me:{PASSWORD}@nowhere.invalid")
    release(made.folder, REPO)
    done = CliRunner().invoke(app, ["verify", f"hf-hub:{REPO}", "--json", str(tmp_path / "v.json")])
    assert done.exit_code in (0, 1), done.output
    check(done.output + json.dumps(json.loads((tmp_path / "v.json").read_text())))
    for name in made.manifest.files:
        content = made.file(name).read_bytes()
        assert not [secret for secret in (*SECRETS, hub_client.patch and "hf_write") if secret.encode() in content]
    assert NAME in (made.folder / "README.md").read_text()
