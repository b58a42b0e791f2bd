"""Uploads of large files: what is to be sent where, the upload itself, and the check afterwards."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.loopback_hub.access import writable
from tests.loopback_hub.errors import HubError
from tests.loopback_hub.resolve import SIGNATURE
from tests.loopback_hub.state import HubState


async def batch(hub: HubState, request: Request, repo: str) -> Response:
    writable(hub, request, repo)
    asked = await request.json()
    if asked["operation"] != "upload" or "basic" not in asked["transfers"]:
        raise HubError(422, f"Only uploads by the basic transfer are served, not {asked['transfers']}")
    objects = [_instructions(hub, repo, item["oid"], item["size"]) for item in asked["objects"]]
    return JSONResponse({"transfer": "basic", "objects": objects, "hash_algo": "sha256"})


def _instructions(hub: HubState, repo: str, oid: str, size: int) -> dict[str, Any]:
    # Without actions there is nothing to send: the object is there.
    if oid in hub.objects:
        return {"oid": oid, "size": size}
    upload = {"href": f"{hub.storage}/uploads/{oid}?{SIGNATURE}"}
    verify = {"href": f"{hub.endpoint}/{repo}.git/info/lfs/objects/verify"}
    return {"oid": oid, "size": size, "authenticated": True, "actions": {"upload": upload, "verify": verify}}


async def upload(hub: HubState, request: Request, oid: str) -> Response:
    if request.url.query != SIGNATURE:
        raise HubError(403, "AccessDenied")
    body = await request.body()
    if hashlib.sha256(body).hexdigest() != oid:
        raise HubError(400, "XAmzContentSHA256Mismatch: the provided SHA-256 does not match what was computed.")
    hub.objects[oid] = body
    return Response(status_code=200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})


async def verify(hub: HubState, request: Request, repo: str) -> Response:
    writable(hub, request, repo)
    asked = await request.json()
    found = hub.objects.get(asked["oid"])
    if found is None or len(found) != asked["size"]:
        raise HubError(404, f"LFS object {asked['oid']} of {asked['size']} bytes is not in the storage")
    return JSONResponse({})
