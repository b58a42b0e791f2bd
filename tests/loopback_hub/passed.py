"""Whether the hub server's own tests have passed as it is: they run again when it, or the real client, has changed.

Once they pass, `python -m tests.loopback_hub.passed` notes that; `make hub-server` does both.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
NOTED = FOLDER / "passed.txt"
# The client that it has to please, and what it is made with; later patches of them are taken to do the same.
PACKAGES = ("huggingface_hub", "starlette", "uvicorn")


def state() -> str:
    """Returns a digest of the server, of its tests, and of the versions of what both use."""
    digest = hashlib.sha256()
    for file in sorted(FOLDER.rglob("*.py")):
        digest.update(f"{file.relative_to(FOLDER).as_posix()}\0".encode() + file.read_bytes())
    for package in PACKAGES:
        digest.update(".".join(version(package).split(".")[:2]).encode())
    return digest.hexdigest()


def is_noted() -> bool:
    """Whether the tests have passed in this state."""
    return NOTED.is_file() and NOTED.read_text().strip() == state()


if __name__ == "__main__":
    NOTED.write_text(f"{state()}\n")
