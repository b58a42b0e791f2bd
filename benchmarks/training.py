"""`python -m benchmarks.training [--write]`: what quantizers add to a training step. docs/benchmarks.md gets it.

The steps of the float model and of two quantized ones are measured in turn, each after steps of its own that are not
measured: a loop of steps finds its memory mapped.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import timm
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from benchmarks.document import asked_to_write, publish, where
from qzoo.report.markdown import table
from qzoo.schema.finetune import FinetuneSpec, Scales
from qzoo.training.trainer import Trainer

BATCH, THREADS, ROUNDS, SETTLING, LIMIT = 16, 2, 5, 2, "1.20"
HEADINGS = ["model", ">float step", ">fixed ranges / float", ">learned ranges / float", ">at most"]
MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": torchvision.models.resnet50,
    "tf_efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
}


def trainers(make: Callable[[], nn.Module], x: Tensor) -> dict[str, Trainer]:
    """Returns trainers of the float model and of its int8 variants."""
    torch.manual_seed(0)
    float_model = make().eval()
    quantized = qzoo.calibrate(qzoo.quantize(float_model, "int8"), [x])
    models = {"float": (float_model, False), "fixed": (copy.deepcopy(quantized), False), "learned": (quantized, True)}
    return {
        name: Trainer(model, FinetuneSpec(epochs=1, lr=1e-5, scales=Scales(learn=learn)), 1_000, x)
        for name, (model, learn) in models.items()
    }


def seconds(trainer: Trainer, x: Tensor, y: Tensor) -> float:
    """Returns the time of a step in a loop of steps."""
    for _ in range(SETTLING):
        trainer.step(x, y)
    start = time.perf_counter()
    trainer.step(x, y)
    return time.perf_counter() - start


def rows() -> Iterator[list[str]]:
    """Yields the rows of the table."""
    x, y = torch.randn(BATCH, 3, 224, 224), torch.randint(0, 1000, (BATCH,))
    for name, make in MODELS.items():
        made = trainers(make, x)
        times = [{kind: seconds(trainer, x, y) for kind, trainer in made.items()} for _ in range(ROUNDS)]
        ratios = [statistics.median(one[kind] / one["float"] for one in times) for kind in ("fixed", "learned")]
        base = statistics.median(one["float"] for one in times)
        yield [name, f"{base:.2f} s", *(f"{ratio:.3f}" for ratio in ratios), LIMIT]


def main() -> None:
    """Measures, prints, and writes if asked to."""
    write = asked_to_write("benchmarks.training")
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    measured = table(HEADINGS, list(rows()))
    publish("training", f"{measured}\n\nMedian of {ROUNDS} rounds. {where(THREADS)}, batches of {BATCH}.", write)


if __name__ == "__main__":
    main()
