"""Who asks, and what they may see and change."""

from __future__ import annotations

from starlette.requests import Request

from tests.loopback_hub.errors import HubError, gated, repository_not_found
from tests.loopback_hub.repositories import Repository
from tests.loopback_hub.state import HubState, Token


def caller(hub: HubState, request: Request) -> Token | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    token = hub.tokens.get(header.removeprefix("Bearer "))
    if token is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return token


def readable(hub: HubState, request: Request, name: str) -> Repository:
    """Returns the repository, which exists for those who may see it."""
    token, repository = caller(hub, request), hub.repos.get(name)
    if repository is None or (repository.private and not (token and token.owns(repository.owner))):
        raise repository_not_found(authenticated=token is not None)
    return repository


def downloadable(hub: HubState, request: Request, name: str) -> Repository:
    """Returns the repository, if its files may be read: of a gated one all may read the list of files only."""
    token, repository = caller(hub, request), readable(hub, request, name)
    admitted = token is not None and (token.owns(repository.owner) or token.user in repository.granted)
    if repository.gated and not admitted:
        raise gated(name, authenticated=token is not None)
    return repository


def writable(hub: HubState, request: Request, name: str) -> Repository:
    token = caller(hub, request)
    if token is None:
        raise repository_not_found(authenticated=False)
    repository = readable(hub, request, name)
    require_write(token, repository.owner)
    return repository


def require_write(token: Token, namespace: str) -> None:
    if token.role != "write" or not token.owns(namespace):
        raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}")
