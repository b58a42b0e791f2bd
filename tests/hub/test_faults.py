"""Under each fault: success with the right bytes after another try, or one clear message; never a wrong model."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.errors import WeightsError
from qzoo.hub import errors as hub_errors
from qzoo.hub.client import fetch, parse_address, release
from qzoo.hub.manifest import MANIFEST
from qzoo.hub.released_model import ReleasedModel
from tests.hub.conftest import REPO, logits
from tests.loopback_hub.faults import Fault
from tests.loopback_hub.state import READ_TOKEN, STRANGER_TOKEN

HUB_NAME = f"hf-hub:{REPO}"
FILES = ["manifest.json", "recipe.yaml", "model.safetensors"]
PASSING = [
    {"kind": "drop", "method": "GET"},
    {"kind": "drop", "method": "GET", "reset": True},
    {"kind": "drop", "method": "HEAD", "when": "response", "after": 0},
    {"kind": "truncate"},
    {"kind": "corrupt"},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503, "method": "GET"},
    {"kind": "status", "status": 429, "retry_after": 2},
    {"kind": "status", "status": 429, "retry_after": 3, "method": "GET"},
    {"kind": "slow", "delay": 0.05, "chunk": 20_000},
]
LASTING = [
    ({"kind": "drop", "method": "GET"}, r"Try again; HF_ENDPOINT names a mirror"),
    ({"kind": "truncate"}, r"Consistency check failed"),
    ({"kind": "corrupt"}, r"(damaged|is corrupt: its SHA-256 is not the one in the manifest, also after fetching)"),
    ({"kind": "status", "status": 500, "method": "GET"}, r"the hub fails with 500, also after 4 tries"),
    ({"kind": "status", "status": 503}, r"(fails with 503|can't be reached)"),
    (
        {"kind": "status", "status": 429, "method": "GET"},
        r"asks for fewer requests \(429\)\. Wait some minutes",
    ),
    ({"kind": "gone"}, r"has no such revision\. Give a branch, a tag or a commit"),
]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No pause between tries; gives what it would have been."""
    pauses: list[float] = []
    monkeypatch.setattr(hub_errors.time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: "-".join(map(str, fault.values())))
def test_what_passes_ends_with_the_right_bytes(
    fault: dict[str, Any], file: str, hub: Any, hub_client: Any, made: ReleasedModel, expected: Tensor
) -> None:
    release(made.folder, REPO)
    injected = Fault(f"*{file}", **fault)
    hub.inject(injected)
    assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)
    assert injected.struck == 1


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("fault", "message"), LASTING, ids=lambda x: x["kind"] if isinstance(x, dict) else "")
def test_what_lasts_ends_with_one_message_and_heals(
    fault: dict[str, Any], message: str, file: str, hub: Any, hub_client: Any, made: ReleasedModel, expected: Tensor
) -> None:
    release(made.folder, REPO)
    hub.inject(Fault(f"*{file}", times=None, **fault))
    for _ in range(2):  # what was left in the cache by the first try is not believed by the second
        with pytest.raises(WeightsError, match=message) as caught:
            qzoo.create(HUB_NAME, pretrained=True)
        assert REPO in str(caught.value)
        assert "Traceback" not in str(caught.value)
    hub.faults.clear()
    assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        ({"path": "*/api/repos/create", "kind": "status", "status": 503}, True),
        ({"path": "*/preupload/*", "kind": "status", "status": 500}, True),
        ({"path": "*/commit/*", "kind": "status", "status": 503}, True),
        ({"path": "*/commit/*", "kind": "status", "status": 429, "retry_after": 1}, True),
        ({"path": "*/commit/*", "kind": "drop", "when": "response", "after": 0}, True),
        ({"path": "*/commit/*", "kind": "drop", "when": "request"}, True),
        ({"path": "*/uploads/*", "kind": "drop"}, True),
        ({"path": "*/uploads/*", "kind": "status", "status": 500}, True),
        ({"path": "*/commit/*", "kind": "status", "status": 503, "times": None}, False),
        ({"path": "*/uploads/*", "kind": "drop", "times": None}, False),
        ({"path": "*/api/repos/create", "kind": "status", "status": 500, "times": None}, False),
    ],
    ids=lambda x: f"{x['path']}-{x['kind']}-{x.get('times', 1)}" if isinstance(x, dict) else "",
)
def test_a_push_is_whole_or_not_there(
    fault: dict[str, Any], sent: bool, hub: Any, hub_client: Any, made: ReleasedModel, expected: Tensor
) -> None:
    hub.inject(Fault(**fault))
    if sent:
        release(made.folder, REPO)
        assert len(hub.repos[REPO].commits) <= 2  # the empty one, and one with everything
    else:
        with pytest.raises(WeightsError, match=rf"hf-hub:{REPO}: "):
            release(made.folder, REPO)
        with pytest.raises(WeightsError, match=r"(does not exist|holds no qzoo model|unfinished)"):
            qzoo.create(HUB_NAME, pretrained=True)
        hub.faults.clear()
        release(made.folder, REPO)
    assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)


