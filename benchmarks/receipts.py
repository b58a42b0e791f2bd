"""`python -m benchmarks.receipts --data PATH [--write]`: what moves the margins of a receipt, and what does not.

For each variant the share of images whose margin moves, in float32 and in float64, when the machine changes (batch
size, threads, oneDNN off, memory format, compiler) and when the model does (one activation range, by 5%, 1% or 0.1%).
`--write` puts the table into docs/receipts.md.
"""

from __future__ import annotations

import argparse
import copy
import re
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.calibration.collecting import activation_quantizers
from qzoo.receipts.compare import EXACTLY_SAME, SAME
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.tasks.measuring.machine import cpu_name
from qzoo.training.optimizer import in_memory_format
from qzoo.zoo.name_lookup import find

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "receipts.md"
PLACES = (("resnet20_cifar10_int8", 500, ""), ("resnet20_cifar10_w4a4", 200, ""), ("resnet56_cifar10_int8", 100, ""),
          ("tf_efficientnet_lite0_int8", 40, "imagenet-mini"))  # fmt: skip
Run = Callable[[nn.Module, Tensor], Tensor]


class Row(NamedTuple):
    """Shares of images whose margin moved, least and most over the cases of a row."""

    what: str
    cases: int
    float32: tuple[float, float]
    float64: tuple[float, float]


def margins(model: nn.Module, x: Tensor, batch: int = 50) -> Tensor:
    with torch.no_grad():
        best = torch.cat([model(part) for part in x.split(batch)]).topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def compiled(model: nn.Module, x: Tensor) -> Tensor:
    torch._dynamo.reset()
    return margins(torch.compile(model), x)


def channels_last(model: nn.Module, x: Tensor) -> Tensor:
    model = in_memory_format(copy.deepcopy(model), channels_last=True)
    return margins(model, x.to(memory_format=torch.channels_last))


def two_threads(model: nn.Module, x: Tensor) -> Tensor:
    torch.set_num_threads(2)
    try:
        return margins(model, x)
    finally:
        torch.set_num_threads(1)


def without_onednn(model: nn.Module, x: Tensor) -> Tensor:
    with torch.backends.mkldnn.flags(enabled=False):
        return margins(model, x)


MACHINES: dict[str, Run] = {
    "batch size 1": lambda model, x: margins(model, x, 1),
    "2 threads": two_threads,
    "oneDNN off": without_onednn,
    "channels last": channels_last,
    "torch.compile": compiled,
}


def with_range(path: str, factor: float) -> Run:
    def run(model: nn.Module, x: Tensor) -> Tensor:
        model = copy.deepcopy(model)
        quantizer = activation_quantizers(model)[path]
        quantizer.set_amax(quantizer.amax * factor)
        return margins(model, x)

    return run


def moved(before: Tensor, after: Tensor, tolerance: float) -> float:
    return float(((after - before).abs() > tolerance * before.median()).double().mean())


def rows(name: str, images: int, data: Path) -> Iterator[Row]:
    model, x = qzoo.create(name, pretrained=True), _images(name, images, data)
    exact, exact_x = copy.deepcopy(model).double(), x.double()
    before, exact_before = margins(model, x), margins(exact, exact_x)

    def row(what: str, runs: list[Run]) -> Row:
        usual = [moved(before, run(model, x), SAME) for run in runs]
        precise = [moved(exact_before, run(exact, exact_x), EXACTLY_SAME) for run in runs]
        print(
            f"{name}, {what}: {min(usual):.3f} .. {max(usual):.3f}, {min(precise):.3f} .. {max(precise):.3f}",
            flush=True,
        )
        return Row(what, len(runs), (min(usual), max(usual)), (min(precise), max(precise)))

    yield from (row(what, [run]) for what, run in MACHINES.items())
    paths = list(activation_quantizers(model))
    few = paths if len(paths) < 30 else paths[:: len(paths) // 10]
    for percent, factors in ((5, (1.05, 0.95)), (1, (1.01,)), (0.1, (1.001,))):
        yield row(f"one range changed by {percent}%", [with_range(path, f) for path in few for f in factors])


def _images(name: str, images: int, data: Path) -> Tensor:
    variant = find(name).resolved
    some = evaluation_images(variant.base, variant.dataset, data, images=images, workers=0)
    return torch.cat([x for x, _ in some])


def table(name: str, images: int, measured: list[Row]) -> str:
    lines = ["| change | cases | moved in float32 | moved in float64 |", "|---|---:|---:|---:|"]
    lines += [f"| {one.what} | {one.cases} | {_share(one.float32)} | {_share(one.float64)} |" for one in measured]
    return "\n".join([f"**{name}**, {images} images\n", *lines])


def _share(bounds: tuple[float, float]) -> str:
    low, high = (f"{100 * value:.1f}" for value in bounds)
    return f"{low}%" if low == high else f"{low} to {high}%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with cifar10/ and imagenet-mini/")
    parser.add_argument("--write", action="store_true", help="into docs/receipts.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tables = [table(name, n, list(rows(name, n, options.data / part))) for name, n, part in PLACES]
    about = f"Measured {date.today()} on {cpu_name()}, torch {torch.__version__.partition('+')[0]}."
    text = "\n\n".join([about, *tables])
    print(text)
    if options.write:
        page = DOCUMENT.read_text()
        DOCUMENT.write_text(
            re.sub(r"(<!-- measured -->\n).*(<!-- /measured -->)", rf"\1\n{text}\n\n\2", page, flags=re.S)
        )


if __name__ == "__main__":
    main()
