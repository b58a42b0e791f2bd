"""The entry point: subcommands, exit codes, and one message instead of a traceback for a known mistake.

Exit codes: 0 fine or matched, 1 measured but off, 2 wrong input, 130 interrupted.
"""

from __future__ import annotations

import functools
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import typer
from rich.markup import escape

from qzoo.cli import (
    benchmark,
    calibrate,
    doctor,
    evaluate,
    explain,
    export,
    finetune,
    import_checkpoint,
    lint,
    list_models,
    new,
    pull,
    push,
    reproduce,
    sensitivity,
    show,
    solve,
    validate,
    verify,
)
from qzoo.cli.console import fail, stderr
from qzoo.cli.processes import INTERRUPTED, in_each_process, leave, mute_all_but_the_first
from qzoo.errors import PeerError, QzooError

app = typer.Typer(
    name="qzoo",
    help="A declarative zoo of quantized vision models in which every number can be rerun.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _guarded(run: Callable[..., None]) -> Callable[..., None]:
    """Returns the command with one message instead of a traceback for a known mistake, and for Ctrl-C."""

    @functools.wraps(run)
    def command(*arguments: Any, **options: Any) -> None:
        try:
            run(*arguments, **options)
        except PeerError as error:
            if error.known:
                fail(str(error))
            _report_bug(str(error))
        except QzooError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error}. Look at the path, its permissions and the free space.")
        except KeyboardInterrupt:
            stderr.print("Interrupted. Files that were finished are kept; nothing is half-written.", style="yellow")
            sys.exit(INTERRUPTED)
        except (typer.Exit, typer.Abort):
            raise
        except Exception:
            _report_bug(traceback.format_exc())

    return command


def _report_bug(text: str) -> NoReturn:
    print(text.rstrip(), file=sys.stderr)
    stderr.print("This is a bug in qzoo. Please report the lines above.", style="bold red")
    # Not 1, which says that a figure was measured and is off.
    sys.exit(3)


PLAIN = (
    list_models, show, explain, new, validate, import_checkpoint, export, lint, benchmark, doctor, solve, verify, push,
    pull,
)  # fmt: skip
for command in PLAIN:
    app.command(name=command.NAME)(_guarded(command.run))
for command in (calibrate, evaluate, reproduce, finetune, sensitivity):
    app.command(name=command.NAME)(_guarded(in_each_process(command.run)))


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from qzoo import __version__

        typer.echo(f"qzoo {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line."""
    warnings.showwarning = _show_warning
    sys.excepthook = _without_broken_handovers
    mute_all_but_the_first()
    try:
        app()
    except SystemExit as end:
        leave(end.code)
        raise


def _without_broken_handovers(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    # Of all threads only multiprocessing's own, in a worker that hands over a batch, reports here. After Ctrl-C nobody
    # takes the batch; in any other case, who waits for it tells what is wrong.
    if threading.current_thread() is not threading.main_thread():
        return
    sys.__excepthook__(kind, error, trace)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    stderr.print(f"[yellow]warning[/] {escape(str(message))}", highlight=False, soft_wrap=True)
