"""`python -m benchmarks.last_use [--write]`: what writing gradients over quantized values brings in a training step.

`qzoo.quant.backward.is_last_use` asks torch for what only private names tell. The same step is measured with it and
without it, in turn.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor

from benchmarks.document import asked_to_write, publish, where
from benchmarks.training import MODELS, THREADS, trainers
from qzoo.quant import backward
from qzoo.report.markdown import table
from qzoo.training.trainer import Trainer

BATCH, ROUNDS = 16, 5
HEADINGS = ["model", "ranges", ">step", ">without it / with it"]


def seconds(trainer: Trainer, x: Tensor, y: Tensor, *, private: bool) -> float:
    """Returns the time of a step, after one that is not measured."""
    holders = backward._HOLDERS if private else None
    with mock.patch.object(backward, "_HOLDERS", holders):
        trainer.step(x, y)
        start = time.perf_counter()
        trainer.step(x, y)
        return time.perf_counter() - start


def rows(name: str) -> Iterator[list[str]]:
    """Yields the rows of a model."""
    x, y = torch.randn(BATCH, 3, 224, 224), torch.randint(0, 1000, (BATCH,))
    made = trainers(MODELS[name], x)
    for kind in ("fixed", "learned"):
        times = [[seconds(made[kind], x, y, private=private) for private in (False, True)] for _ in range(ROUNDS)]
        ratio = statistics.median(without / with_it for without, with_it in times)
        step = statistics.median(with_it for _, with_it in times)
        yield [name, kind, f"{step:.2f} s", f"{ratio:.3f}"]


def main() -> None:
    """Measures, prints, and writes if asked to."""
    write = asked_to_write("benchmarks.last_use")
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    measured = table(HEADINGS, list(rows("tf_efficientnet_lite0")))
    publish("last-use", f"{measured}\n\nMedian of {ROUNDS} rounds. {where(THREADS)}, batches of {BATCH}.", write)


if __name__ == "__main__":
    main()
