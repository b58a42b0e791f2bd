"""Holding any ONNX file against the rules of a runtime, by the runtime's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qzoo.arguments import checked
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.runtime import require

if TYPE_CHECKING:
    from qzoo.runtimes.lint import LintReport


@checked
def lint(file: str | Path, runtime: str) -> LintReport:
    """Returns what the rules of a runtime find in an ONNX file, of qzoo or of anybody else, without running it.

    Args:
        file: its path; nothing outside its folder is read.
        runtime: `tensorrt`, `onnxruntime` or `openvino`.

    Raises:
        UnknownNameError: there is no such runtime.
        UnsupportedError: the packages of `qzoo[export]` are missing.
        WeightsError: the file is missing, damaged or no valid ONNX.

    Example:
        >>> report = qzoo.export("resnet8_digits_int8", "model.onnx", "openvino")
        >>> {finding.rule for finding in qzoo.lint("model.onnx", "onnxruntime").errors}
        {'signed'}
    """
    target = runtime_named(runtime)
    require("onnx_ir")
    from qzoo.runtimes.lint import lint_file

    return lint_file(Path(file), target)
