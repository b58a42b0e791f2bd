"""Faults by request: a test says what goes wrong, where and how often; the middleware makes it so."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.loopback_hub.errors import HubError, revision_not_found

Kind = Literal["drop", "truncate", "corrupt", "status", "slow", "gone"]
Disconnect = Callable[[Scope, bool], None]
FLIPPED = 16


@dataclass
class Fault:
    """What goes wrong.

    Args:
        path: glob of the address's path, without the query.
        kind: `drop` closes the connection after `after` bytes of a body that was announced whole; `truncate` sends
            `after` bytes and announces just them; `corrupt` flips 16 bytes from `after`; `status` answers `status`;
            `gone` answers that the revision is gone; `slow` waits `delay` seconds, before each `chunk` bytes if given.
        method: of the request; None: any, but HEAD only for kinds that don't need a body.
        times: how often; None: always.
        when: `request`: before the hub has done anything, and of the request's body; `response`: the hub has done it,
            and the answer suffers. By default a drop strikes the request of an upload and the response of a download.
        after: None: half of the body. A response dropped after 0 bytes has no header either.
        reset: drop with a TCP reset instead of an orderly close.
    """

    path: str
    kind: Kind
    method: str | None = None
    times: int | None = 1
    when: Literal["request", "response"] | None = None
    after: int | None = None
    reset: bool = False
    status: int = 503
    code: str | None = None
    retry_after: int | None = None
    delay: float = 0.0
    chunk: int | None = None
    struck: int = 0

    def matches(self, method: str, path: str) -> bool:
        if self.times is not None and self.struck >= self.times:
            return False
        needs_body = self.kind in ("drop", "truncate", "corrupt")
        of_method = self.method == method if self.method else not (needs_body and method == "HEAD")
        return of_method and fnmatch.fnmatchcase(path, self.path)

    def side(self, method: str) -> str:
        if self.when:
            return self.when
        if self.kind == "drop":
            return "response" if method in ("GET", "HEAD") else "request"
        return "response" if self.kind in ("truncate", "corrupt") else "request"

    def limit(self, size: int) -> int:
        return size // 2 if self.after is None else self.after

    def altered(self, body: bytes) -> bytes:
        at = self.limit(len(body))
        if self.kind == "truncate":
            return body[:at]
        flipped = bytes(byte ^ 0xFF for byte in body[at : at + FLIPPED])
        return body[:at] + flipped + body[at + FLIPPED :]

    def refusal(self) -> HubError:
        if self.kind == "gone":
            return revision_not_found("main")
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else None
        return HubError(self.status, f"Injected fault {self.status}", self.code, headers)


class FaultInjector:
    """ASGI middleware in front of the hub."""

    def __init__(self, app: ASGIApp, state: Any, disconnect: Disconnect) -> None:
        self.app, self.state, self.disconnect = app, state, disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        fault = next((fault for fault in self.state.faults if fault.matches(method, path)), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        fault.struck += 1
        scope["state"]["seen"].faults.append(fault.kind)
        strike = {"drop": self._drop, "slow": self._slow}.get(fault.kind)
        strike = strike or (self._alter if fault.kind in ("truncate", "corrupt") else self._refuse)
        await strike(fault, scope, receive, send)

    async def _refuse(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.side(scope["method"]) == "response":
            await self._collected(scope, receive)
        else:
            await _body(receive)
        await fault.refusal().response()(scope, receive, send)

    async def _slow(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_chunks(message: Message) -> None:
            body = message.get("body", b"")
            for start in range(0, len(body), fault.chunk or 1):
                await asyncio.sleep(fault.delay)
                await send(
                    {"type": message["type"], "body": body[start : start + (fault.chunk or 1)], "more_body": True}
                )
            await send({**message, "body": b""} if body else message)

        if fault.chunk is None:
            await asyncio.sleep(fault.delay)
        await self.app(scope, receive, send if fault.chunk is None else in_chunks)

    async def _alter(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.side(scope["method"]) == "request":
            body = fault.altered(await _body(receive))
            await self.app(scope, _received(body), send)
            return
        start, body = await self._collected(scope, receive)
        await _send(start, fault.altered(body), send)

    async def _drop(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.side(scope["method"]) == "request":
            size = int(dict(scope["headers"]).get(b"content-length", 0))
            await _body(receive, fault.limit(size))
        else:
            start, body = await self._collected(scope, receive)
            at = fault.limit(len(body))
            if at or fault.after is None:
                await send(start)
                await send({"type": "http.response.body", "body": body[:at], "more_body": True})
        self.disconnect(scope, fault.reset)
        # The server must have noticed before this returns, or it would answer 500.
        await asyncio.sleep(0.01)

    async def _collected(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        return messages[0], b"".join(message.get("body", b"") for message in messages[1:])


async def _send(start: Message, body: bytes, send: Send) -> None:
    headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive, limit: int | None = None) -> bytes:
    body = b""
    while limit is None or len(body) < limit:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


def _received(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
