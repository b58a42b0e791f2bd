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
    "Find and understand": {
        "list": _Entry("list_models", "List the bases and variants of the zoo.", models=False),
        "zoo": _Entry("zoo", "Write the zoo as one page to browse.", models=False),
        "show": _Entry("show", "Show a recipe, or what a variant comes to once it is resolved."),
        "explain": _Entry("explain", "Explain each quantizer of a variant by the rule that decided it."),
        "doctor": _Entry("doctor", "Show what this machine can run, and which variant fits it.", models=False),
    },
    "Make": {
        "new": _Entry("new", "Write a commented recipe for any model of timm or torchvision, or your own."),
        "validate": _Entry("validate", "Check that recipes are sound and fit their models."),
        "calibrate": _Entry("calibrate", "Calibrate a variant and save its ranges, a file of some KB.", True),
        "solve": _Entry("solve", "Solve ranges by another method or bit width, without images."),
        "optimize": _Entry("optimize", "Calibrate a variant and improve its weights, without labels or training."),
        "finetune": _Entry("finetune", "Train a variant with its quantizers on.", True),
        "import": _Entry("import_checkpoint", "Take over a checkpoint of NVIDIA's toolkits."),
    },
    "Measure": {
        "evaluate": _Entry("evaluate", "Measure top-1 and top-5 on the evaluation split.", True),
        "reproduce": _Entry("reproduce", "Rerun every number of a recipe beside the published ones.", True),
        "sensitivity": _Entry("sensitivity", "Rank the layers by what quantizing each alone does.", True),
        "verify": _Entry("verify", "Check a claim image by image against its receipt."),
        "check": _Entry("check", "Check ranges on a few images of your own, without labels."),
        "benchmark": _Entry("benchmark", "Time a variant against its float base in a runtime."),
    },
    "Ship": {
        "export": _Entry("export", "Write a variant as an ONNX file, checked and compared."),
        "lint": _Entry("lint", "Hold a quantized ONNX file against the rules of a runtime.", models=False),
        "push": _Entry("push", "Put a variant on the Hugging Face hub, in one commit."),
        "pull": _Entry("pull", "Fetch a model of the hub with all its files.", models=False),
    },
}
SUBCOMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
EXAMPLES = (
    "qzoo reproduce resnet8_digits",
    "qzoo list 'resnet*_int8'",
    "qzoo calibrate resnet50_int8 --data /data/imagenet",
    "qzoo export resnet8_digits_int8 --runtime onnxruntime",
)


class Subcommand(TyperCommand):
    """A subcommand that is known by its name and summary until it is run."""

    def __init__(self, name: str, guard: Callable[[Run], Run]) -> None:
        super().__init__(name, help=SUBCOMMANDS[name].summary)
        self.guard = guard

    @functools.cached_property
    def loaded(self) -> Any:
        """The command with its options."""
        entry = SUBCOMMANDS[str(self.name)]
        run = import_module(f"qzoo.cli.{entry.module}").run
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        run = with_own_code(run) if entry.models else run
        app.command(self.name)(self.guard(in_each_process(run) if entry.distributed else run))
        return typer.main.get_command(app)

    def make_context(self, *arguments: Any, **options: Any) -> typer.Context:
        """Returns the context of the loaded command, which is the one that runs."""
        note(str(self.name), arguments[1] if len(arguments) > 1 else options["args"])
        context: typer.Context = self.loaded.make_context(*arguments, **options)
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
            with formatter.section("Examples"):
                for example in EXAMPLES:
                    formatter.write_text(example)
            formatter.write_paragraph()
            formatter.write_text("Options and examples of one command: qzoo COMMAND --help")

    return Group
