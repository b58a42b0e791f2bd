"""`python -m benchmarks.coverage [--write] [GLOB]`: quantizes a model of every module, and says what became of it.

Models run one after the other in this process; `--write` puts the table into docs/coverage.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import sys
import time

from benchmarks.coverage import page
from benchmarks.coverage.architectures import Architecture, timm_architectures, torchvision_architectures
from benchmarks.coverage.check import Result, check
from benchmarks.coverage.whole import Whole, check_whole, networks


def main() -> int:
    """Sweeps, prints, and writes if asked to; returns 1 if a model did not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/coverage.md")
    parser.add_argument("glob", nargs="?", default="*", help="only modules and architectures of such names")
    arguments = parser.parse_args()
    if arguments.write and arguments.glob != "*":
        parser.error("--write needs the whole sweep: leave the glob out")
    results, wholes = sweep(arguments.glob), sweep_whole(arguments.glob)
    if arguments.write:
        page.PAGE.write_text(page.written(results, wholes))
    return int(any(result.failure for result in [*results, *wholes]))


def sweep(glob: str) -> list[Result]:
    """Checks the architectures whose name or module fits, and prints each as it is done."""
    start, results = time.perf_counter(), []
    chosen = [a for a in architectures() if fnmatch.fnmatch(a.name, glob) or fnmatch.fnmatch(a.module, glob)]
    for number, architecture in enumerate(chosen, 1):
        results.append(check(architecture))
        # Modules and hooks refer to each other in circles, which hold gigabytes until collected.
        gc.collect()
        print(f"[{number}/{len(chosen)}, {time.perf_counter() - start:.0f} s]", page.line(results[-1]), flush=True)
    return results


def sweep_whole(glob: str) -> list[Whole]:
    """Checks the networks of which the weights are counted, and prints each as it is done."""
    results = []
    for source, name, make in networks():
        if fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(source, glob):
            results.append(check_whole(source, name, make))
            gc.collect()
            print(page.whole_line(results[-1]), flush=True)
    return results


def architectures() -> list[Architecture]:
    """Returns what is to be swept; timm's smallest as the page has them, if it was made with this timm."""
    known = [a for a in page.read() if a.source == "timm"] if page.is_current() else []
    if not known:
        print("Looking for the smallest architecture of each timm module ...", flush=True)
    return [*(known or timm_architectures()), *torchvision_architectures()]


if __name__ == "__main__":
    sys.exit(main())
