"""The `qzoo` command: one file a subcommand. Nothing here imports torch until a command needs it."""

from qzoo.cli.main import main

__all__ = ["main"]
