"""Keeping secrets out of what is printed, logged, raised and written: tokens of the hub, passwords in addresses.

What is secret is known from where the hub's client finds it, environment variables and token files; what else looks
like a secret, a bearer token or the password of an address, is taken for one.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN")
"""Variables that hold one."""
SHORTEST = 4
"""Signs of a secret that is looked for in any text; a shorter one is hidden inside addresses alone."""
LARGEST_TOKEN_FILE = 100_000
"""Bytes."""

# What repeats in front of something else is bounded: text is anybody's, and searching it has to take linear time.
_PATTERNS = (
    (re.compile(r"hf_[A-Za-z0-9]{6,}|api_org_[A-Za-z0-9]{6,}|gh[pousr]_[A-Za-z0-9]{20,}"), HIDDEN),
    (re.compile(r"\bbearer\s+[^\s'\"]+", re.IGNORECASE), HIDDEN),
    (
        re.compile(
            r"(authorization['\"]?\s*[:=,]\s*(?:b(?=['\"]))?['\"]?)(?![*'\"])(?!b['\"])(?:(?:basic|token)\s+)?[^\s'\",;]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#@'\"<>]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"([?&;#](?:[\w.-]{0,60}(?:token|secret|passw|pwd|api-?_?key|signature|credential|auth)[\w.-]{0,60}"
            r"|sig|key|code)=)"
            r"[^&\s'\"<>#]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)
_OF_ADDRESSES = re.compile(r"proxy|endpoint|url|mirror|host", re.IGNORECASE)
"""Names of variables that may hold an address with a password."""
_USERINFO = re.compile(r"(?<!\S)(?:\w+://)?(\S+)@")
_STORED = re.compile(r"^[ \t]*\w{0,60}token\w{0,60}[ \t]*=[ \t]*(\S+)", re.MULTILINE)


def redact(text: str) -> str:
    """Returns a text without the secrets of this machine, and without what looks like one.

    Example:
        >>> redact("GET http://me:hunter2@mirror/a?token=abc Authorization: Bearer hf_abcdefghijklm")
        'GET http://***@mirror/a?token=*** Authorization: ***'
    """
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """Returns what does so, for many texts: it looks once where this machine's secrets are."""
    secrets = sorted(_secrets(), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        for pattern, hidden in _PATTERNS:
            text = pattern.sub(hidden, text)
        return text

    return clean


def _secrets() -> set[str]:
    """Returns what is secret on this machine, in every spelling that a message may have."""
    found = {os.environ.get(name, "") for name in TOKENS}
    found |= {token for path in _token_files() for token in _tokens_in(path)}
    for name, value in list(os.environ.items()):
        if _OF_ADDRESSES.search(name):
            found |= {secret for userinfo in _USERINFO.findall(value) for secret in _parts(userinfo)}
    found |= {one.strip() for one in found}
    spelled = {spelling for one in found for spelling in (one, repr(one)[1:-1], quote(one, safe=""))}
    return {one for one in spelled if len(one) >= SHORTEST}


def _parts(userinfo: str) -> set[str]:
    """Returns what of `user:password` is secret; whoever takes an address apart wrongly may show a part of it."""
    user, _, password = userinfo.partition(":")
    if password in ("", "x-oauth-basic"):
        password = user
    encoded = base64.b64encode(unquote(userinfo).encode()).decode()
    return {password, unquote(password), encoded, *re.split(r"[/?#@:]", password)}


def _token_files() -> set[Path]:
    """Returns where the hub's client keeps tokens, by its variables and, if it is loaded, by its constants."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = Path(os.path.expanduser(os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")))
    named = [os.environ.get("HF_TOKEN_PATH"), home / "token", home / "stored_tokens"]
    constants = sys.modules.get("huggingface_hub.constants")
    named += [getattr(constants, name, None) for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH")]
    return {Path(os.path.expanduser(path)) for path in named if path}


def _tokens_in(path: Path) -> list[str]:
    with suppress(OSError, ValueError):
        if path.stat().st_size <= LARGEST_TOKEN_FILE:
            text = path.read_text(encoding="utf-8", errors="replace")
            return _STORED.findall(text) or [text.strip()]
    return []


_lock = threading.Lock()


@contextmanager
def redacted_logs() -> Iterator[None]:
    """Keeps secrets out of what any logger says while the block runs, on whatever handlers, in all threads."""
    with _lock:
        _RedactedRecords.blocks += 1
        if not isinstance(logging.getLogRecordFactory(), _RedactedRecords):
            logging.setLogRecordFactory(_RedactedRecords(logging.getLogRecordFactory()))
    try:
        yield
    finally:
        with _lock:
            _RedactedRecords.blocks -= 1
            factory = logging.getLogRecordFactory()
            if not _RedactedRecords.blocks and isinstance(factory, _RedactedRecords):
                logging.setLogRecordFactory(factory.before)


class _RedactedRecords:
    """Makes log records without secrets, while any block runs."""

    blocks = 0

    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.before(*arguments, **options)
        if not self.blocks:  # somebody has put a factory of theirs around this one
            return record
        with suppress(Exception):  # arguments that don't fit the message are reported by logging itself
            message = record.getMessage()
            if (clean := redact(message)) != message:
                record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
            record.exc_info = None
        return record
