"""A hub that nobody answers for: one message, with what was looked for where, and what helps."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import close_session
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.hub import errors
from tests.each import for_each
from tests.loopback_hub.client import environment_for, turn_to


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """An address of this machine at which nothing listens; the client is turned to it, and its retries don't wait."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    hub: Any = SimpleNamespace(endpoint=address)
    close_session()
    with pytest.MonkeyPatch.context() as patch:
        turn_to(hub, environment_for(hub, tmp_path), patch)
        patch.setattr(errors.time, "sleep", lambda _: None)
        patch.setenv("TORCH_HOME", str(tmp_path))
        patch.delenv("QZOO_WEIGHTS_DIR", raising=False)
        patch.chdir(tmp_path)
        yield address
    close_session()


@for_each(
    ("command", "words"),
    [
        (["pull", "me/x"], ["hf-hub:me/x: "]),
        (["show", "hf-hub:me/x"], ["hf-hub:me/x: ", "looked into first", "qzoo pull"]),
        (["evaluate", "hf-hub:me/x"], ["hf-hub:me/x: ", "looked into first", "qzoo pull"]),
        (["push", "resnet8_digits_int8", "me/x"], ["hf-hub:me/x: "]),
        (
            ["calibrate", "timm/test_resnet:int8", "--data", "synthetic", "-o", "a.safetensors"],
            [
                "weights of test_resnet from timm/test_resnet.r160_in1k",
                "put test_resnet.r160_in1k.safetensors into",
                "QZOO_WEIGHTS_DIR",
            ],
        ),
    ],
)
def test_one_message_says_what_was_not_reached_and_what_helps(
    endpoint: str, command: list[str], words: list[str]
) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    again, *rest = [line for line in result.stderr.splitlines() if not line.startswith("loading")]
    assert again == "The hub does not answer as it should; trying again for up to half a minute."
    (message,) = rest
    assert message.count(f"{endpoint} can't be reached ([Errno 111] Connection refused)") == 1
    assert [said for said in (*words, "HF_ENDPOINT", "HF_HUB_OFFLINE=1") if said not in message] == []
