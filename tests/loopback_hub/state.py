"""What a test sees of the hub: repositories, large objects, tokens, faults to come, and requests that came."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.loopback_hub.faults import Fault
from tests.loopback_hub.repositories import Repository

USER, STRANGER = "tester", "stranger"
WRITE_TOKEN, READ_TOKEN, STRANGER_TOKEN = "hf_write", "hf_read", "hf_stranger"


@dataclass(frozen=True)
class Token:
    user: str
    role: Literal["write", "read"]
    organisations: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        return namespace in (self.user, *self.organisations)


@dataclass
class SeenRequest:
    """`status` and `sent`, bytes of the body, are what the client was really sent: after a fault, too."""

    host: Literal["hub", "storage"]
    method: str
    path: str
    query: str
    authorized: bool
    range: str | None
    status: int | None = None
    sent: int = 0
    faults: list[str] = field(default_factory=list)


class HubState:
    def __init__(self) -> None:
        self.endpoint = self.storage = ""
        self.reset()

    def reset(self) -> None:
        self.repos: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[SeenRequest] = []
        self.faults: list[Fault] = []
        self.crashes: list[str] = []
        self.page_size = 1000
        self.tokens = {
            WRITE_TOKEN: Token(USER, "write", ("lab",)),
            READ_TOKEN: Token(USER, "read", ("lab",)),
            STRANGER_TOKEN: Token(STRANGER, "write"),
        }

    def add_repo(self, name: str, files: Mapping[str, bytes] | None = None, **settings: Any) -> Repository:
        """Makes a repository without a request."""
        repository = self.repos[name] = Repository(name, **settings)
        if files:
            repository.add(files)
        return repository

    def inject(self, fault: Fault) -> Fault:
        """From now on the fault strikes; of several that match, the first injected."""
        self.faults.append(fault)
        return fault

    def seen(self, method: str = "*", path: str = "*") -> list[SeenRequest]:
        """Returns the requests that match, in order."""
        return [
            request
            for request in self.requests
            if method in ("*", request.method) and fnmatch.fnmatchcase(request.path, path)
        ]
