"""The client's cache: offline, without a network, and shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, hf_hub_download, model_info, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from tests.loopback_hub.client import Client, forbid_network
from tests.loopback_hub.faults import Fault
from tests.loopback_hub.server import LoopbackHub

REPO = "tester/model"
WEIGHTS = bytes(range(256)) * 4000
DOWNLOAD = f"""
import sys
from huggingface_hub import hf_hub_download
print("ready", flush=True)
sys.stdin.readline()
print(hf_hub_download({REPO!r}, "w.safetensors"))
"""


@pytest.fixture(autouse=True)
def commit(hub: LoopbackHub) -> str:
    return hub.add_repo(REPO, {"w.safetensors": WEIGHTS, "config.json": b"{}"}).head


def start(environment: dict[str, str], code: str = DOWNLOAD) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_offline_a_cold_cache_has_nothing(hub: LoopbackHub, hub_client: Client) -> None:
    hub_client.go_offline()
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(REPO, "w.safetensors")
    with pytest.raises(LocalEntryNotFoundError, match="HF_HUB_OFFLINE=0"):
        snapshot_download(REPO)
    with pytest.raises(OfflineModeIsEnabled, match="offline mode is enabled"):
        model_info(REPO)
    assert hub.requests == []


@pytest.mark.parametrize("way", ["offline", "unreachable", "503", "slow"])
def test_a_warm_cache_serves_when_the_hub_does_not(
    hub: LoopbackHub, hub_client: Client, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    path, folder = hf_hub_download(REPO, "w.safetensors"), snapshot_download(REPO)
    hub.requests.clear()
    if way == "offline":
        hub_client.go_offline()
    elif way == "unreachable":
        close_session()
        forbid_network(hub_client.patch)
    else:
        hub_client.give_up_after(0.1)
        hub.inject(Fault("*", "status" if way == "503" else "slow", delay=0.3, times=None))
    assert hf_hub_download(REPO, "w.safetensors") == path
    assert hub_client.waits == []
    if way != "slow":  # the list of a repository's files is asked for without a time-out
        assert snapshot_download(REPO) == folder
    assert Path(path).read_bytes() == WEIGHTS


def test_offline_nothing_is_tried(hub: LoopbackHub, hub_client: Client) -> None:
    path = hf_hub_download(REPO, "w.safetensors")
    close_session()
    attempts = forbid_network(hub_client.patch)
    hub_client.go_offline()
    assert hf_hub_download(REPO, "w.safetensors") == path
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(REPO, "config.json")
    assert attempts == []


def test_a_cold_cache_and_no_network(hub_client: Client, no_network: list[Any]) -> None:
    with pytest.raises(LocalEntryNotFoundError, match="Please check your connection"):
        hf_hub_download(REPO, "w.safetensors")
    assert hub_client.waits == [1, 2, 4, 8, 8]
    assert len(no_network) == 7


def test_a_commit_in_the_cache_is_served_without_a_request(hub: LoopbackHub, hub_client: Client, commit: str) -> None:
    path = hf_hub_download(REPO, "w.safetensors", revision=commit)
    hub.requests.clear()
    assert hf_hub_download(REPO, "w.safetensors", revision=commit) == path
    assert hub.requests == []
    # The name of a branch is not known then.
    assert try_to_load_from_cache(REPO, "w.safetensors") is None


def test_a_branch_that_moved_is_fetched_and_both_stay(hub: LoopbackHub, hub_client: Client, commit: str) -> None:
    old = hf_hub_download(REPO, "config.json")
    hub.repos[REPO].add({"config.json": b"new"})
    assert Path(hf_hub_download(REPO, "config.json")).read_bytes() == b"new"
    assert Path(old).read_bytes() == b"{}"


def test_two_processes_download_once(hub: LoopbackHub, hub_environment: dict[str, str]) -> None:
    hub.inject(Fault("*w.safetensors", "slow", method="GET", delay=0.3, times=None))
    processes = [start(hub_environment) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    paths = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == WEIGHTS
    assert len(hub.seen("GET", "*w.safetensors")) == 1


def test_a_killed_download_leaves_a_part_that_nobody_resumes(
    hub: LoopbackHub, hub_client: Client, hub_environment: dict[str, str]
) -> None:
    hub.inject(Fault("*w.safetensors", "slow", method="GET", delay=5))
    process = start(hub_environment)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    while not hub.seen("GET", "*w.safetensors"):
        assert process.poll() is None
    left = hub_client.blobs()
    process.kill()
    process.communicate()
    assert [path.suffix for path in left] == [".incomplete"]
    assert Path(hf_hub_download(REPO, "w.safetensors")).read_bytes() == WEIGHTS
    assert left[0].exists(), "nobody removes it either"


def test_refused_requests_use_a_warm_cache(hub: LoopbackHub, hub_client: Client) -> None:
    path = hf_hub_download(REPO, "w.safetensors")
    hub.repos[REPO].private = True
    hub_client.use_token(None)
    assert hf_hub_download(REPO, "w.safetensors") == path
    with pytest.raises(HfHubHTTPError):
        model_info(REPO)
