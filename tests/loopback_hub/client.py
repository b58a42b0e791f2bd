"""The client of this process, and of processes it starts, turned to the loopback hub; and no network at all."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, _commit_api, _snapshot_download, constants, file_download, hf_api
from huggingface_hub.utils import _http

from tests.loopback_hub.state import WRITE_TOKEN, HubState

# Imported here, before anything is replaced: their default arguments are values of the constants.
assert _commit_api
assert _snapshot_download

UNSET = ("HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE")


def environment_for(hub: HubState, folder: Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
    """Returns the variables that turn another process to the hub, with an empty cache below the folder."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "0",
        # With hf_xet the client sends every large file through it and asks no server whether it may.
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "QZOO_HOME": str(folder / "qzoo"),
        **({"HF_TOKEN": token} if token else {}),
    }


@dataclass
class Client:
    """The client of this process. `waits`: how long it would have slept before each retry, in seconds."""

    cache: Path
    patch: pytest.MonkeyPatch
    waits: list[float] = field(default_factory=list)

    def use_token(self, token: str | None) -> None:
        if token is None:
            self.patch.delenv("HF_TOKEN", raising=False)
        else:
            self.patch.setenv("HF_TOKEN", token)

    def go_offline(self) -> None:
        """As HF_HUB_OFFLINE=1."""
        self.patch.setattr(constants, "HF_HUB_OFFLINE", True)

    def give_up_after(self, seconds: float) -> None:
        """Sets the time-outs of metadata and downloads; calls of the API have none."""
        self.patch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", seconds)
        self.patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)

    def blobs(self) -> list[Path]:
        """Returns all files of the cache that hold content, finished or not."""
        return sorted(path for path in self.cache.glob("*/blobs/*") if path.is_file())


def turn_to(hub: HubState, environment: Mapping[str, str], patch: pytest.MonkeyPatch) -> Client:
    """Turns the client of this process to the hub until the patch is undone."""
    for name in UNSET:
        patch.delenv(name, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    home = Path(environment["HF_HOME"])
    client = Client(home / "hub", patch)
    _replace_constants(_constants(hub, home), patch)
    for _, module in _modules():
        for api in [value for value in vars(module).values() if isinstance(value, HfApi)]:
            patch.setattr(api, "endpoint", hub.endpoint)
    patch.setattr(hf_api.api, "_whoami_cache", {})
    patch.setattr(_http, "_HUB_ORIGINS", _http._HUB_ORIGINS | {_http._url_origin(hub.endpoint)})
    for module in (_http, file_download):
        patch.setattr(module, "time", _Impatient(client.waits))
    return client


def _constants(hub: HubState, home: Path) -> dict[str, Any]:
    host = urlsplit(hub.endpoint).hostname
    return {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": constants.HF_URL_HOSTS | {host},
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }


def _replace_constants(values: Mapping[str, Any], patch: pytest.MonkeyPatch) -> None:
    for name, value in values.items():
        before = getattr(constants, name)
        for _, module in _modules():
            # Some modules have copied a constant by `from ... import`.
            if name in vars(module) and vars(module)[name] == before:
                patch.setattr(module, name, value)


def _modules() -> list[tuple[str, Any]]:
    return [(name, module) for name, module in list(sys.modules.items()) if name.split(".")[0] == "huggingface_hub"]


class _Impatient:
    """The module `time` for the client's retries: notes how long they would sleep, and doesn't."""

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def forbid_network(patch: pytest.MonkeyPatch) -> list[Any]:
    """Makes every connection to another host, or to this one by TCP, fail. Returns the list of what was tried."""
    attempts: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> NoReturn:
        attempts.append(address)
        raise OSError(101, f"Network is unreachable: the test forbids a connection to {address}")

    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, refuse)
    return attempts
