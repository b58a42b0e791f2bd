"""Runs at the start of a process that a test starts, as `sitecustomize`: no network, retries without waiting."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, NoReturn


def _forbid_network(log: Path) -> None:
    def refuse(self: socket.socket, address: Any) -> NoReturn:
        with log.open("a") as file:
            file.write(f"{address}\n")
        raise OSError(101, f"Network is unreachable: the test forbids a connection to {address}")

    socket.socket.connect = socket.socket.connect_ex = refuse  # type: ignore[method-assign,assignment]


def _retry_at_once() -> None:
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(float(seconds), 0.02))


if "LOOPBACK_NO_NETWORK" in os.environ:
    _forbid_network(Path(os.environ["LOOPBACK_NO_NETWORK"]))
if "LOOPBACK_IMPATIENT" in os.environ:
    _retry_at_once()
