"""Repositories in memory: branches that point to commits, each an immutable snapshot of all files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Literal

from tests.loopback_hub.errors import HubError, entry_not_found, revision_not_found

LFS_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".onnx", ".npz", ".npy", ".zip", ".gz", ".parquet"})
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES)).encode()
STALE_PARENT = "A commit has happened since. Please refresh and try again."


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A file's content; `lfs`: git holds a pointer to it."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return text.encode()

    @property
    def oid(self) -> str:
        return git_oid(self.pointer if self.lfs else self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    files: Mapping[str, Blob]
    title: str
    date: datetime


@dataclass
class Repository:
    """`granted`: the users whom the owner of a gated repository has let in."""

    id: str
    private: bool = False
    gated: Literal["auto", "manual", False] = False
    lfs_from: int = 10_000_000
    granted: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit({".gitattributes": Blob(ATTRIBUTES)}, "initial commit")

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> str:
        """The commit of main."""
        return self.branches["main"]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: blob.content for path, blob in self.at(revision).files.items()}

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise revision_not_found(revision)
        return self.commits[oid]

    def add(self, files: Mapping[str, bytes | None], title: str = "Add files", branch: str = "main") -> str:
        """Commits files as a client would, without a request; None deletes. Returns the commit."""
        return self.commit({path: self._stored(path, content) for path, content in files.items()}, title, branch).oid

    def is_lfs(self, path: str, size: int) -> bool:
        return size > 0 and (size >= self.lfs_from or PurePosixPath(path).suffix in LFS_SUFFIXES)

    def commit(
        self, changes: Mapping[str, Blob | None], title: str, branch: str = "main", parent: str | None = None
    ) -> Commit:
        head = self._head_for(branch, parent)
        files = dict(head.files) if head else {}
        for path, blob in changes.items():
            if blob is not None:
                files[path] = blob
            elif files.pop(path, None) is None:
                raise entry_not_found(f"A file with this name doesn't exist: {path}")
        commit = self._commit(files, title, head.oid if head else None)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def _head_for(self, branch: str, parent: str | None) -> Commit | None:
        if not self.commits:
            return None
        if branch not in self.branches:
            raise revision_not_found(branch)
        head = self.at(branch)
        if parent is not None and not head.oid.startswith(parent):
            raise HubError(412, STALE_PARENT)
        return head

    def _commit(self, files: Mapping[str, Blob], title: str, parent: str | None) -> Commit:
        date = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=len(self.commits))
        tree = "".join(f"{path} {files[path].oid}\n" for path in sorted(files))
        oid = hashlib.sha1(f"{self.id} {parent} {date} {title}\n{tree}".encode()).hexdigest()
        return Commit(oid, parent, files, title, date)

    def _stored(self, path: str, content: bytes | None) -> Blob | None:
        return None if content is None else Blob(content, self.is_lfs(path, len(content)))
