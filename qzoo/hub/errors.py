"""What goes wrong with the hub, in one message each, and trying again what may go better the second time."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from qzoo.errors import QzooError, WeightsError
from qzoo.redaction import redact, redacted_logs

T = TypeVar("T")

TRIES = 4
TRANSIENT = (408, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 30.0
"""Seconds; a server that asks for more patience is given up on."""

_AGAIN = "The hub does not answer as it should; trying again for up to half a minute."
_OF_AN_ADDRESS = ("InvalidURL", "UnsupportedProtocol", "LocalProtocolError")
"""Errors of the network's library about what it was given, a proxy or an endpoint: no other try helps."""
_WITH_RETRIES = ("utils._http", "file_download")
_OF_A_RETRY = re.compile(r"thrown while requesting|^Retrying in|Trying to resume|Max retries exceeded")


def explained(where: str, call: Callable[[], T]) -> T:
    """Returns what a call of the hub's client returns, or turns whatever it raises into one clear message.

    The client's own error, in which a token or a password may stand, is let go: it is no cause or context.

    Args:
        where: the repository.
        call: a call of the client.

    Raises:
        WeightsError: in place of any error of the client.
    """
    try:
        with redacted_logs(), retries_in_one_line():
            return call()
    except (QzooError, KeyboardInterrupt):
        raise
    except Exception as error:  # the client passes on whatever its network library raises
        problem = f"{where}: {_explanation(error)}"
    raise WeightsError(problem)


@contextmanager
def retries_in_one_line() -> Iterator[None]:
    """Lets the hub's client say once that it tries again, not in two lines for each try; other warnings pass."""
    said: list[bool] = []

    def passes(record: logging.LogRecord) -> bool:
        if not _OF_A_RETRY.search(record.getMessage()):
            return True
        if not said:
            said.append(True)
            print(_AGAIN, file=sys.stderr)
        return False

    # A logger's filter does not see what its children write, which are one a module.
    loggers = [logging.getLogger(f"huggingface_hub.{module}") for module in _WITH_RETRIES]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)


def patiently(call: Callable[[], T]) -> T:
    """Returns what a call returns, trying it again after an error of the server or the connection.

    The pauses are 1, 2 and 4 seconds, or what the server's Retry-After says, if that is at most half a minute. The
    client's own tries are not enough: it gives up where a file is truncated, or its connection is dropped, once.
    """
    for attempt in range(1, TRIES):
        try:
            return call()
        except Exception as error:
            pause = _pause(error, 2.0 ** (attempt - 1))
            if pause is None:
                raise
            if attempt == 1:
                print(_AGAIN, file=sys.stderr)
            time.sleep(pause)
    return call()


def _pause(error: Exception, default: float) -> float | None:
    """Returns how long to wait before the next try; None if another would be in vain."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    response = getattr(error, "response", None)
    if response is None:
        # An OSError without an answer of the server is one of the connection, unless it is of the disk.
        truncated = "Consistency check failed" in str(error)
        offline = isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError)
        return default if (_of_the_network(error) or truncated) and not offline else None
    if response.status_code not in TRANSIENT:
        return None
    asked = response.headers.get("Retry-After", "")
    pause = float(asked) if asked.isdigit() else default
    return pause if pause <= LONGEST_PAUSE else None


def unreached(error: Exception) -> str | None:
    """Returns why a file of the hub is not to be had, where nobody could be asked for it; None for any other error."""
    from huggingface_hub import constants, errors

    missing = isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError)
    if missing and constants.HF_HUB_OFFLINE:
        return "this is not in the cache, and HF_HUB_OFFLINE is set. Unset it to ask the hub."
    if not missing and not _of_the_network(error):
        return None
    cached = "; the hub's cache, which is looked into first, does not hold it" if missing else ""
    return f"{redact(constants.ENDPOINT)} can't be reached ({_first(error.__cause__ or error)}){cached}. {_RETRY}"


def _of_the_network(error: Exception) -> bool:
    """Whether no server has answered, and may do so another time."""
    unanswered = getattr(error, "response", None) is None and type(error).__name__ not in _OF_AN_ADDRESS
    from_network = type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "requests")
    return unanswered and (from_network or isinstance(error, ConnectionError))


def _explanation(error: Exception) -> str:
    from huggingface_hub import errors

    if reason := unreached(error):
        return reason if _of_the_network(error) else f"{reason} {_ELSEWHERE}"
    for kind, text in (
        (errors.GatedRepoError, "is gated. Ask for access on its page, then `hf auth login`, or set HF_TOKEN."),
        (errors.RepositoryNotFoundError, "does not exist, or is private: look at the name, or set HF_TOKEN."),
        (errors.RevisionNotFoundError, "has no such revision. Give a branch, a tag or a commit, all 40 digits."),
        (errors.EntryNotFoundError, "holds no qzoo model, or an unfinished one: its owner can run `qzoo push` again."),
    ):
        if isinstance(error, kind):
            return text
    return _by_status(error)


def _by_status(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the hub refuses this ({_first(error)}). Log in with `hf auth login`, or set HF_TOKEN to a token that may "
            "write to this repository."
        )
    if status == 429:
        return "the hub asks for fewer requests (429). Wait some minutes, or log in: that raises the limit."
    if status is not None and status >= 500:
        return f"the hub fails with {status}, also after {TRIES} tries. Try again later."
    hint = _ADDRESS if type(error).__name__ in _OF_AN_ADDRESS else _RETRY
    return f"{_first(error)}. {hint}"


_RETRY = "Try again; HF_ENDPOINT names a mirror, HF_HUB_OFFLINE=1 uses the cache alone, without waiting."
_ADDRESS = "Look at HF_ENDPOINT, and at the proxy: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY."
_ELSEWHERE = "Or fetch the model on another machine with `qzoo pull`, and copy the folder."


def _first(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return redact(text.rstrip("."))
