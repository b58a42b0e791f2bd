"""What a runtime wants of a graph, how a file is run in it, and what is said of it.

A record is read by the command line's help too, so its file imports neither torch nor the runtime before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from qzoo.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
Feeds: TypeAlias = Mapping[str, Array]
"""Values for the inputs of a graph, by name."""
EXTRA = "export"
"""The extra of qzoo with what exports, and the runtimes that a package index has for every machine."""
EXPORTING = ("onnx", "onnxscript")
"""Packages that exporting needs, whatever runs the file."""


class Session(Protocol):
    """A graph, loaded by a runtime."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Returns the outputs by name, in order.

        Args:
            feeds: at least its inputs, by name; they are cast to the types of the graph.
        """


@dataclass(frozen=True)
class Kernel:
    """What runs a node.

    Attributes:
        name: as the runtime calls it, `QLinearConv` or `brgconv_avx512_I8`.
        integer: it computes with integers.
    """

    name: str
    integer: bool


@dataclass(frozen=True)
class Runtime:
    """A runtime, as far as exporting is concerned.

    Attributes:
        name: as `--runtime` takes it.
        title: as people call it.
        folds: batch norm is folded into the weights before; if not, the runtime does that itself.
        symmetric: it takes signed types alone, 0 stored as 0.
        weight_zero_points: a layer whose weight has zero points runs on integers.
        shifted: signed activations are stored unsigned, 0 in the middle.
        half: what is not quantized may be float16.
        residual: which inputs of a residual addition have to be quantized for it to run on integers.
        scheme: that fits it.
        package: that runs it, as pip calls it.
        pads_zero_points: an average pooling pads a tensor with what 0 is stored as.
        in_extra: the package comes with `qzoo[export]`.
        on_gpu: it runs on a GPU; if not, on the CPU.
        timer: what times a file, where qzoo can't tell by which kernels it is run.
        session: loads a file, with a number of threads, with the runtime's own optimizations or without.
        missing: tells what of this machine it lacks to run; None: nothing. Where it does not run, ONNX Runtime stands
            for it, as far as values are compared.
        kernels: tells by which kernels the nodes of a file are run, where the runtime tells that.
    """

    name: str
    title: str
    folds: bool
    symmetric: bool
    weight_zero_points: bool
    shifted: bool
    half: bool
    residual: Literal["skip", "both"]
    scheme: str
    package: str
    session: Callable[[Path, int | None, bool], Session]
    pads_zero_points: bool = True
    in_extra: bool = True
    on_gpu: bool = False
    timer: str = ""
    missing: Callable[[], str | None] = lambda: None
    kernels: Callable[[Path], dict[str, Kernel]] | None = None

    def __str__(self) -> str:
        """As people call it."""
        return self.title

    @property
    def file(self) -> str:
        """The name of its ONNX file in a hub model."""
        return f"{self.name}.onnx"

    @property
    def purpose(self) -> str:
        """What that file is for, as a model card says it."""
        return f"for {self.title}: Q/DQ, batch norm {'folded' if self.folds else 'left to the builder'}"


def require(package: str) -> Any:
    """Returns a package.

    Raises:
        UnsupportedError: it is not installed; with the command that installs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UnsupportedError(
            f"This needs {package}, which can't be imported here ({error}). Install it: pip install 'qzoo[{EXTRA}]'."
        ) from error
