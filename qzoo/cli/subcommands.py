"""The subcommands by name, each loaded when it is run: `qzoo --help` and `qzoo list` start without the others.

To add one: a file beside this one with a function `run`, and a line in `SUBCOMMANDS`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from qzoo.cli.terminal.command_line import note
from qzoo.cli.terminal.own_code import with_own_code
from qzoo.cli.terminal.processes import in_each_process
from qzoo.cli.terminal.usage import plain_mistakes, with_json_file
from qzoo.progress import phase

Run = Callable[..., None]


class _Entry(NamedTuple):
    """Where a subcommand is, and what `qzoo --help` says of it.

    Attributes:
        module: its file in this folder.
        summary: one sentence.
        distributed: whether `torchrun` may start it several times.
        models: whether it takes the name of a model, and so `--model`, the code of one's own.
    """

    module: str
    summary: str
    distributed: bool = False
    models: bool = True


SECTIONS = {
    "Use": {
        "list": _Entry("list_models", "List the bases and variants of the zoo.", models=False),
        "zoo": _Entry("zoo", "Write the zoo as one page to browse.", models=False),
        "show": _Entry("show", "Show a recipe, or what a variant comes to once it is resolved."),
        "explain": _Entry("explain", "Explain each quantizer of a variant by the rule that decided it."),
        "recommend": _Entry("recommend", "Recommend what to ship for a runtime on this machine, and why."),
        "pull": _Entry("pull", "Fetch a model of the hub with all its files.", models=False),
    },
    "Make": {
        "new": _Entry("new", "Write a commented recipe for any model of timm or torchvision, or your own."),
        "calibrate": _Entry("calibrate", "Calibrate a variant and save its ranges, a file of some KB.", True),
        "solve": _Entry("solve", "Solve ranges by another method or bit width, without images."),
        "optimize": _Entry("optimize", "Calibrate a variant and improve its weights, without labels or training."),
        "search": _Entry("search", "Choose how each layer is quantized, for a budget, and measure it."),
        "finetune": _Entry("finetune", "Train a variant with its quantizers on.", True),
        "import": _Entry("import_checkpoint", "Take over a checkpoint of NVIDIA's toolkits."),
    },
    "Check": {
        "validate": _Entry("validate", "Check that recipes are sound and fit their models."),
        "evaluate": _Entry("evaluate", "Measure top-1 and top-5 on the evaluation split.", True),
        "reproduce": _Entry("reproduce", "Rerun every number of a recipe beside the published ones.", True),
        "sensitivity": _Entry("sensitivity", "Rank the layers by what quantizing each alone does.", True),
        "check": _Entry("check", "Check ranges on a few images of your own, without labels."),
        "verify": _Entry("verify", "Check a claim image by image against its receipt."),
    },
    "Ship": {
        "export": _Entry("export", "Write a variant as an ONNX file, checked and compared."),
        "lint": _Entry("lint", "Hold a quantized ONNX file against the rules of a runtime.", models=False),
        "benchmark": _Entry("benchmark", "Time a variant against its float base in a runtime."),
        "push": _Entry("push", "Put a variant on the Hugging Face hub, in one commit."),
    },
    "Environment": {
        "doctor": _Entry("doctor", "Show what this machine can run, and which variant fits it.", models=False),
    },
}
SUBCOMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
WORK = {
    "benchmark": "tasks.benchmark", "calibrate": "commands.calibrate", "check": "commands.check",
    "evaluate": "commands.evaluate", "export": "commands.export", "finetune": "commands.finetune",
    "import": "compat.importing", "optimize": "commands.optimize", "push": "commands.release.push",
    "recommend": "commands.recommend", "reproduce": "commands.reproduce", "search": "commands.search",
    "sensitivity": "commands.sensitivity", "solve": "commands.solve", "verify": "commands.verify",
}  # fmt: skip
"""The modules that do the work of long commands. Loading them, and torch, takes seconds, and is shown."""
EXAMPLES = (
    "qzoo reproduce resnet8_digits",
    "qzoo list 'resnet*_int8'",
    "qzoo recommend resnet8_digits --target onnxruntime",
    "qzoo calibrate resnet50_int8 --data /data/imagenet",
    "qzoo export resnet8_digits_int8 --runtime onnxruntime",
)
EXIT_CODES = {
    "0": "fine, or as published",
    "1": "measured, and off: a figure not met, a rule broken, a check failed",
    "2": "wrong input, or output that can't be written",
    "3": "a bug in qzoo",
    "128+N": "ended by signal N: 130 by Ctrl-C, 143 by SIGTERM, 141 as nobody read on",
}
HELP = {"help_option_names": ["--help", "-h"]}
"""The settings of every command."""


def _after_loading(run: Run, work: str) -> Run:
    """Returns a command that shows, while torch and its own module are loaded, that this goes on."""

    @functools.wraps(run)
    def command(*arguments: Any, **options: Any) -> None:
        from qzoo.cli.terminal.progress_bar import bar

        with phase(bar, "loading torch"):
            import_module("torch")
            import_module(f"qzoo.{work}")
        run(*arguments, **options)

    return command


class Subcommand(TyperCommand):
    """A subcommand that is known by its name and summary until it is run."""

    def __init__(self, name: str, guard: Callable[[Run], Run]) -> None:
        super().__init__(name, help=SUBCOMMANDS[name].summary)
        self.guard = guard

    @functools.cached_property
    def loaded(self) -> Any:
        """The command with its options."""
        name = str(self.name)
        entry = SUBCOMMANDS[name]
        run = import_module(f"qzoo.cli.{entry.module}").run
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        run = with_own_code(run) if entry.models else run
        run = in_each_process(run) if entry.distributed else run
        run = _after_loading(run, WORK[name]) if name in WORK else run
        app.command(self.name, context_settings=HELP)(self.guard(run))
        return typer.main.get_command(app)

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **options: Any) -> typer.Context:
        """Returns the context of the loaded command, which is the one that runs."""
        note(str(self.name), args)
        words = with_json_file(args)
        spelled = [option for one in self.loaded.params for option in one.opts if option.startswith("--")]
        with plain_mistakes(words, spelled):
            context: typer.Context = self.loaded.make_context(info_name, [*words], *more, **options)
        return context


def group_of(guard: Callable[[Run], Run]) -> type[TyperGroup]:
    """Returns the class of a command group that holds the subcommands.

    Args:
        guard: is put around the function of each.
    """

    class Group(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | {"commands": {name: Subcommand(name, guard) for name in SUBCOMMANDS}})

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            for title, entries in SECTIONS.items():
                with formatter.section(title):
                    formatter.write_dl([(name, entry.summary) for name, entry in entries.items()])
            with formatter.section("Exit codes"):
                formatter.write_dl(list(EXIT_CODES.items()))
            with formatter.section("Examples"):
                for example in EXAMPLES:
                    formatter.write_text(example)
            formatter.write_paragraph()
            formatter.write_text("Options and examples of one command: qzoo COMMAND --help")

    return Group
