"""What the hub tells about users and repositories, and what it does to whole repositories."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.loopback_hub.access import caller, readable, require_write, writable
from tests.loopback_hub.errors import HubError, entry_not_found
from tests.loopback_hub.repositories import Blob, Commit
from tests.loopback_hub.state import HubState


async def whoami(hub: HubState, request: Request) -> Response:
    token = caller(hub, request)
    if token is None:
        raise HubError(401, "Invalid username or password.")
    access = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": token.role}}
    organisations = [{"type": "org", "name": name} for name in token.organisations]
    return JSONResponse(
        {"type": "user", "id": token.user, "name": token.user, "fullname": token.user, "orgs": organisations}
        | {"auth": access}
    )


async def create(hub: HubState, request: Request) -> Response:
    token, asked = caller(hub, request), await request.json()
    if token is None:
        raise HubError(401, "Invalid username or password.")
    if asked.get("type", "model") != "model":
        raise HubError(501, "The loopback hub has models only")
    namespace = asked.get("organization") or token.user
    require_write(token, namespace)
    name = f"{namespace}/{asked['name']}"
    url = {"url": f"{hub.endpoint}/{name}", "name": name, "id": name}
    if name in hub.repos:
        return JSONResponse(url | {"error": "You already created this model repo"}, 409)
    hub.add_repo(name, private=asked.get("visibility") == "private" or asked.get("private", False))
    return JSONResponse(url)


async def delete(hub: HubState, request: Request) -> Response:
    asked = await request.json()
    name = f"{asked['organization']}/{asked['name']}"
    writable(hub, request, name)
    del hub.repos[name]
    return JSONResponse({})


async def settings(hub: HubState, request: Request, repo: str) -> Response:
    repository, asked = writable(hub, request, repo), await request.json()
    repository.gated = asked.get("gated", repository.gated)
    if "visibility" in asked:
        repository.private = asked["visibility"] == "private"
    return JSONResponse({"private": repository.private, "gated": repository.gated})


async def info(hub: HubState, request: Request, repo: str, revision: str = "main") -> Response:
    repository = readable(hub, request, repo)
    commit = repository.at(revision)
    card = _card(commit)
    return JSONResponse(
        {
            "_id": repository.id,
            "id": repository.id,
            "modelId": repository.id,
            "author": repository.owner,
            "sha": commit.oid,
            "lastModified": _date(commit.date),
            "createdAt": _date(next(iter(repository.commits.values())).date),
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": list(card.get("tags", [])),
            "library_name": card.get("library_name"),
            "pipeline_tag": card.get("pipeline_tag"),
            "cardData": card,
            "siblings": [_sibling(path, blob, request) for path, blob in sorted(commit.files.items())],
        }
    )


async def tree(hub: HubState, request: Request, repo: str, revision: str, path: str = "") -> Response:
    commit = readable(hub, request, repo).at(revision)
    entries = _entries(commit, path, recursive=request.query_params.get("recursive") in ("true", "True", "1"))
    if path and not entries:
        raise entry_not_found(f"{path} does not exist on {revision}", commit.oid)
    start = int(request.query_params.get("cursor", 0))
    stop = start + hub.page_size
    following = request.url.include_query_params(cursor=stop)
    headers = {"Link": f'<{following}>; rel="next"'} if stop < len(entries) else None
    return JSONResponse(entries[start:stop], headers=headers)


async def paths_info(hub: HubState, request: Request, repo: str, revision: str) -> Response:
    commit = readable(hub, request, repo).at(revision)
    form = parse_qs((await request.body()).decode())
    known = {entry["path"]: entry for entry in _entries(commit, "", recursive=True)}
    return JSONResponse([known[path] for path in form.get("paths", []) if path in known])


async def references(hub: HubState, request: Request, repo: str) -> Response:
    repository = readable(hub, request, repo)
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in repository.branches.items()
    ]
    tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in repository.tags.items()]
    return JSONResponse({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


async def history(hub: HubState, request: Request, repo: str, revision: str) -> Response:
    repository = readable(hub, request, repo)
    commits, oid = [], repository.at(revision).oid
    while oid:
        commit = repository.commits[oid]
        author = {"authors": [{"user": repository.owner}], "message": ""}
        commits.append(author | {"id": commit.oid, "title": commit.title, "date": _date(commit.date)})
        oid = commit.parent or ""
    return JSONResponse(commits)


async def branch(hub: HubState, request: Request, repo: str, name: str) -> Response:
    repository, asked = writable(hub, request, repo), await request.json()
    if name in repository.branches:
        raise HubError(409, f"Reference already exists: refs/heads/{name}")
    repository.branches[name] = repository.at(asked.get("startingPoint", "main")).oid
    return JSONResponse({})


async def tag(hub: HubState, request: Request, repo: str, revision: str) -> Response:
    repository, asked = writable(hub, request, repo), await request.json()
    if asked["tag"] in repository.tags:
        raise HubError(409, f"Reference already exists: refs/tags/{asked['tag']}")
    repository.tags[asked["tag"]] = repository.at(revision).oid
    return JSONResponse({})


async def validate_yaml(hub: HubState, request: Request) -> Response:
    asked = await request.json()
    try:
        _front_matter(asked["content"])
    except yaml.YAMLError as error:
        return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return JSONResponse({"errors": [], "warnings": []})


def _card(commit: Commit) -> dict[str, Any]:
    readme = commit.files.get("README.md")
    return _front_matter(readme.content.decode()) if readme else {}


def _front_matter(text: str) -> dict[str, Any]:
    parts = text.split("---\n", 2)
    return (yaml.safe_load(parts[1]) or {}) if len(parts) == 3 and not parts[0] else {}


def _sibling(path: str, blob: Blob, request: Request) -> dict[str, Any]:
    if "blobs" not in request.query_params:
        return {"rfilename": path}
    lfs = {"lfs": {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}}
    return {"rfilename": path, "blobId": blob.oid, "size": len(blob.content), **(lfs if blob.lfs else {})}


def _entries(commit: Commit, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    below = [path for path in sorted(commit.files) if not folder or path.startswith(folder + "/")]
    folders = {str(parent) for path in below for parent in PurePosixPath(path).parents} - {".", folder}
    folders = {name for name in folders if not folder or name.startswith(folder + "/")}
    all_entries = [*[_folder(name) for name in sorted(folders)], *[_file(path, commit.files[path]) for path in below]]
    depth = len(PurePosixPath(folder).parts) + 1
    return [entry for entry in all_entries if recursive or len(PurePosixPath(entry["path"]).parts) == depth]


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}


def _file(path: str, blob: Blob) -> dict[str, Any]:
    lfs = {"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}}
    return {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path, **(lfs if blob.lfs else {})}


def _date(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