def test_a_push_that_is_killed_can_be_run_again(
    hub: Any, hub_client: Any, hub_environment: dict[str, str], made: ReleasedModel, expected: Tensor
) -> None:
    code = (
        "import sys; from pathlib import Path; from qzoo.hub.client import release; print('go', flush=True);"
        f"release(Path({str(made.folder)!r}), {REPO!r})"
    )
    dice = random.Random(0)
    for _ in range(6):
        hub.inject(Fault("*", "slow", times=None, delay=0.03))
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | hub_environment, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(dice.uniform(0.05, 1.0))
        child.kill()
        child.communicate()
        hub.faults.clear()
        if REPO in hub.repos and MANIFEST in hub.repos[REPO].files(hub.repos[REPO].head):
            assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)
        else:
            with pytest.raises(WeightsError, match=r"(does not exist|holds no qzoo model)"):
                qzoo.create(HUB_NAME, pretrained=True)
    release(made.folder, REPO)
    assert torch.equal(logits(qzoo.create(HUB_NAME, pretrained=True)), expected)


def test_a_server_that_asks_for_hours_is_given_up_on(
    hub: Any, hub_client: Any, made: ReleasedModel, hasty: list[float]
) -> None:
    hub.inject(Fault("*/commit/*", "status", status=429, retry_after=3600, times=None))
    with pytest.raises(WeightsError, match="asks for fewer requests"):
        release(made.folder, REPO)
    assert hasty == []


def test_private_gated_missing(hub: Any, hub_client: Any, made: ReleasedModel) -> None:
    release(made.folder, REPO, private=True)
    hub_client.use_token(None)
    with pytest.raises(WeightsError, match=r"does not exist, or is private: look at the name, or set HF_TOKEN"):
        fetch(parse_address(HUB_NAME))
    hub.repos[REPO].private, hub.repos[REPO].gated = False, True
    hub_client.use_token(STRANGER_TOKEN)
    with pytest.raises(WeightsError, match=r"is gated\. Ask for access on its page"):
        fetch(parse_address(HUB_NAME))
    with pytest.raises(WeightsError, match=r"hf-hub:tester/nothing: does not exist"):
        fetch(parse_address("hf-hub:tester/nothing"))
    hub_client.use_token(READ_TOKEN)
    with pytest.raises(WeightsError, match=r"has no such revision"):
        fetch(parse_address(f"{HUB_NAME}@nowhere"))


@pytest.mark.parametrize("token", [None, READ_TOKEN, "hf_abcdefghijklmnopqrstuv"])
def test_without_the_right_to_write_no_push_and_no_token_in_the_message(
    token: str | None, hub: Any, hub_client: Any, made: ReleasedModel
) -> None:
    hub_client.use_token(token)
    with pytest.raises(WeightsError, match=r"(hf auth login|HF_TOKEN)") as caught:
        release(made.folder, REPO)
    assert not hub.repos
    assert token is None or token not in str(caught.value)


def test_a_repository_that_is_no_model_is_named_as_such(hub: Any, hub_client: Any) -> None:
    hub.add_repo("tester/other", {"config.json": b"{}"})
    with pytest.raises(WeightsError, match=r"hf-hub:tester/other: holds no qzoo model"):
        qzoo.create("hf-hub:tester/other", pretrained=True)


def test_the_commit_of_the_manifest_is_the_commit_of_all_files(
    hub: Any, hub_client: Any, made: ReleasedModel, expected: Tensor
) -> None:
    release(made.folder, REPO)
    first = fetch(parse_address(HUB_NAME))
    # Somebody pushes between two downloads.
    hub.repos[REPO].add({"model.safetensors": b"newer"})
    from qzoo.hub.client import fetch_more

    assert fetch_more(first, ["model.safetensors"]).file("model.safetensors") == first.folder / "model.safetensors"


def test_half_a_folder_is_no_model(made: ReleasedModel, tmp_path: Path) -> None:
    for name in made.manifest.files:
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    with pytest.raises(LookupError, match="Unknown model"):
        qzoo.create(str(tmp_path), pretrained=True)
