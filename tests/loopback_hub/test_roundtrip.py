"""What is uploaded with the real client comes back with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    create_commit,
    create_repo,
    hf_hub_download,
    model_info,
    snapshot_download,
    upload_folder,
    whoami,
)
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from tests.loopback_hub.client import Client
from tests.loopback_hub.server import LoopbackHub

REPO = "tester/model"
CARD = b"---\nlicense: mit\ntags:\n- quantized\nlibrary_name: timm\n---\n# Model\n"
WEIGHTS = bytes(range(256)) * 2000
FILES = {"README.md": CARD, "config.json": b'{"a": 1}', "deep/er/w.safetensors": WEIGHTS}


def additions(files: dict[str, bytes]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, content) for path, content in files.items()]


def sent(hub: LoopbackHub) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in hub.requests]


@pytest.fixture
def commit(hub: LoopbackHub, hub_client: Client) -> str:
    create_repo(REPO)
    return str(create_commit(REPO, additions(FILES), commit_message="All").oid)


def test_large_files_go_to_the_storage_and_small_ones_into_the_commit(hub: LoopbackHub, commit: str) -> None:
    oid = hashlib.sha256(WEIGHTS).hexdigest()
    assert hub.objects == {oid: WEIGHTS}
    assert [(each.path, each.authorized) for each in hub.requests if each.host == "storage"] == [
        (f"/uploads/{oid}", False)
    ]
    assert sent(hub)[-1] == ("POST", f"/api/models/{REPO}/commit/main")


def test_the_repository_holds_what_was_committed(hub: LoopbackHub, commit: str) -> None:
    repository = hub.repos[REPO]
    assert repository.head == commit
    assert {path: content for path, content in repository.files().items() if path != ".gitattributes"} == FILES


def test_information_about_a_model(hub: LoopbackHub, commit: str) -> None:
    info = model_info(REPO, files_metadata=True)
    assert info.sha == commit
    assert (info.private, info.gated, info.author, info.library_name, info.tags) == (
        False,
        False,
        "tester",
        "timm",
        ["quantized"],
    )
    sizes = {each.rfilename: each.size for each in info.siblings or []}
    assert sizes == {path: len(content) for path, content in hub.repos[REPO].files().items()}
    [weights] = [each for each in info.siblings or [] if each.lfs]
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize("page_size", [1, 1000])
def test_trees_are_listed_page_by_page(hub: LoopbackHub, commit: str, page_size: int) -> None:
    hub.page_size = page_size
    api = HfApi()
    everything = {entry.path for entry in api.list_repo_tree(REPO, recursive=True)}
    assert everything == {".gitattributes", "README.md", "config.json", "deep", "deep/er", "deep/er/w.safetensors"}
    assert {entry.path for entry in api.list_repo_tree(REPO, "deep")} == {"deep/er"}
    assert [entry.path for entry in api.get_paths_info(REPO, ["config.json", "deep", "none"])] == [
        "config.json",
        "deep",
    ]


def test_one_file_comes_back(hub: LoopbackHub, hub_client: Client, commit: str) -> None:
    for path, content in FILES.items():
        assert Path(hf_hub_download(REPO, path)).read_bytes() == content
    names = {blob.name for blob in hub_client.blobs()}
    assert hashlib.sha256(WEIGHTS).hexdigest() in names


def test_the_token_does_not_travel_to_the_storage(hub: LoopbackHub, commit: str) -> None:
    hub.requests.clear()
    hf_hub_download(REPO, "deep/er/w.safetensors")
    assert [(each.host, each.method, each.authorized) for each in hub.requests] == [
        ("hub", "HEAD", True),
        ("storage", "GET", False),
    ]


@pytest.mark.parametrize("revision", [None, "main", "side/branch", "v1", "commit"])
def test_a_snapshot_comes_back_by_any_revision(hub: LoopbackHub, commit: str, revision: str | None) -> None:
    api = HfApi()
    api.create_branch(REPO, branch="side/branch")
    api.create_tag(REPO, tag="v1")
    if revision not in (None, "main"):
        hub.repos[REPO].add({"config.json": b"later"})
    folder = Path(snapshot_download(REPO, revision=commit if revision == "commit" else revision))
    assert folder.name == commit
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES


def test_a_folder_is_uploaded_and_what_is_unchanged_is_not_sent_again(
    hub: LoopbackHub, commit: str, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "w.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "new" / "config.json").write_bytes(b"changed")
    before = hub.seen("PUT")
    upload_folder(repo_id=REPO, folder_path=tmp_path / "new", path_in_repo="deep/er")
    assert hub.seen("PUT") == before
    assert hub.repos[REPO].files()["deep/er/config.json"] == b"changed"
    assert hub.repos[REPO].files(commit).get("deep/er/config.json") is None


def test_nothing_changed_makes_no_commit(hub: LoopbackHub, commit: str) -> None:
    assert create_commit(REPO, additions(FILES), commit_message="Again").oid == commit
    assert hub.repos[REPO].head == commit


def test_files_and_folders_are_deleted(hub: LoopbackHub, commit: str) -> None:
    gone = [CommitOperationDelete("config.json"), CommitOperationDelete("deep/")]
    create_commit(REPO, gone, commit_message="Delete")
    assert set(hub.repos[REPO].files()) == {".gitattributes", "README.md"}


def test_a_commit_on_another_parent_is_refused(hub: LoopbackHub, commit: str) -> None:
    hub.repos[REPO].add({"config.json": b"meanwhile"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        create_commit(REPO, additions({"x.json": b"{}"}), commit_message="Late", parent_commit=commit)
    assert error.value.response.status_code == 412
    assert "x.json" not in hub.repos[REPO].files()


def test_a_commit_on_the_head_is_taken(hub: LoopbackHub, commit: str) -> None:
    create_commit(REPO, additions({"x.json": b"{}"}), commit_message="In time", parent_commit=commit[:7])
    assert [each.title for each in HfApi().list_repo_commits(REPO)] == ["In time", "All", "initial commit"]


def test_a_commit_of_an_object_that_was_never_uploaded_is_refused(hub: LoopbackHub, commit: str) -> None:
    operation = CommitOperationAdd("other.safetensors", b"never sent")
    operation._is_uploaded, operation._upload_mode = True, "lfs"
    with pytest.raises(BadRequestError, match=r"a file that does not exist: other\.safetensors"):
        create_commit(REPO, [operation], commit_message="Pointer")


def test_a_commit_on_an_unknown_branch_is_refused(hub: LoopbackHub, commit: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        create_commit(REPO, additions({"x.json": b"{}"}), commit_message="Where", revision="nowhere")


def test_a_repository_is_made_once(hub: LoopbackHub, commit: str) -> None:
    assert create_repo(REPO, exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError, match="already created"):
        create_repo(REPO)


def test_who_the_token_is(hub_client: Client) -> None:
    assert whoami()["name"] == "tester"
    assert whoami()["auth"]["accessToken"]["role"] == "write"


@pytest.mark.parametrize(
    ("asked", "status", "given"),
    [("bytes=2-4", 206, b"234"), ("bytes=7-", 206, b"789"), ("bytes=-2", 206, b"89"), ("bytes=10-", 416, b"")],
)
def test_ranges(hub: LoopbackHub, asked: str, status: int, given: bytes) -> None:
    hub.add_repo(REPO, {"digits.txt": b"0123456789"})
    answer = httpx2.get(f"{hub.endpoint}/{REPO}/resolve/main/digits.txt", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, given)
    assert answer.headers["Content-Range"].endswith("/10")
