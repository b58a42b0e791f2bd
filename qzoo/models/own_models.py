"""Models of one's own: the code behind a base of `source: python`, which whoever runs qzoo gives, never a recipe.

    qzoo.register_model("tiny", TinyNet)            in Python
    qzoo explain tiny.yaml:int8 --model tiny.py:TinyNet    on the command line, for the recipe that is named there
    [project.entry-points."qzoo.models"]            in a package: tiny = "my_package.nets:TinyNet"

They are asked in this order, and entry points are read only where neither of the others has the name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import nn

from qzoo.arguments import checked
from qzoo.environment import expanded
from qzoo.errors import LONGEST_NAME, ArgumentError, UnknownNameError, did_you_mean, shown
from qzoo.models.own_code import described, importable_from, load

GROUP = "qzoo.models"
"""The group of entry points."""
_NAME = re.compile(rf"[A-Za-z0-9][\w.-]{{0,{LONGEST_NAME - 1}}}")


@dataclass(frozen=True)
class OwnModel:
    """What makes a model of one's own.

    Attributes:
        factory: a function or class that makes the module, or a module, which is copied.
        where: what messages call it: `tiny.py:TinyNet`.
        transform: from an image to a float tensor `(C, H, W)`; None: what factory or module say.
        weights: the path of a state dict; None: what the recipe names.
    """

    factory: Callable[..., nn.Module]
    where: str
    transform: Callable[[Any], Any] | None = None
    weights: Path | None = None


_registered: dict[str, OwnModel] = {}
_given: ContextVar[OwnModel | None] = ContextVar("model", default=None)
_asked: list[str] = []


@checked
def register_model(
    name: str,
    factory: Callable[..., nn.Module],
    *,
    transform: Callable[[Any], Any] | None = None,
    weights: Path | None = None,
    replace: bool = False,
) -> None:
    """Makes a network of one's own a base, for as long as the process runs.

    A recipe names it by `base: {source: python, architecture: NAME}`, and `python/NAME` is its name without a recipe.

    Args:
        name: letters, digits and `_.-`, at most 100 signs.
        factory: a function or class that makes the module, or a module, which is copied and never changed. Keyword
            arguments of `qzoo.create` reach it; one that takes `pretrained` gets it, and then loads weights itself.
        transform: from a PIL image, or a uint8 tensor, to a float32 tensor `(C, H, W)`. Default: the attribute
            `transform` of the factory, or of the module's class, or what `pretrained_cfg` of the module says, as timm's
            have it; else, with a `DefaultTransformWarning`, that of most ImageNet classifiers: 256, crop 224, its mean.
        weights: a state dict, `.safetensors`, `.pt` or `.pth`, of which no code is ever run. Default: the file that the
            recipe names; else the factory's own weights, if it gives the same each time.
        replace: put it in the place of what was registered by that name.

    Raises:
        ArgumentError: the name is taken, or is none.

    Example:
        >>> register_model("two_layers", lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
        >>> type(qzoo.create("python/two_layers:int8"))
        <class 'torch.nn.modules.container.Sequential'>
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"register_model() got name={shown(name)!r}; expected letters, digits and _.- of which the first is a "
            f"letter or digit, at most {LONGEST_NAME}, such as 'tiny_net'."
        )
    if name in _registered and not replace:
        raise ArgumentError(
            f"A model '{name}' is registered already, by {_registered[name].where}. Give this one another name, or say "
            "replace=True."
        )
    path = None if weights is None else expanded(weights, "weights")
    _registered[name] = OwnModel(factory, described(factory), transform, path)


@contextmanager
def code_given(code: str) -> Iterator[list[str]]:
    """Lets `--model` stand for the code of any base of `source: python` that nothing is registered for.

    Args:
        code: `module:factory` or `file.py:factory`.

    Yields:
        The names of such bases that were asked for inside, which come as they do.

    Raises:
        ArgumentError: there is no such file, module or factory, or the code fails; says where.
    """
    _asked.clear()
    importable_from(Path.cwd())  # as `python -m` has it
    given = _given.set(OwnModel(load(code, "--model"), code))
    try:
        yield _asked
    finally:
        _given.reset(given)


def code_option(name: str) -> str:
    """Returns what a command on a base has to say where this one was given code: ` --model tiny.py:TinyNet`."""
    _asked.append(name)
    given = _given.get()
    return "" if given is None else f" --model {shlex.quote(given.where)}"


def own_model(name: str) -> OwnModel:
    """Returns what makes the model of a name.

    Raises:
        UnknownNameError: nobody gave its code; says how to.
        ArgumentError: two packages give it, or the code of one fails.
    """
    _asked.append(name)
    if (found := _registered.get(name) or _given.get()) is not None:
        return found
    entries = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if len(entries) > 1:
        raise ArgumentError(
            f"Two packages give the model '{name}' by an entry point of {GROUP}: {' and '.join(entries)}. Uninstall "
            "one, or say which: --model MODULE:FACTORY."
        )
    for code in entries:
        return OwnModel(load(code, f"the entry point {name}"), code)
    raise UnknownNameError(_unknown(name), field=("base", "architecture"))


def _unknown(name: str) -> str:
    known = [*_registered, *entry_points(group=GROUP).names]
    near = f" {did_you_mean(name, known)}" if known else ""
    return (
        f"The base is a class of one's own, '{shown(name)}', and nobody gave its code here.{near} Give it: --model "
        f"FILE.py:FACTORY or MODULE:FACTORY; in Python qzoo.register_model({shown(name)!r}, FACTORY); or install the "
        f"package that has it among its entry points, group {GROUP}. A recipe never brings code."
    )
