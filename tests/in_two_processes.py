"""What `test_distributed.py` runs under torchrun: scenarios with a group that the script makes, as a user's would.

Each process writes what it got, a value or an error, as JSON into the folder that is named.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import qzoo
from qzoo import distributed
from qzoo.commands.evaluate import evaluate_named
from qzoo.commands.settings import Settings
from qzoo.quant.calibration.collecting import Collection, solve_ranges
from qzoo.quant.calibration.collectors import HistogramCollector, MaxCollector
from qzoo.quant.ranges import get_ranges
from qzoo.tasks.calibrate import collect_images, reduce_collection
from qzoo.tasks.evaluate import evaluate
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.zoo.name_lookup import find

IMAGES = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
BATCHES = list(IMAGES.split(13))
LOGITS = torch.randn(30, 7, generator=torch.Generator().manual_seed(2))
LABELS = torch.arange(30) % 7


def ranges(variant: str, batches: Any) -> dict[str, Any]:
    model = qzoo.calibrate(qzoo.create(f"resnet8_digits_{variant}", "float"), batches)
    return {key: value.tolist() for key, value in get_ranges(model).items()}


def recipe_ranges(binning: str) -> dict[str, Any]:
    recipe = qzoo.recipe("resnet8_digits")
    images = calibration_images(recipe.base, recipe.dataset, recipe.calibration, batch_size=100)
    model = qzoo.create("resnet8_digits_int8_entropy", "float")
    solve_ranges(model, collect_images(model, images, binning=binning))
    return {key: value.tolist() for key, value in get_ranges(model).items()}


def named(**changes: int) -> list[Any]:
    result = evaluate_named(find("resnet8_digits_int8"), Settings(**changes))  # type: ignore[arg-type]
    return [result.top1, result.top5, result.images, result.predictions.tolist()]


def accuracy(images: Any) -> list[Any]:
    result = evaluate(nn.Identity(), images)
    return [result.top1, result.top5, result.images, result.predictions.tolist()]


def failing(error: Exception, first: Tensor = IMAGES) -> Iterator[Tensor]:
    yield first
    raise error


def merges_as_one_process_collects(seed: int, rank: int, world: int) -> bool:
    dice = np.random.default_rng(seed)
    parts = [draw(dice) for _ in range(world)]
    merged, whole = collected([parts[rank]]), collected(parts)
    reduce_collection(merged)
    one, other = merged["histogram"].histogram(), whole["histogram"].histogram()  # type: ignore[union-attr]
    same = torch.equal(one.counts, other.counts) and torch.equal(one.edges, other.edges)
    sides = [seen["two-sided"].histogram().negatives for seen in (merged, whole)]  # type: ignore[union-attr]
    same = same and torch.equal(*sides)
    extremes = all(merged[k].amin == whole[k].amin and merged[k].amax == whole[k].amax for k in ("max", "histogram"))
    return same and extremes and one.total == sum(len(part) for part in parts)


def draw(dice: np.random.Generator) -> Tensor:
    scale = dice.choice([1e-40, 1e-3, 1.0, 1e4, 3e38])
    return torch.from_numpy((dice.uniform(-1, 1, dice.integers(0, 50)) * scale).astype(np.float32))


def collected(parts: list[Tensor]) -> Collection:
    collection: Collection = {"max": MaxCollector(), "histogram": HistogramCollector()}
    collection["two-sided"] = HistogramCollector(two_sided=True)
    for seen in collection.values():
        for part in parts:
            seen.collect(part)
    return collection


def scenarios(rank: int, world: int) -> dict[str, Any]:
    mine = BATCHES[rank::world]
    broken = [torch.full((2, 1, 8, 8), torch.nan)] if rank == 1 else mine
    labelled = list(zip(LOGITS.split(7), LABELS.split(7), strict=True))
    return {
        **{f"ranges {v}": lambda v=v: ranges(v, mine) for v in ("int8", "int8_max", "int8_mse", "int8_entropy")},
        "ranges idle": lambda: ranges("int8", [] if rank else BATCHES),
        "no images": lambda: ranges("int8", []),
        "NaN": lambda: ranges("int8", broken),
        "bad item": lambda: ranges("int8", ["a.png"] if rank == 1 else mine),
        "bug": lambda: ranges("int8", failing(ZeroDivisionError("a slip")) if rank == 1 else mine),
        "failing both": lambda: ranges("int8", [rank]),
        "bad item in evaluate": lambda: accuracy(failing(OSError("disk gone"), LOGITS) if rank == 1 else LOGITS),
        "reference": lambda: qzoo.calibrate(qzoo.create("resnet8_digits_int8", "float"), mine, binning="reference"),
        "different models": lambda: ranges("int8_max" if rank else "int8", mine),
        "recipe aligned": lambda: recipe_ranges("aligned"),
        "recipe reference": lambda: recipe_ranges("reference"),
        "accuracy": lambda: accuracy(labelled[rank::world]),
        "accuracy idle": lambda: accuracy([] if rank == 0 else labelled),
        "labels here only": lambda: accuracy([LOGITS] if rank else labelled),
        "nothing to evaluate": lambda: accuracy([]),
        "named": lambda: named(batch_size=97),
        "named fewer batches": lambda: named(eval_images=50),
        "merging": lambda: [merges_as_one_process_collects(seed, rank, world) for seed in range(60)],
        "one GPU for all": lambda: str(distributed.own_device(torch.device("cuda:1"))),
        "no GPU left": lambda: str(distributed.own_device(torch.device("cuda"))),
    }


def outcome(scenario: Any) -> Any:
    try:
        return scenario()
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error), "known": getattr(error, "known", None)}


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.cuda.device_count = lambda: 0
    results = {name: outcome(scenario) for name, scenario in scenarios(rank, world).items()}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    # Both are done. Taking the group down aborts at times, in Gloo's threads, while Python ends.
    dist.barrier()
    time.sleep(0.5)  # the other one may still be reading
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
