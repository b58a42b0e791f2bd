"""What the hub answers instead of a result: a status, a code for programs, a message for people."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response


class HubError(Exception):
    """A refusal; `code` travels as `X-Error-Code`, which decides the exception that the client raises."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}

    def response(self) -> Response:
        headers = {"X-Error-Message": self.message, **({"X-Error-Code": self.code} if self.code else {})}
        return JSONResponse({"error": self.message}, self.status, headers | self.headers)


def repository_not_found(*, authenticated: bool) -> HubError:
    # Without a token the hub doesn't tell what is missing from what is private. The client guesses that from a 401
    # of an https address alone; the code gives the same exception over http.
    if authenticated:
        return HubError(404, "Repository not found", "RepoNotFound")
    return HubError(401, "Invalid username or password.", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(message: str = "Entry not found", commit: str | None = None) -> HubError:
    return HubError(404, message, "EntryNotFound", {"X-Repo-Commit": commit} if commit else None)


def gated(repository: str, *, authenticated: bool) -> HubError:
    if authenticated:
        message = f"Access to model {repository} is restricted and you are not in the authorized list."
        return HubError(403, message, "GatedRepo")
    message = f"Access to model {repository} is restricted. You must be authenticated to access it. Please log in."
    return HubError(401, message, "GatedRepo")
