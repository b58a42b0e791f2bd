"""What `test_processes.py` runs under torchrun: `qzoo`, with images that fail in the process of rank 1."""

from __future__ import annotations

import os
import sys
from typing import Any

from qzoo.cli.main import main
from qzoo.errors import DataError
from qzoo.tasks.inputs.images import Images

ERRORS = {"data": DataError("b.png is damaged. Replace it."), "bug": ZeroDivisionError("a slip")}


def fail(self: Images) -> Any:
    if kind == "killed":
        os._exit(9)
    raise ERRORS[kind]


kind = sys.argv.pop(1)
if os.environ["RANK"] == "1":
    Images.__iter__ = fail  # type: ignore[method-assign]
main()
