"""Which address is answered by what. Addresses are matched before decoding: a branch may hold an encoded slash."""

from __future__ import annotations

import re
import traceback
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.loopback_hub import api, commits, lfs, resolve
from tests.loopback_hub.errors import HubError
from tests.loopback_hub.state import HubState, SeenRequest

Handler = Callable[..., Awaitable[Response]]

REPO = r"(?P<repo>[^/]+/[^/]+)"
MODEL = rf"/api/models/{REPO}"
REVISION = r"(?P<revision>[^/]+)"
HUB: list[tuple[str, str, Handler]] = [
    ("GET", r"/api/whoami-v2", api.whoami),
    ("POST", r"/api/repos/create", api.create),
    ("DELETE", r"/api/repos/delete", api.delete),
    ("POST", r"/api/validate-yaml", api.validate_yaml),
    ("GET", MODEL, api.info),
    ("GET", rf"{MODEL}/revision/{REVISION}", api.info),
    ("GET", rf"{MODEL}/tree/{REVISION}(?:/(?P<path>.+))?", api.tree),
    ("POST", rf"{MODEL}/paths-info/{REVISION}", api.paths_info),
    ("GET", rf"{MODEL}/refs", api.references),
    ("GET", rf"{MODEL}/commits/{REVISION}", api.history),
    ("PUT", rf"{MODEL}/settings", api.settings),
    ("POST", rf"{MODEL}/branch/(?P<name>[^/]+)", api.branch),
    ("POST", rf"{MODEL}/tag/{REVISION}", api.tag),
    ("POST", rf"{MODEL}/preupload/{REVISION}", commits.preupload),
    ("POST", rf"{MODEL}/commit/{REVISION}", commits.commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", lfs.batch),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/verify", lfs.verify),
    ("GET", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)", resolve.resolve),
    ("HEAD", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)", resolve.resolve),
]
STORAGE: list[tuple[str, str, Handler]] = [
    ("PUT", r"/uploads/(?P<oid>[0-9a-f]{64})", lfs.upload),
    ("GET", r"/objects/(?P<oid>[0-9a-f]{64})/(?P<name>[^/]+)", resolve.stored),
    ("HEAD", r"/objects/(?P<oid>[0-9a-f]{64})/(?P<name>[^/]+)", resolve.stored),
]


class Router:
    """The hub itself, as an ASGI application of two hosts."""

    def __init__(self, state: HubState) -> None:
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except HubError as error:
            response = error.response()
        except Exception:
            # A mistake of the hub's own: no retry of the client may hide it from the test.
            self.state.crashes.append(traceback.format_exc())
            response = Response("The loopback hub crashed", 500)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode()
        routes = STORAGE if request.scope["state"]["seen"].host == "storage" else HUB
        for method, pattern, handler in routes:
            found = re.fullmatch(pattern, path)
            if found and method == request.method:
                parts = {name: unquote(value) for name, value in found.groupdict().items() if value is not None}
                return await handler(self.state, request, **parts)
        raise HubError(501, f"The loopback hub does not serve {request.method} {path}")


class RequestLog:
    """ASGI middleware around all: notes each request, and what it was really answered."""

    def __init__(self, app: ASGIApp, state: HubState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = self._seen(scope)
        self.state.requests.append(seen)

        async def noted(message: Message) -> None:
            seen.status = message.get("status", seen.status)
            seen.sent += len(message.get("body", b""))
            await send(message)

        scope.setdefault("state", {})["seen"] = seen
        await self.app(scope, receive, noted)

    def _seen(self, scope: Scope) -> SeenRequest:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        at_storage = self.state.storage.endswith(f":{scope['server'][1]}")
        return SeenRequest(
            host="storage" if at_storage else "hub",
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode(),
            authorized="authorization" in headers,
            range=headers.get("range"),
        )
