"""A Hugging Face hub on loopback: real TCP, in a thread of this process, its state in memory."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.loopback_hub.faults import FaultInjector
from tests.loopback_hub.routing import RequestLog, Router
from tests.loopback_hub.state import HubState

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class LoopbackHub(HubState):
    """Two hosts: `endpoint` is the hub, `storage` has large files, at a port of its own as a content network would."""

    def __init__(self) -> None:
        super().__init__()
        self._transports: dict[tuple[Any, Any], Any] = {}
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> LoopbackHub:
        sockets = [_listening(), _listening()]
        self.endpoint, self.storage = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in sockets)
        app = RequestLog(FaultInjector(Router(self), self, self._disconnect), self)
        config = uvicorn.Config(
            app,
            http=self._protocol(),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=100,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=(sockets,), name="loopback-hub", daemon=True)
        self._thread.start()
        self._wait_until_started()
        return self

    def stop(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=10)
        assert not self._thread.is_alive(), "the loopback hub did not stop"

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + 10
        while not (self._server and self._server.started):
            assert time.monotonic() < deadline, "the loopback hub did not start"
            time.sleep(0.005)

    def _protocol(self) -> type[H11Protocol]:
        transports = self._transports

        class Protocol(H11Protocol):
            """Keeps the transport, which an application does not get to see, so that a fault can close it."""

            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transports[self.client, self.server] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop((self.client, self.server), None)
                super().connection_lost(exc)

        return Protocol

    def _disconnect(self, scope: Scope, reset: bool) -> None:
        transport = self._transports.get((scope["client"], scope["server"]))
        if transport is None:
            return
        if reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()


def _listening() -> socket.socket:
    # Only a socket that says TCP is served without Nagle's delay of 40 ms between header and body.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(64)
    return listening
