"""`python -m benchmarks.low_bits.zero_points [--write]`: what zero points bring, as a table of docs/low-bits.md.

How far the logits of `int8` and of `int8_asym` lie from those of the float model: of nets whose activations are hardly
ever negative, with random weights, and of a small one that is trained on CIFAR-10 here, from `QZOO_DATA`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from benchmarks.document import publish, where
from qzoo.data.lookup import open_split
from qzoo.report.markdown import table

PAGE, THREADS, SCHEMES = "low-bits.md", 1, ("int8", "int8_asym")
SEEN, FRESH, SIZE = 32, 96, 96
EPOCHS, BATCH, LR = 2, 128, 2e-3
HEADINGS = ["net", "weights", ">int8, dB", ">int8_asym, dB", ">gain, dB", ">in sum, dB", ">top-1: float, int8, asym"]


class Net(NamedTuple):
    """A float net, images to calibrate on, and others, with labels where it knows them."""

    module: nn.Module
    weights: str
    seen: Tensor
    fresh: Tensor
    labels: Tensor | None = None


def sqnr(reference: Tensor, found: Tensor) -> float:
    """Returns by how much logits exceed their error, in dB."""
    return float(10 * torch.log10(reference.square().sum() / (reference - found).square().sum()))


def random(module: nn.Module) -> Net:
    """Returns a net of random weights, with statistics of batch norm as a trained one has them, of random images."""
    images = torch.randn(SEEN + FRESH, 3, SIZE // 8, SIZE // 8)
    images = F.interpolate(images, size=SIZE, mode="bicubic") + 0.5 * torch.randn(SEEN + FRESH, 3, SIZE, SIZE)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the mean of all batches
    module.train()(images[:SEEN])
    return Net(module.eval(), "random", images[:SEEN], images[SEEN:])


def small() -> nn.Module:
    """Returns a net of four convolutions, with SiLU and hardswish."""
    layers: list[nn.Module] = []
    sizes, activations = (3, 16, 32, 64, 64), (nn.SiLU(), nn.Hardswish(), nn.SiLU(), nn.Hardswish())
    for place, activation in enumerate(activations):
        before, size = sizes[place : place + 2]
        layers += [nn.Conv2d(before, size, 3, 1 if place == 0 else 2, 1, bias=False), nn.BatchNorm2d(size), activation]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def split(name: str) -> tuple[Tensor, Tensor]:
    """Returns the images of a split of CIFAR-10 and their labels."""
    found = open_split("cifar10", name)
    return found.batch(range(len(found)), qzoo.transform("resnet20_cifar10")), found.labels


def trained() -> Net:
    """Returns a small net that a few epochs of CIFAR-10 have taught."""
    net, (x, y), (test, labels) = small(), split("train"), split("test")
    steps = EPOCHS * len(x) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    for step in range(steps):
        rows = torch.randint(len(x), (BATCH,))
        images = x[rows].flip(3) if step % 2 else x[rows]
        F.cross_entropy(net(images), y[rows]).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return Net(net.eval(), f"CIFAR-10, {EPOCHS} epochs", x[:1024], test, labels)


@torch.no_grad()
def cells(name: str, net: Net) -> list[str]:
    """Returns the row of a net; dB are of its images' median, and of all together."""
    reference = net.module(net.fresh)
    found = {scheme: qzoo.calibrate(qzoo.quantize(net.module, scheme), net.seen)(net.fresh) for scheme in SCHEMES}
    each, together = (
        [measure(logits) for logits in found.values()]
        for measure in (
            lambda logits: median(map(sqnr, reference, logits)),
            lambda logits: sqnr(reference, logits),
        )
    )
    right = (
        [] if net.labels is None else [float((y.argmax(1) == net.labels).sum()) for y in (reference, *found.values())]
    )
    top1 = ", ".join(f"{100 * one / len(reference):.2f}" for one in right)
    gains = (f"{asymmetric - symmetric:+.1f}" for symmetric, asymmetric in (each, together))
    return [name, net.weights, *(f"{one:.1f}" for one in each), *gains, top1]


def rows() -> Iterator[list[str]]:
    """Yields the rows of the table."""
    torch.manual_seed(0)
    yield cells("four convolutions", trained())
    yield cells("mobilenet_v3_small", random(torchvision.models.mobilenet_v3_small()))
    for name in ("efficientnet_b0", "mobilenetv3_large_100"):
        yield cells(name, random(timm.create_model(name)))


def main() -> None:
    """Measures, prints, and writes if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_bits.zero_points")
    parser.add_argument("--write", action="store_true", help=f"put the result into docs/{PAGE}")
    write = parser.parse_args().write
    torch.set_num_threads(THREADS)
    publish("zero points", f"{table(HEADINGS, list(rows()))}\n\n{where(THREADS)}.", write, PAGE)


if __name__ == "__main__":
    main()
