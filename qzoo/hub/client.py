"""The Hugging Face hub, through `huggingface_hub` alone: its cache, tokens, offline mode and mirrors (`HF_ENDPOINT`).

What comes from there is believed only if it fits the manifest, and the manifest only if it fits its own digest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qzoo import environment
from qzoo.errors import UnknownNameError, WeightsError
from qzoo.hub.errors import explained, patiently
from qzoo.hub.manifest import FILES, MANIFEST, read_manifest
from qzoo.hub.released_model import ReleasedModel, fault_of

PREFIX = "hf-hub:"
_ADDRESS = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(@(?P<revision>[\w][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubAddress:
    """A repository of the hub, and which state of it; None for the newest."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """As it is typed: `hf-hub:owner/repo@revision`."""
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: str) -> bool:
    """Whether a name is that of a repository of the hub.

    Example:
        >>> is_hub_name("hf-hub:owner/resnet50_int8"), is_hub_name("resnet50_int8")
        (True, False)
    """
    return name.startswith(PREFIX)


def parse_address(name: str) -> HubAddress:
    """Returns the address that a name stands for.

    Raises:
        UnknownNameError: it is none; says how one looks.

    Example:
        >>> parse_address("hf-hub:owner/resnet50_int8@v1")
        HubAddress(repo='owner/resnet50_int8', revision='v1')
    """
    match = _ADDRESS.fullmatch(name.removeprefix(PREFIX))
    if match is None or ".." in name:
        expected = f"{PREFIX}owner/repo or {PREFIX}owner/repo@revision"
        raise UnknownNameError(f"'{name}' is no repository of the hub. Give {expected}.")
    return HubAddress(match["repo"], match["revision"])


def require_online(address: HubAddress) -> None:
    """Refuses to go on where the client works offline.

    Raises:
        WeightsError: HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"Nothing can be sent to {address}: HF_HUB_OFFLINE is set. Unset it, or say --dry-run.")


def fetch(address: HubAddress, files: Sequence[str] = ()) -> ReleasedModel:
    """Returns a hub model, with some of its files; those in the cache are not fetched again.

    Args:
        address: the address of the repository.
        files: names; those that the model does not have are passed over.

    Raises:
        WeightsError: the repository can't be reached or holds no model; a file is missing, or damaged even after it
            was fetched again.
    """
    released = _manifest(address)
    # All files of one commit, even if somebody pushes meanwhile.
    folder = released.folder
    exactly = replace(address, revision=folder.name) if _COMMIT.fullmatch(folder.name) else address
    for name in files:
        facts = released.manifest.files.get(name)
        if facts is not None and facts.bytes > FILES[name].largest:
            most = f"such a file has at most {FILES[name].largest / 1e6:,.0f} MB"
            raise WeightsError(f"{name} of {address} has {facts.bytes / 1e6:,.0f} MB; {most}. It is not fetched.")
        if facts is not None and fault_of(_download(exactly, name), facts):
            # The client does not notice flipped bits, and would serve them from its cache from now on.
            fault = fault_of(_download(exactly, name, again=True), facts)
            if fault:
                raise WeightsError(
                    f"{name} of {address} {fault}, also after fetching it again. If this stays so, the owner has to "
                    "push the model again."
                )
    return released


def fetch_more(released: ReleasedModel, files: Sequence[str]) -> ReleasedModel:
    """Returns the model with more of its files: from the hub, the same commit; a folder has all it has already."""
    if not is_hub_name(released.name):
        return released
    address = parse_address(released.name)
    fetch(replace(address, revision=released.folder.name), files)
    return released


def _manifest(address: HubAddress) -> ReleasedModel:
    try:
        path = _download(address, MANIFEST)
        return ReleasedModel(path.parent, read_manifest(path, str(address)), str(address))
    except WeightsError as error:
        if "damaged" not in str(error):
            raise
    path = _download(address, MANIFEST, again=True)
    return ReleasedModel(path.parent, read_manifest(path, str(address)), str(address))


def _download(address: HubAddress, name: str, again: bool = False) -> Path:
    environment.check_endpoint()
    from huggingface_hub import hf_hub_download

    def download() -> str:
        return hf_hub_download(address.repo, name, revision=address.revision, force_download=again)

    return Path(explained(str(address), lambda: patiently(download)))


def release(folder: Path, repo: str, *, private: bool | None = None, message: str = "") -> HubAddress:
    """Puts a hub model on the hub, in one commit, and returns its address with the commit.

    The repository is created if there is none. If it holds this very model already, nothing is done; what an older
    model had and this one has not is removed. Until the one commit is made, nothing that loads is there, so this can
    be run again after being stopped at any point.

    Args:
        folder: with a manifest.
        repo: `owner/repo`.
        private: for a repository that is created.
        message: the message of the commit.

    Raises:
        WeightsError: no token, no right to write, or the hub can't be reached.
    """
    environment.check_endpoint()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    address, api = parse_address(repo), HfApi()
    manifest = read_manifest(folder / MANIFEST, str(folder))

    def send() -> HubAddress:
        patiently(lambda: api.create_repo(address.repo, private=private, exist_ok=True))
        there = patiently(lambda: api.list_repo_files(address.repo))
        if {MANIFEST, *manifest.files} <= set(there) and (commit := _same(address, manifest.digest)):
            return replace(address, revision=commit)
        stale = [name for name in there if name in FILES and name not in manifest.files]

        def commit_all() -> Any:
            # Made anew for each try: the client notes in them what the hub has, and a commit whose answer was lost
            # would be made twice.
            added = [CommitOperationAdd(name, str(folder / name)) for name in (MANIFEST, *manifest.files)]
            removed = [CommitOperationDelete(name) for name in stale]
            said = message or f"{manifest.name}@{manifest.version}, by qzoo {manifest.qzoo}"
            return api.create_commit(address.repo, [*added, *removed], commit_message=said)

        return replace(address, revision=patiently(commit_all).oid)

    return explained(str(address), send)


def _same(address: HubAddress, digest: str) -> str | None:
    """Returns the commit of the repository's state if it is the model of this digest."""
    try:
        released = _manifest(address)
    except WeightsError:
        return None
    return released.folder.name if released.manifest.digest == digest else None
