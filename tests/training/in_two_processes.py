"""What `test_two_processes.py` runs under torchrun: trainings that several processes share."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import qzoo
from qzoo.distributed import rank, world_size
from qzoo.errors import QzooError
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.recipe import Base
from qzoo.tasks.evaluate import evaluate_images
from qzoo.tasks.finetune import finetune
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.tasks.inputs.training_images import RecipeImages, recipe_images
from qzoo.training.trainer import Trainer

BASE = Base(source="qzoo", architecture="resnet8_digits")


def images(spec: FinetuneSpec) -> RecipeImages:
    return recipe_images(BASE, "digits", "train", spec)


def fresh() -> nn.Module:
    return qzoo.create("resnet8_digits_w4a4", pretrained=True)


def one_step() -> dict[str, torch.Tensor]:
    """Gradients of one step with batch norm's statistics frozen."""
    spec = FinetuneSpec(epochs=1, lr=1e-9, batch_size=64, freeze_bn_epoch=0, scales={"learn": True})  # type: ignore[arg-type]
    trainer = Trainer(fresh(), spec, 18)
    trainer.step(*next(iter(images(spec).epoch(0))))
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


@dataclass
class Scores:
    """An output that torch does not look into."""

    scores: torch.Tensor
    hidden: torch.Tensor


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.meta, self.head = nn.Conv2d(3, 8, 3), nn.Linear(2, 8), nn.Linear(8, 5)

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Scores:
        y = self.image(image).relu().mean((2, 3)) + self.meta(meta)
        return Scores(self.head(y), y)


def several_inputs() -> dict[str, torch.Tensor]:
    """Gradients of one step of a model of several inputs, whose output is a dataclass."""
    chance = torch.Generator().manual_seed(0)
    batch = {"meta": torch.randn(8, 2, generator=chance), "image": torch.randn(8, 3, 6, 6, generator=chance)}
    model = qzoo.calibrate(qzoo.quantize(TwoInputs().eval(), "int8"), [batch])
    trainer = Trainer(model, FinetuneSpec(epochs=1, lr=1e-9, batch_size=8), 1, logits="scores")
    own = slice(rank() * 8 // world_size(), (rank() + 1) * 8 // world_size())
    trainer.step({name: one[own] for name, one in batch.items()}, (torch.arange(8) % 5)[own])
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


def a_run() -> tuple[dict[str, torch.Tensor], float]:
    """Weights, ranges and statistics after two epochs, and the top-1 of the last."""
    spec = FinetuneSpec(epochs=2, lr=0.01, batch_size=64, scales={"learn": True}, ema=0.9)  # type: ignore[arg-type]
    model, judged = fresh(), evaluation_images(BASE, "digits", images=100, batch_size=30)
    report = finetune(model, images(spec), spec, evaluate_on=lambda m, _: evaluate_images(m, judged).top1)
    assert report.top1 is not None
    return model.state_dict(), report.top1


def uneven() -> str:
    try:
        images(FinetuneSpec(epochs=1, lr=0.1, batch_size=63))
    except QzooError as error:
        return str(error)
    return ""


def failures() -> dict[str, str]:
    """What each process says where the one of rank 1 alone can't go on."""
    x, y = next(iter(images(FinetuneSpec(epochs=1, lr=0.01, batch_size=64)).epoch(0)))
    of_rank_1 = {
        "not finite": (x * torch.nan, y),
        "no label": (x, torch.full_like(y, -100)),
        "no class": (x, y + 10),
        "other shape": (x.repeat(1, 3, 1, 1), y),
        "loss": (x, y),
    }
    return {name: failure(name, batch if rank() else (x, y)) for name, batch in of_rank_1.items()}


def failure(name: str, batch: tuple[torch.Tensor, torch.Tensor]) -> str:
    model = fresh()
    if rank() and name == "loss":
        model.linear.register_forward_hook(lambda layer, args, y: y * torch.nan)
    try:
        finetune(model, [batch], FinetuneSpec(epochs=1, lr=0.01, batch_size=64))
    except QzooError as error:
        return str(error)
    return ""


def main() -> None:
    dist.init_process_group("gloo")
    state, top1 = a_run()
    found: dict[str, Any] = {
        "gradients": one_step() | several_inputs(),
        "state": state,
        "top1": torch.tensor(top1),
        "uneven": uneven(),
    }
    found |= failures()
    torch.save(found, Path(sys.argv[1]) / f"{rank()}.pt")
    # Both are done. Taking the group down aborts at times, in Gloo's threads, while Python ends.
    dist.barrier()
    time.sleep(0.5)  # the other one may still be reading
    os._exit(0)


if __name__ == "__main__":
    main()
