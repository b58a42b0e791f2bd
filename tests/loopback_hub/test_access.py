"""Who may read and write what, and the client's exceptions for those who may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, create_commit, create_repo, hf_hub_download, model_info
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.loopback_hub.client import Client
from tests.loopback_hub.server import LoopbackHub
from tests.loopback_hub.state import READ_TOKEN, STRANGER, STRANGER_TOKEN, WRITE_TOKEN

REPO = "tester/model"
FILES = {"config.json": b"{}", "w.safetensors": b"weights"}


def download() -> str:
    return str(hf_hub_download(REPO, "w.safetensors"))


def commit() -> str:
    return str(create_commit(REPO, [CommitOperationAdd("x.json", b"{}")], commit_message="Write"))


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return int(error.value.response.status_code)


@pytest.mark.parametrize("call", [download, lambda: model_info(REPO), commit])
@pytest.mark.parametrize(("token", "answer"), [(None, 401), (STRANGER_TOKEN, 404)])
@pytest.mark.parametrize("exists", [True, False])
def test_a_private_model_looks_like_a_missing_one(
    hub: LoopbackHub, hub_client: Client, call: Callable[[], object], token: str | None, answer: int, exists: bool
) -> None:
    if exists:
        hub.add_repo(REPO, FILES, private=True)
    hub_client.use_token(token)
    with pytest.raises(RepositoryNotFoundError, match="Repository Not Found") as error:
        call()
    assert status(error) == answer


@pytest.mark.parametrize("token", [READ_TOKEN, WRITE_TOKEN])
def test_the_owner_reads_a_private_model(hub: LoopbackHub, hub_client: Client, token: str) -> None:
    create_repo(REPO, private=True)
    hub.repos[REPO].add(FILES)
    hub_client.use_token(token)
    assert model_info(REPO).private is True
    assert download()


@pytest.mark.parametrize(("token", "answer"), [(None, 401), (STRANGER_TOKEN, 403)])
def test_of_a_gated_model_all_see_the_list_of_files_only(
    hub: LoopbackHub, hub_client: Client, token: str | None, answer: int
) -> None:
    hub.add_repo(REPO, FILES, gated="manual")
    hub_client.use_token(token)
    info = model_info(REPO)
    assert info.gated == "manual"
    assert [entry.path for entry in HfApi().list_repo_tree(REPO)] == [".gitattributes", "config.json", "w.safetensors"]
    with pytest.raises(GatedRepoError, match="Access to model tester/model is restricted") as error:
        download()
    assert status(error) == answer


def test_whom_the_owner_let_in_reads_a_gated_model(hub: LoopbackHub, hub_client: Client) -> None:
    hub.add_repo(REPO, FILES, gated="auto").granted.add(STRANGER)
    hub_client.use_token(STRANGER_TOKEN)
    assert download()


@pytest.mark.parametrize(("token", "answer"), [(None, 401), (READ_TOKEN, 403), (STRANGER_TOKEN, 403)])
def test_writes_need_a_token_that_may(hub: LoopbackHub, hub_client: Client, token: str | None, answer: int) -> None:
    head = hub.add_repo(REPO, FILES).head
    hub_client.use_token(token)
    with pytest.raises(HfHubHTTPError) as error:
        commit()
    assert status(error) == answer
    assert hub.repos[REPO].head == head
    with pytest.raises(HfHubHTTPError) as error:
        create_repo("tester/other")
    assert status(error) == answer


def test_a_wrong_token_is_told_from_a_missing_model(hub: LoopbackHub, hub_client: Client) -> None:
    hub.add_repo(REPO, FILES)
    hub_client.use_token("hf_unknown")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as error:
        download()
    assert not isinstance(error.value, RepositoryNotFoundError)
    assert status(error) == 401


def test_a_missing_revision_and_a_missing_file(hub: LoopbackHub, hub_client: Client) -> None:
    hub.add_repo(REPO, FILES)
    with pytest.raises(RevisionNotFoundError, match="Revision Not Found"):
        hf_hub_download(REPO, "config.json", revision="v2")
    with pytest.raises(RevisionNotFoundError, match="Revision Not Found"):
        model_info(REPO, revision="0" * 40)
    with pytest.raises(RemoteEntryNotFoundError, match="Entry Not Found"):
        hf_hub_download(REPO, "none.json")


def test_what_is_not_served_says_so(hub: LoopbackHub, hub_client: Client) -> None:
    with pytest.raises(HfHubHTTPError, match="does not serve GET /api/models") as error:
        list(HfApi().list_models())
    assert status(error) == 501
