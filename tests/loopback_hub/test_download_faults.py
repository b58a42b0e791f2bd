"""Downloads over a bad line: what the client retries, what it raises, and what it leaves in its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import constants, hf_hub_download, model_info, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RevisionNotFoundError

from tests.loopback_hub.client import Client
from tests.loopback_hub.faults import Fault
from tests.loopback_hub.server import LoopbackHub

REPO = "tester/model"
WEIGHTS = bytes(range(256)) * 400
EVERY_FILE = pytest.mark.parametrize("file", ["w.safetensors", "config.json"])


@pytest.fixture(autouse=True)
def _model(hub: LoopbackHub, hub_client: Client) -> None:
    hub.add_repo(REPO, {"w.safetensors": WEIGHTS, "config.json": WEIGHTS})


def fetch(file: str = "w.safetensors", **options: Any) -> bytes:
    return Path(hf_hub_download(REPO, file, **options)).read_bytes()


def methods(hub: LoopbackHub) -> list[str]:
    return [request.method for request in hub.requests]


@EVERY_FILE
@pytest.mark.parametrize("after", [0, None])
def test_a_dropped_download_is_tried_again(hub: LoopbackHub, hub_client: Client, file: str, after: int | None) -> None:
    hub.inject(Fault(f"*{file}", "drop", after=after))
    assert fetch(file) == WEIGHTS
    assert hub_client.waits == [1]
    assert [request.sent for request in hub.seen("GET")] == [len(WEIGHTS) // 2 if after is None else 0, len(WEIGHTS)]


def test_less_than_a_chunk_is_not_resumed(hub: LoopbackHub, hub_client: Client) -> None:
    hub.inject(Fault("*w.safetensors", "drop"))
    fetch()
    assert [request.range for request in hub.seen("GET")] == [None, None]


def test_whole_chunks_are_resumed_by_range(
    hub: LoopbackHub, hub_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.inject(Fault("*w.safetensors", "drop", after=25_000))
    assert fetch() == WEIGHTS
    assert [request.range for request in hub.seen("GET")] == [None, "bytes=20000-"]
    assert hub.seen("GET")[1].status == 206


@EVERY_FILE
def test_a_download_that_drops_always_is_given_up_after_six(hub: LoopbackHub, hub_client: Client, file: str) -> None:
    hub.inject(Fault(f"*{file}", "drop", times=None))
    with pytest.raises(httpx2.RemoteProtocolError, match="peer closed connection"):
        fetch(file)
    assert hub_client.waits == [1] * 5
    assert hub_client.blobs() == []


@EVERY_FILE
def test_a_reset_is_not_tried_again(hub: LoopbackHub, hub_client: Client, file: str) -> None:
    hub.inject(Fault(f"*{file}", "drop", reset=True))
    with pytest.raises(httpx2.ReadError, match="reset by peer") as error:
        fetch(file)
    assert not isinstance(error.value, OSError)
    assert hub_client.waits == []
    assert hub_client.blobs() == []


@EVERY_FILE
def test_a_truncated_download_is_noticed_but_not_tried_again(hub: LoopbackHub, hub_client: Client, file: str) -> None:
    hub.inject(Fault(f"*{file}", "truncate"))
    with pytest.raises(OSError, match="Consistency check failed: file should be of size 102400 but has size 51200"):
        fetch(file)
    assert hub_client.blobs() == []
    assert fetch(file) == WEIGHTS


@EVERY_FILE
def test_a_corrupt_download_is_not_noticed_and_stays(hub: LoopbackHub, hub_client: Client, file: str) -> None:
    hub.inject(Fault(f"*{file}", "corrupt"))
    corrupt = fetch(file)
    assert corrupt != WEIGHTS
    assert len(corrupt) == len(WEIGHTS)
    assert fetch(file) == corrupt
    assert methods(hub) == ["HEAD", "GET", "HEAD"]
    assert fetch(file, force_download=True) == WEIGHTS


@EVERY_FILE
@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_download_is_not_tried_again(hub: LoopbackHub, hub_client: Client, file: str, status: int) -> None:
    hub.inject(Fault(f"*{file}", "status", method="GET", status=status))
    with pytest.raises(HfHubHTTPError, match=f"Server error '{status}") as error:
        fetch(file)
    assert isinstance(error.value, OSError)
    assert hub_client.waits == []


@EVERY_FILE
def test_too_many_requests_waits_as_long_as_told(hub: LoopbackHub, hub_client: Client, file: str) -> None:
    hub.inject(Fault(f"*{file}", "status", method="GET", status=429, retry_after=3))
    assert fetch(file) == WEIGHTS
    assert hub_client.waits == [4]


def test_too_many_requests_are_given_up_after_six(hub: LoopbackHub, hub_client: Client) -> None:
    hub.inject(Fault("*w.safetensors", "status", method="GET", status=429, times=None))
    with pytest.raises(HfHubHTTPError, match="429 Too Many Requests"):
        fetch()
    assert hub_client.waits == [1, 2, 4, 8, 8]


def test_failing_metadata_is_tried_again_without_a_copy(hub: LoopbackHub, hub_client: Client) -> None:
    hub.inject(Fault("*w.safetensors", "status", method="HEAD", times=2))
    assert fetch() == WEIGHTS
    assert hub_client.waits == [1]
    assert methods(hub) == ["HEAD", "HEAD", "HEAD", "GET"]


def test_metadata_that_fails_always_is_given_up_after_seven(hub: LoopbackHub, hub_client: Client) -> None:
    hub.inject(Fault("*w.safetensors", "status", method="HEAD", times=None))
    with pytest.raises(LocalEntryNotFoundError, match="Please check your connection"):
        fetch()
    assert methods(hub) == ["HEAD"] * 7
    assert hub_client.waits == [1, 2, 4, 8, 8]


@pytest.mark.parametrize(("reset", "raised"), [(False, httpx2.RemoteProtocolError), (True, httpx2.ReadError)])
@pytest.mark.parametrize("warm", [False, True])
def test_dropped_metadata_is_not_tried_again_and_no_copy_is_used(
    hub: LoopbackHub, hub_client: Client, reset: bool, raised: type[Exception], warm: bool
) -> None:
    if warm:
        fetch()
    hub.inject(Fault("*w.safetensors", "drop", method="HEAD", after=0, reset=reset))
    with pytest.raises(raised):
        fetch()
    assert hub_client.waits == []


def test_slow_metadata_and_a_slow_download_are_tried_again(hub: LoopbackHub, hub_client: Client) -> None:
    hub_client.give_up_after(0.3)
    hub.inject(Fault("*w.safetensors", "slow", method="HEAD", delay=0.5))
    hub.inject(Fault("*w.safetensors", "slow", method="GET", delay=0.5))
    assert fetch() == WEIGHTS
    assert methods(hub) == ["HEAD", "HEAD", "GET", "GET"]


def test_a_download_that_trickles_is_waited_for(hub: LoopbackHub, hub_client: Client) -> None:
    hub_client.give_up_after(0.4)
    hub.inject(Fault("*w.safetensors", "slow", method="GET", delay=0.1, chunk=20_000))
    assert fetch() == WEIGHTS
    assert hub_client.waits == []


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_revision_that_goes_is_told(hub: LoopbackHub, hub_client: Client, method: str) -> None:
    hub.inject(Fault("*w.safetensors", "gone", method=method))
    with pytest.raises(RevisionNotFoundError, match="Revision Not Found"):
        fetch()


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault("/api/models/*", "drop"), httpx2.RemoteProtocolError),
        (Fault("/api/models/*", "drop", after=0, reset=True), httpx2.ReadError),
        (Fault("/api/models/*", "truncate"), ValueError),
        (Fault("/api/models/*", "status", status=500), HfHubHTTPError),
        (Fault("/api/models/*", "status", status=429, retry_after=1), HfHubHTTPError),
        (Fault("/api/models/*", "gone"), RevisionNotFoundError),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_information_is_asked_for_once(
    hub: LoopbackHub, hub_client: Client, fault: Fault, raised: type[Exception]
) -> None:
    hub.inject(fault)
    with pytest.raises(raised):
        model_info(REPO)
    assert methods(hub) == ["GET"]
    assert hub_client.waits == []


def test_a_snapshot_retries_its_list_of_files_but_not_its_revision(hub: LoopbackHub, hub_client: Client) -> None:
    hub.inject(Fault("*/revision/main", "status"))
    with pytest.raises(LocalEntryNotFoundError, match="Got: HfHubHTTPError: Server error '503"):
        snapshot_download(REPO)
    hub.inject(Fault("*/tree/*", "status"))
    folder = snapshot_download(REPO)
    assert hub_client.waits == [1]
    assert (Path(folder) / "w.safetensors").read_bytes() == WEIGHTS


def test_a_snapshot_of_which_one_file_fails_is_completed_the_next_time(hub: LoopbackHub, hub_client: Client) -> None:
    hub.inject(Fault("*w.safetensors", "status", method="GET"))
    with pytest.raises(HfHubHTTPError, match="503"):
        snapshot_download(REPO, max_workers=1)
    hub.requests.clear()
    folder = Path(snapshot_download(REPO, max_workers=1))
    assert (folder / "w.safetensors").read_bytes() == WEIGHTS
    # What the first had got, is not fetched again, nor asked for.
    assert not hub.seen("*", "*.gitattributes")
