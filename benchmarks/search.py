"""How good searched variants are: beside uniform ones of as many bits, and predicted beside measured.

    python -m benchmarks.search bits resnet20_cifar10 --data /data
    python -m benchmarks.search rank resnet20_cifar10 --data /data

Prints tables for docs/search.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.stats import spearmanr

from qzoo.cli.terminal.progress_bar import bar
from qzoo.commands.search import looked_at, starting_variant
from qzoo.commands.settings import Settings
from qzoo.models.bases import create_base
from qzoo.report.markdown import table
from qzoo.results.search import SearchPoint
from qzoo.schema.candidates import USUAL, candidates
from qzoo.tasks.evaluate import Evaluation, evaluate_images, flips_between
from qzoo.tasks.search import space_of_question
from qzoo.tasks.searching.curve import point_of
from qzoo.tasks.searching.measured import paired_interval
from qzoo.tasks.searching.question import Question
from qzoo.tasks.searching.run import Search
from qzoo.tasks.searching.scoring import losses_of
from qzoo.zoo.name_lookup import find

BITS = (3, 4, 5, 6)
ASSIGNMENTS = 50


def prepared(name: str, settings: Settings, score_images: int) -> Search:
    """Returns a search that was asked nothing yet."""
    start = starting_variant(find(name), None)
    images = looked_at(start, settings, score_images)
    question = Question({"bits": 4.0}, candidates(USUAL), score_images=score_images)
    float_model = create_base(start.base, pretrained=True)
    space = space_of_question(float_model, start.resolved, images, question, bar)
    return Search(space, images, question, None, None, bar)


def beside_uniform(search: Search) -> Iterator[str]:
    """Yields a row for each number of bits: the searched variant beside the uniform one."""
    float_model = search.space.solved.float_model
    images = search.images.evaluation
    labels, of_float = images.labels, evaluate_images(float_model, images, progress=bar, what="float")

    def evaluated(point: SearchPoint) -> Evaluation:
        return evaluate_images(search.made(point), images, progress=bar, what=point.name)

    with search.scoring() as (problem, batches):
        for bits in BITS:
            choice = search.best(problem, {"bits": float(bits)}, batches)
            name = f"w{bits}a8"
            uniform = evaluated(point_of(problem, problem.plain(dict.fromkeys(problem.groups, name)), name))
            found = evaluated(point_of(problem, choice, f"searched, {bits} bits"))
            flips = flips_between(found, uniform, labels)
            low, high = paired_interval(flips.lost, flips.gained, len(labels))
            gain = 100 * (flips.lost - flips.gained) / len(labels)
            yield (
                f"| {bits} | {uniform.top1:.2f} | {found.top1:.2f} | {gain:+.2f} | {low:+.2f} to {high:+.2f} | "
                f"{uniform.agreement(of_float):.1f} | {found.agreement(of_float):.1f} |"
            )


def rank_correlation(search: Search) -> str:
    """Returns how predicted losses of random assignments go with drops and losses that are measured."""
    dice = random.Random(0)
    with search.scoring() as (problem, batches):
        points = [
            point_of(problem, {g: dice.choice(list(problem.loss[g])) for g in problem.groups}, str(n))
            for n in range(ASSIGNMENTS)
        ]
        points = search.measure(points)
        mixture = search.space.mixture
        with torch.no_grad():
            losses = losses_of(mixture, [one.choice for one in points], batches, None, bar, "losses of assignments")
    drops, flips = [point.lost for point in points], [-(point.agreement or 0.0) for point in points]
    rows = [["predicted", "drop", "agreement", "loss"]]
    for what in ("predicted_deviation", "predicted_loss"):
        predicted = [getattr(point, what) for point in points]
        ranks = (spearmanr(predicted, measured).statistic for measured in (drops, flips, losses))
        rows.append([what.replace("_", " "), *(f"{rank:.3f}" for rank in ranks)])
    head = (
        f"Spearman's rank correlation with what {ASSIGNMENTS} random assignments were measured to be, drops of "
        f"{min(drops):.1f} to {max(drops):.1f} points:\n\n"
    )
    return head + table(rows[0], rows[1:])


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["bits", "rank"])
    parser.add_argument("name")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--eval-images", type=int)
    parser.add_argument("--score-images", type=int, default=128)
    said = parser.parse_args()
    settings = Settings(said.data, eval_images=said.eval_images)
    search = prepared(said.name, settings, said.score_images)
    if said.what == "rank":
        print(rank_correlation(search))
        return
    print("| bits | uniform | searched | gain | 95 % | same as float: uniform | searched |")
    print("|---:|---:|---:|---:|---|---:|---:|")
    for row in beside_uniform(search):
        print(row, flush=True)


if __name__ == "__main__":
    main()
