"""Fetching a hub model as a folder, for a machine without a network or to look into."""

from __future__ import annotations

from pathlib import Path

from qzoo import environment
from qzoo.arguments import checked
from qzoo.errors import RecipeError
from qzoo.files import copy
from qzoo.hub.client import fetch, parse_address
from qzoo.hub.manifest import FILES, MANIFEST
from qzoo.hub.released_model import ReleasedModel, open_folder


@checked
def pull(repo: str, folder: Path | str | None = None) -> ReleasedModel:
    """Fetches a hub model with all its files, each checked against the manifest.

    Args:
        repo: `owner/repo`, `owner/repo@revision`, with or without `hf-hub:`.
        folder: gets a copy, from which `qzoo.create(folder, pretrained=True)` works without a network; default: the
            hub's cache alone, from which `qzoo.create("hf-hub:owner/repo", pretrained=True)` does.

    Raises:
        WeightsError: the hub can't be reached, or what it sends is damaged.

    Example:
        >>> pushed = qzoo.push("resnet8_digits_int8", "me/resnet8_digits_int8")
        >>> released = qzoo.pull("me/resnet8_digits_int8", "mine")
        >>> round(qzoo.evaluate("mine").top1, 2)
        99.33
    """
    released = fetch(parse_address(repo), tuple(FILES))
    if folder is None:
        return released
    folder = environment.expanded(folder, "The folder")
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder} is a file. Give a folder for the model with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    # The manifest comes last, and goes first: half a folder must not pass for a whole one.
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in [*released.manifest.files, MANIFEST]:
        copy(released.folder / name, folder / name)
    return open_folder(folder)
