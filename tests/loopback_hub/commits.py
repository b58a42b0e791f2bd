"""Commits over HTTP: which way each file is to be sent, then all changes as lines of JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.loopback_hub.access import writable
from tests.loopback_hub.errors import HubError
from tests.loopback_hub.repositories import Blob, Commit, Repository
from tests.loopback_hub.state import HubState


async def preupload(hub: HubState, request: Request, repo: str, revision: str) -> Response:
    repository = writable(hub, request, repo)
    commit = repository.at(revision)
    asked = await request.json()
    files = [_way(repository, commit, item["path"], item["size"]) for item in asked["files"]]
    return JSONResponse({"files": files, "commitOid": commit.oid})


def _way(repository: Repository, commit: Commit, path: str, size: int) -> dict[str, Any]:
    known = commit.files.get(path)
    mode = "lfs" if repository.is_lfs(path, size) else "regular"
    oid = {"oid": known.etag} if known else {}
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, **oid}


async def commit(hub: HubState, request: Request, repo: str, revision: str) -> Response:
    repository = writable(hub, request, repo)
    if "create_pr" in request.query_params:
        raise HubError(501, "The loopback hub has no pull requests")
    lines = [json.loads(line) for line in (await request.body()).splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    files = repository.at(revision).files
    changes: dict[str, Blob | None] = {}
    for line in lines:
        changes.update(_changes(hub, repository, files, line["key"], line["value"]))
    made = repository.commit(changes, header["summary"], revision, header.get("parentCommit"))
    url = f"{hub.endpoint}/{repo}/commit/{made.oid}"
    return JSONResponse({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def _changes(
    hub: HubState, repository: Repository, files: Any, key: str, value: dict[str, Any]
) -> dict[str, Blob | None]:
    if key == "file":
        return {value["path"]: _regular(repository, value)}
    if key == "lfsFile":
        return {value["path"]: _large(hub, repository, value)}
    if key == "deletedFile":
        return {value["path"]: None}
    if key == "deletedFolder":
        folder = value["path"].rstrip("/") + "/"
        return {path: None for path in files if path.startswith(folder)}
    return {}


def _regular(repository: Repository, value: dict[str, Any]) -> Blob:
    content = base64.b64decode(value["content"]) if value.get("encoding") == "base64" else value["content"].encode()
    if len(content) >= repository.lfs_from:
        raise HubError(400, f"{value['path']} has {len(content)} bytes: files this large have to be sent through LFS")
    return Blob(content)


def _large(hub: HubState, repository: Repository, value: dict[str, Any]) -> Blob:
    content = hub.objects.get(value["oid"])
    if content is None:
        # A copy within the repository names an object that came here without an upload.
        known = (blob for made in repository.commits.values() for blob in made.files.values() if blob.lfs)
        content = next((blob.content for blob in known if blob.sha256 == value["oid"]), None)
    if content is None:
        raise HubError(
            400, f"Your push was rejected because an LFS pointer pointed to a file that does not exist: {value['path']}"
        )
    return Blob(content, lfs=True)
