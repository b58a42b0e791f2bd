"""`--model`: the code of one's own class, on every command that takes the name of a model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from qzoo.cli.terminal.console import stderr

OWN = "model"
"""The name of the option's argument."""
_Model = Annotated[
    str | None,
    typer.Option(
        f"--{OWN}",
        help="Code of a base of `source: python`: module:factory or file.py:factory.",
        metavar="CODE",
        show_default=False,
    ),
]


def with_own_code(run: Callable[..., None]) -> Callable[..., None]:
    """Returns a command that takes `--model` too: while it runs, that is the code of a base of `source: python`."""

    @functools.wraps(run)
    def command(*arguments: Any, **options: Any) -> None:
        code = options.pop(OWN)
        if code is None:
            run(*arguments, **options)
            return
        from qzoo.models.own_models import code_given

        with code_given(code) as asked:
            run(*arguments, **options)
        if not asked:
            stderr.print(f"note: --{OWN} was not needed: no base of `source: python` was made.", soft_wrap=True)

    option = inspect.Parameter(OWN, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Model)
    signature = inspect.signature(run, eval_str=True)
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    command.__annotations__ = run.__annotations__ | {OWN: _Model}
    return command
