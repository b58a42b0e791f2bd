"""Fixtures: the hub, the clients turned to it, and no network. Imported by the tests' conftest."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# The client and the server are imported when a test first asks for them: no other test waits for that, and the
# client reads HF_HUB_OFFLINE once, when it is imported.
if TYPE_CHECKING:
    from tests.loopback_hub.client import Client
    from tests.loopback_hub.server import LoopbackHub

PREAMBLE = Path(__file__).with_name("preamble.py")
__all__ = ["hub", "hub_client", "hub_environment", "loopback_hub", "no_network", "no_network_environment"]


@pytest.fixture(scope="session")
def loopback_hub() -> Iterator[LoopbackHub]:
    """The server, one for all tests of a process: ask for `hub`."""
    from tests.loopback_hub.server import LoopbackHub

    server = LoopbackHub().start()
    yield server
    server.stop()


@pytest.fixture
def hub(loopback_hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """A hub on loopback, empty at the start of each test."""
    loopback_hub.reset()
    yield loopback_hub
    crashes = loopback_hub.crashes
    loopback_hub.reset()
    assert not crashes, crashes[0]


@pytest.fixture
def hub_environment(hub: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    """Variables for a process that shall use the hub, to be merged into `os.environ`: a token that may write, an empty
    cache, and retries that don't wait."""
    from tests.loopback_hub.client import environment_for

    folder = _preamble(tmp_path)
    return environment_for(hub, tmp_path) | {"PYTHONPATH": str(folder), "LOOPBACK_IMPATIENT": "1"}


@pytest.fixture
def hub_client(hub: LoopbackHub, tmp_path: Path) -> Iterator[Client]:
    """This process uses the hub, with a token that may write and an empty cache, until the test's end."""
    from huggingface_hub import close_session

    from tests.loopback_hub.client import environment_for, turn_to

    close_session()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # The client uploads large files in a way that its own HTTP library advises against.
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        yield turn_to(hub, environment_for(hub, tmp_path), patch)
    close_session()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every connection fails as without a network; gives the list of what was tried."""
    from tests.loopback_hub.client import forbid_network

    return forbid_network(monkeypatch)


@pytest.fixture
def no_network_environment(tmp_path: Path) -> dict[str, str]:
    """Variables for a process without a network, to be merged last; it notes what it tries in the file that
    LOOPBACK_NO_NETWORK names."""
    return {"PYTHONPATH": str(_preamble(tmp_path)), "LOOPBACK_NO_NETWORK": str(tmp_path / "attempts.txt")}


def _preamble(tmp_path: Path) -> Path:
    # Python imports `sitecustomize` before anything else, from wherever it is found.
    folder = tmp_path / "preamble"
    folder.mkdir(exist_ok=True)
    shutil.copy(PREAMBLE, folder / "sitecustomize.py")
    return folder
