"""The fixtures themselves: they reach other processes, and leave no trace in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants, hf_api, hf_hub_download, model_info
from huggingface_hub.utils import _http

from tests.loopback_hub.client import _modules, environment_for, turn_to
from tests.loopback_hub.server import LoopbackHub

REPO = "tester/model"


def state() -> dict[str, Any]:
    values = {f"{name}.{key}": value for name, module in _modules() for key, value in vars(module).items()}
    plain = {name: value for name, value in values.items() if isinstance(value, (str, bool, int, float, frozenset))}
    return plain | {"environment": dict(os.environ), "api": hf_api.api.endpoint, "time": vars(_http)["time"]}


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_client_turned_to_the_hub_leaves_no_trace(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo(REPO, {"config.json": b"{}"})
    before = state()
    with pytest.MonkeyPatch.context() as patch:
        turn_to(hub, environment_for(hub, tmp_path), patch)
        assert model_info(REPO).sha == hub.repos[REPO].head
        assert HfApi().endpoint == hub.endpoint
        assert Path(hf_hub_download(REPO, "config.json")).is_relative_to(tmp_path)
    _http.close_session()
    assert state() == before
    assert constants.HF_HUB_OFFLINE is True
    assert hub.endpoint not in str(before)


def test_another_process_uses_the_hub(hub: LoopbackHub, hub_environment: dict[str, str], tmp_path: Path) -> None:
    hub.add_repo(REPO, {"config.json": b"{}"}, private=True)
    done = run(f"import huggingface_hub as h; print(h.hf_hub_download({REPO!r}, 'config.json'))", hub_environment)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path), done.stderr
    assert [request.authorized for request in hub.requests] == [True, True]


def test_another_process_has_no_network(
    hub: LoopbackHub, hub_environment: dict[str, str], no_network_environment: dict[str, str]
) -> None:
    hub.add_repo(REPO, {"config.json": b"{}"})
    code = f"import huggingface_hub as h; h.hf_hub_download({REPO!r}, 'config.json')"
    done = run(code, hub_environment | no_network_environment)
    assert "the test forbids a connection to ('127.0.0.1'" in done.stderr
    assert len(Path(no_network_environment["LOOPBACK_NO_NETWORK"]).read_text().splitlines()) == 7
    assert hub.requests == []


def test_a_crash_of_the_hub_is_kept_for_the_test(hub: LoopbackHub, hub_client: Any) -> None:
    hub.repos[REPO] = None  # type: ignore[assignment]
    hub.tokens = None  # type: ignore[assignment]
    with pytest.raises(Exception, match="500"):
        model_info(REPO)
    assert "TypeError" in hub.crashes[0] or "AttributeError" in hub.crashes[0]
    hub.crashes.clear()
