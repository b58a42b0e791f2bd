"""Files by address: small ones from the hub, large ones by a redirect to a storage host that needs no token."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tests.loopback_hub.access import downloadable
from tests.loopback_hub.errors import HubError, entry_not_found
from tests.loopback_hub.state import HubState

SIGNATURE = "signature=loopback"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def resolve(hub: HubState, request: Request, repo: str, revision: str, path: str) -> Response:
    commit = downloadable(hub, request, repo).at(revision)
    blob = commit.files.get(path)
    if blob is None:
        raise entry_not_found(commit=commit.oid)
    headers = {"X-Repo-Commit": commit.oid, "Content-Disposition": _disposition(path)}
    if not blob.lfs:
        return content(request, blob.content, blob.etag, headers)
    location = f"{hub.storage}/objects/{blob.sha256}/{quote(PurePosixPath(path).name)}?{SIGNATURE}"
    linked = {"X-Linked-Size": str(len(blob.content)), "X-Linked-ETag": f'"{blob.etag}"', "Location": location}
    return Response(f"Found. Redirecting to {location}", 302, headers | linked)


async def stored(hub: HubState, request: Request, oid: str, name: str) -> Response:
    if request.url.query != SIGNATURE:
        raise HubError(403, "AccessDenied")
    blobs = [blob for repo in hub.repos.values() for commit in repo.commits.values() for blob in commit.files.values()]
    found = next((blob.content for blob in blobs if blob.lfs and blob.sha256 == oid), None)
    if found is None:
        raise HubError(404, "NoSuchKey")
    return content(request, found, oid, {"Content-Disposition": _disposition(name)})


def content(request: Request, whole: bytes, etag: str, headers: dict[str, str]) -> Response:
    """Returns the whole, or the range that was asked for."""
    headers = headers | {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    asked = RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or asked.groups() == ("", ""):
        return Response(whole, 200, headers, media_type="application/octet-stream")
    start, stop = _range(asked[1], asked[2], len(whole))
    if start >= stop:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(whole)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(whole)}"
    return Response(whole[start:stop], 206, headers, media_type="application/octet-stream")


def _range(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _disposition(path: str) -> str:
    name = PurePosixPath(path).name
    return f"inline; filename*=UTF-8''{quote(name)}; filename=\"{quote(name)}\";"
