"""Code of the user's that an option or an entry point names: `module:factory` or `file.py:factory`.

Nothing here is ever given what a recipe or a hub model says.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from functools import reduce
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from qzoo.environment import expanded
from qzoo.errors import ArgumentError, did_you_mean, shown

FORMS = "Give FILE.py:FACTORY or MODULE:FACTORY, such as nets.py:TinyNet."


def load(code: str, what: str) -> Callable[..., Any]:
    """Returns what a text names, after running the file or module that it stands in.

    Args:
        code: `nets.py:TinyNet`, `my_package.nets:TinyNet`; the part behind the colon may be dotted.
        what: named it, for messages: `--model`.

    Raises:
        ArgumentError: there is no such file, module or name, it can't be called, or the code fails; says where.
    """
    place, _, path = code.rpartition(":")
    if not place or not path:
        raise ArgumentError(f"{what} '{shown(code)}' names no factory. {FORMS}")
    module = _from_file(expanded(place, what), what) if place.endswith(".py") else _from_path(place, what)
    try:
        found = reduce(getattr, path.split("."), module)
    except AttributeError:
        known = [name for name, one in vars(module).items() if callable(one) and name[0] != "_"]
        raise ArgumentError(f"{what}: {place} has no '{shown(path)}'. {did_you_mean(path, known)}") from None
    if not callable(found):
        raise ArgumentError(
            f"{what}: {code} is of type {type(found).__name__}; expected a function or class that makes the module, "
            "or a module."
        )
    return found


def described(factory: Any) -> str:
    """Returns what messages call a factory.

    Example:
        >>> described(load)
        'qzoo.models.own_code.load'
    """
    named = factory if hasattr(factory, "__qualname__") else type(factory)
    return f"{named.__module__}.{named.__qualname__}"


def told(error: BaseException) -> str:
    """Returns what an error of the user's code says, in one line with file and line where they are the user's."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    others = (Path(__file__).parent, Path(importlib.__file__).parent)
    users = [(file, line) for file, line in frames if not file.startswith("<") and Path(file).parent not in others]
    if isinstance(error, SyntaxError):
        users.append((str(error.filename), error.lineno))
    place = " ({}:{})".format(*users[-1]) if users else ""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}{place}"


def _from_file(file: Path, what: str) -> ModuleType:
    """Runs a file as Python runs a script's imports: under its own name, with its folder to import others from."""
    file = file.resolve()
    if not file.is_file():
        raise ArgumentError(f"{what}: there is no file {file}. {FORMS}")
    loaded = sys.modules.get(file.stem)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(file):
            return loaded
        raise ArgumentError(f"{what}: a module '{file.stem}' is loaded already, from elsewhere. Rename {file.name}.")
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Where it is known by its name, its functions reach the processes that decode images.
    importable_from(file.parent)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script may end when it is imported
        del sys.modules[file.stem]
        raise ArgumentError(f"{what}: {file} can't be run: {told(error)}.") from error
    return module


def _from_path(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ArgumentError(f"{what}: the module {shown(name)} can't be imported: {told(error)}. {FORMS}") from error


def importable_from(folder: Path) -> None:
    """Lets modules of a folder be imported, before any others of their names."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
