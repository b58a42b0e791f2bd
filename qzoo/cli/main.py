"""The entry point: subcommands, exit codes, and one message instead of a traceback for a known mistake.

Exit codes: `EXIT_CODES` of `subcommands.py`, as `qzoo --help` shows them; docs/cli.md explains each.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer

from qzoo import environment
from qzoo.cli.subcommands import HELP, group_of
from qzoo.cli.terminal.console import WHITE, closed_streams, fail, labelled, stderr
from qzoo.cli.terminal.processes import BY_SIGNAL, leave, mute_all_but_the_first
from qzoo.cli.terminal.streams import flush_output, guard_streams
from qzoo.errors import PeerError, QzooError, UnknownNameError, escaped, readable
from qzoo.redaction import redact, redacted_logs
from qzoo.training.interrupts import interrupt


def _at_home(name: str, value: Any) -> Any:
    """Returns an option's value; in a path `~` is the home folder, also where a shell leaves it alone: `--data=~/x`."""
    if isinstance(value, Path) or (name == "json_file" and value is not None):
        return type(value)(environment.expanded(value, _said_by(name, value)))
    return value


def _said_by(name: str, value: Any) -> str:
    """Returns what messages call an option, or the variable that stands for it."""
    by_variable = name == "data" and os.environ.get("QZOO_DATA") == str(value)
    return "QZOO_DATA" if by_variable else f"The {name.replace('_', ' ')}"


def _guarded(run: Callable[..., None]) -> Callable[..., None]:
    """Returns the command with one message instead of a traceback for a known mistake, and for Ctrl-C."""

    @functools.wraps(run)
    def command(*arguments: Any, **options: Any) -> None:
        try:
            environment.check_endpoint()
            run(*arguments, **{name: _at_home(name, value) for name, value in options.items()})
        except PeerError as error:
            if error.known:
                fail(str(error))
            _report_bug(str(error))
        except QzooError as error:
            fail(str(_placed(error, options.get("name"))))
        except OSError as error:
            fail(f"{error}. {_remedy(error)}".replace(".. ", ". "))
        except KeyboardInterrupt as interrupt:
            sys.exit(_interrupted(interrupt))
        except (typer.Exit, typer.Abort):
            raise
        except Exception:
            _report_bug(traceback.format_exc())

    return command


def _placed(error: QzooError, name: object) -> QzooError:
    """Returns an error about a name in a recipe with file and line; the recipe is looked up only then."""
    if not isinstance(error, UnknownNameError) or error.field is None:
        return error
    from qzoo.zoo.name_lookup import placed_by

    return placed_by(error, name)


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or write to another disk."
    if error.errno == errno.ENAMETOOLONG:
        return "A name may have 255 bytes, a path 4,096."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Look at its permissions, or write elsewhere: -o, or QZOO_HOME for the cache."
    return "Look at the path." if error.filename else "Look at the path, its permissions and the free space."


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    """Says what was interrupted, once, and returns the exit code."""
    number = getattr(interrupt, "number", signal.SIGINT)
    notes = getattr(interrupt, "__notes__", ["Files that were finished are kept; nothing is half-written."])
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    stderr.print(f"Interrupted{by}. {' '.join(notes)}", style="yellow", soft_wrap=True)
    return BY_SIGNAL + number


def _report_bug(text: str) -> NoReturn:
    print(escaped(redact(text.rstrip()), WHITE), file=sys.stderr)
    stderr.print("This is a bug in qzoo. Please report the lines above.", style="bold red")
    # Not 1, which says that a figure was measured and is off.
    sys.exit(3)


app = typer.Typer(
    name="qzoo",
    cls=group_of(_guarded),
    help="A declarative zoo of quantized vision models in which every number can be rerun.",
    no_args_is_help=True,
    context_settings=HELP,
    rich_markup_mode=None,  # which takes longer to load than all else
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from qzoo import __version__

        typer.echo(f"qzoo {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line."""
    guard_streams()
    if "stdout" in closed_streams:
        fail("standard output is closed, and results would be lost. To have none, send it to /dev/null.")
    warnings.showwarning = _show_warning
    sys.excepthook = _without_broken_handovers
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)
    mute_all_but_the_first()
    try:
        with redacted_logs():
            app()
    except KeyboardInterrupt as early:  # before a command began, or after it
        sys.exit(_interrupted(early))
    except SystemExit as end:
        flush_output()
        leave(end.code)
        raise


def _without_broken_handovers(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    # Of all threads only multiprocessing's own, in a worker that hands over a batch, reports here. After Ctrl-C nobody
    # takes the batch; in any other case, who waits for it tells what is wrong.
    if threading.current_thread() is not threading.main_thread():
        return
    sys.__excepthook__(kind, error, trace)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    stderr.print(labelled("warning", "yellow", f" {readable(redact(str(message)))}"), soft_wrap=True)
