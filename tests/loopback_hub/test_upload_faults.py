"""Uploads over a bad line: all but the commit itself is tried again."""

from __future__ import annotations

from io import BytesIO

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, constants, create_commit, create_repo
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from tests.loopback_hub.client import Client
from tests.loopback_hub.faults import Fault
from tests.loopback_hub.repositories import Repository
from tests.loopback_hub.server import LoopbackHub

REPO = "tester/model"
WEIGHTS = bytes(range(256)) * 400
LFS_STEPS = ["*/preupload/main", "*/objects/batch", "/uploads/*", "*/objects/verify"]


@pytest.fixture
def repository(hub: LoopbackHub, hub_client: Client) -> Repository:
    return hub.add_repo(REPO)


def upload() -> str:
    operations = [CommitOperationAdd("config.json", b"{}"), CommitOperationAdd("w.safetensors", WEIGHTS)]
    return str(create_commit(REPO, operations, commit_message="Upload").oid)


def arrived(repository: Repository) -> bool:
    return repository.files().get("w.safetensors") == WEIGHTS


@pytest.mark.parametrize("path", LFS_STEPS)
@pytest.mark.parametrize("fault", ["status", "drop", "reset"])
def test_each_step_before_the_commit_is_tried_again(
    hub: LoopbackHub, hub_client: Client, repository: Repository, path: str, fault: str
) -> None:
    hub.inject(Fault(path, "status" if fault == "status" else "drop", reset=fault == "reset"))
    upload()
    assert hub_client.waits == [1]
    assert len(hub.seen("*", path)) == 2
    assert arrived(repository)


@pytest.mark.parametrize(("kind", "cause"), [("status", HfHubHTTPError), ("drop", httpx2.TransportError)])
def test_an_upload_that_fails_always_is_given_up_after_six(
    hub: LoopbackHub, hub_client: Client, repository: Repository, kind: str, cause: type[Exception]
) -> None:
    hub.inject(Fault("/uploads/*", kind, times=None))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"Error while uploading 'w\.safetensors' to the Hub") as error:
        upload()
    assert isinstance(error.value.__cause__, cause)
    assert hub_client.waits == [1, 2, 4, 8, 8]
    assert not arrived(repository)


@pytest.mark.parametrize("kind", ["corrupt", "truncate"])
def test_an_upload_that_arrives_damaged_is_refused(hub: LoopbackHub, repository: Repository, kind: str) -> None:
    hub.inject(Fault("/uploads/*", kind, when="request"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError) as error:
        upload()
    assert isinstance(error.value.__cause__, BadRequestError)
    assert hub.objects == {}


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault("*/commit/main", "status"), HfHubHTTPError),
        (Fault("*/commit/main", "status", status=429, retry_after=1), HfHubHTTPError),
        (Fault("*/commit/main", "drop"), httpx2.TransportError),
    ],
    ids=["503", "429", "drop"],
)
def test_the_commit_is_not_tried_again(
    hub: LoopbackHub, hub_client: Client, repository: Repository, fault: Fault, raised: type[Exception]
) -> None:
    hub.inject(fault)
    with pytest.raises(raised):
        upload()
    assert hub_client.waits == []
    assert not arrived(repository)
    hub.requests.clear()
    upload()
    assert arrived(repository)
    assert not hub.seen("PUT"), "what the storage has is not sent twice"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("*/commit/main", "status", when="response"),
        Fault("*/commit/main", "drop", when="response", after=0),
        Fault("*/commit/main", "drop", when="response", after=0, reset=True),
    ],
    ids=["503", "drop", "reset"],
)
def test_a_commit_whose_answer_is_lost_has_happened(hub: LoopbackHub, repository: Repository, fault: Fault) -> None:
    hub.inject(fault)
    with pytest.raises((HfHubHTTPError, httpx2.TransportError)):
        upload()
    assert arrived(repository)
    head = repository.head
    assert upload() == head, "the same commit again changes nothing"


@pytest.mark.parametrize("when", ["request", "response"])
def test_a_repository_is_asked_for_once(hub: LoopbackHub, hub_client: Client, when: str) -> None:
    hub.inject(Fault("/api/repos/create", "status", when=when))  # type: ignore[arg-type]
    with pytest.raises(HfHubHTTPError, match="503"):
        create_repo(REPO)
    assert (REPO in hub.repos) is (when == "response")
    assert create_repo(REPO, exist_ok=True).repo_id == REPO


def test_a_file_object_never_goes_through_xet(
    hub: LoopbackHub, hub_client: Client, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    create_commit(REPO, [CommitOperationAdd("w.safetensors", BytesIO(WEIGHTS))], commit_message="Upload")
    assert arrived(repository)
    assert not hub.seen("GET", "*xet*")
