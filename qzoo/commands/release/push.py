"""Publishing a calibrated variant on the Hugging Face hub."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qzoo.arguments import checked
from qzoo.commands.release.bundle import Stored, make_bundle
from qzoo.commands.settings import Settings
from qzoo.errors import RecipeError, UnknownNameError
from qzoo.files import write_text
from qzoo.hub.client import HubAddress, parse_address, release, require_online
from qzoo.hub.index import HubIndex, read_index
from qzoo.hub.manifest import Manifest
from qzoo.progress import Progress, silent
from qzoo.results.readable import Readable
from qzoo.zoo.name_lookup import find


@dataclass(frozen=True, repr=False)
class Pushed(Readable):
    """What was released.

    Attributes:
        address: the address of the repository, with the commit; None where nothing was sent.
        manifest: the files.
        folder: where they lie on this machine; None where they were made for the push alone.
        missing: what the model lacks and could have.
    """

    address: HubAddress | None
    manifest: Manifest
    folder: Path | None
    missing: tuple[str, ...]


@checked
def push(
    name: str,
    repo: str,
    *,
    settings: Settings | None = None,
    artifacts: Path | None = None,
    weights: Stored = "packed",
    onnx: Sequence[str] = (),
    private: bool | None = None,
    folder: Path | None = None,
    dry_run: bool = False,
    pin_file: Path | None = None,
    progress: Progress = silent,
) -> Pushed:
    """Publishes a calibrated variant, with everything that is known of it, in one commit.

    Ranges, histograms and a receipt are taken where they are at hand; with data, what is missing is made. It can be
    run again after being stopped at any point: nothing that loads is on the hub before the one commit.

    Args:
        name: a variant, or a recipe file with one: `resnet50_int8`, `my.yaml:int8`.
        repo: `owner/repo`; created if need be.
        settings: data to measure with, device, number of images.
        artifacts: a folder in which `qzoo reproduce --artifacts` left some; looked into first.
        weights: how the full checkpoint is stored: `packed`, `float`, or not at all (`none`).
        onnx: runtimes whose ONNX files are released too: `onnxruntime`, `openvino`, `tensorrt`.
        private: for a repository that is created.
        folder: keep the files in it; default: in a folder that is deleted afterwards.
        dry_run: make the files, and send nothing.
        pin_file: a `hub.json` that gets the commit, so that the name alone finds the model.
        progress: shown the batches.

    Raises:
        WeightsError: nothing is calibrated and there is no data; no token or no right to write; the hub can't be
            reached.

    Example:
        >>> qzoo.push("resnet8_digits_int8", "me/resnet8_digits_int8").address.repo
        'me/resnet8_digits_int8'
    """
    address = parse_address(repo)
    if not dry_run:
        require_online(address)
    if address.revision is not None:
        raise UnknownNameError(f"'{repo}' names a revision, but a push makes a new one. Give {address.repo} alone.")
    zoo_model = find(name)
    if pin_file is not None:
        _check_pin(Path(pin_file), zoo_model.resolved.name, address)
    folder, artifacts = (Path(path) if path else None for path in (folder, artifacts))
    with tempfile.TemporaryDirectory(prefix="qzoo-push-") as temporary:
        made = make_bundle(
            zoo_model, folder or Path(temporary), settings,
            artifacts=artifacts, weights=weights, onnx=onnx, repo=address.repo, progress=progress,
        )  # fmt: skip
        sent = None if dry_run else release(made.folder, address.repo, private=private)
    if pin_file is not None and sent is not None:
        pin(Path(pin_file), made.manifest.name, sent)
    return Pushed(sent, made.manifest, folder, made.missing)


def pin(path: Path, name: str, address: HubAddress) -> None:
    """Writes into an index where a variant is released, so that its name alone finds it.

    Args:
        path: the path of a `hub.json`, made if there is none; replaced in one step.
        name: full name of the variant, which has to be the repository's.
        address: with the commit.

    Raises:
        RecipeError: the index speaks of another owner, or the repository has another name.
    """
    index, owner = _check_pin(path, name, address), address.repo.partition("/")[0]
    revisions = {**(index.revisions if index else {}), name: address.revision}
    text = json.dumps({"organisation": owner, "revisions": dict(sorted(revisions.items()))}, indent=1)
    write_text(path, text + "\n")


def _check_pin(path: Path, name: str, address: HubAddress) -> HubIndex | None:
    """Returns the index that is to name a repository, if there is one already.

    Raises:
        RecipeError: it speaks of another owner, or the repository has another name than the variant.
    """
    owner, _, repo = address.repo.partition("/")
    index = read_index(path) if path.is_file() else None
    if repo != name or (index is not None and index.organisation != owner):
        expected = f"{index.organisation if index else owner}/{name}"
        raise RecipeError(f"{path} can't name {address.repo}: by it, {name} lies in {expected}. Push it there.")
    return index
