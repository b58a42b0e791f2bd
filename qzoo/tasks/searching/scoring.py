"""What each candidate does to each group of layers alone: the divergence of the predictions, by replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qzoo.errors import DataError
from qzoo.progress import Progress
from qzoo.quant.inputs import batch_size
from qzoo.quant.outputs import Logits
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.inputs.batches import Batch
from qzoo.tasks.inputs.kept_batches import KeptBatches
from qzoo.tasks.measuring.replay import Replay
from qzoo.tasks.measuring.running import checked_logits
from qzoo.tasks.searching.mixture import Choice, Mixture


@dataclass
class Scores:
    """Sums over images, so that a search that was interrupted goes on where it was.

    Attributes:
        batches: how many were scored.
        images: how many images these held.
        sums: by group, then by candidate: the divergences of all images added up, in nats.
    """

    batches: int = 0
    images: int = 0
    sums: dict[str, dict[str, float]] = field(default_factory=dict)

    def losses(self) -> dict[str, dict[str, float]]:
        """Returns the mean divergence by group and candidate."""
        return {
            group: {name: total / self.images for name, total in of_group.items()}
            for group, of_group in self.sums.items()
        }


def divergence(logits: Tensor, reference: Tensor) -> float:
    """Returns the Kullback-Leibler divergence of predictions from the float model's, added up over images, in nats.

    `sum over classes of p (log p - log q)`, with p the float model's probabilities; a class that it never predicts
    adds nothing.

    Source: S. Kullback and R. A. Leibler 1951, "On information and sufficiency".

    Args:
        logits: float `(N, classes)`, of the quantized model.
        reference: those of the float model.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> round(divergence(logits, torch.tensor([[0.0, 3.0]]).log()), 4)
        0.6931
    """
    log_p, log_q = reference.double().log_softmax(1), logits.double().log_softmax(1)
    p = log_p.exp()
    return float(torch.where(p > 0, p * (log_p - log_q), 0).sum())


def score(
    mixture: Mixture, batches: KeptBatches, scores: Scores, logits: Logits, progress: Progress,
    keep: Callable[[Scores], None],
) -> Scores:  # fmt: skip
    """Returns the scores of all groups and candidates, from those that are known on.

    Each candidate is put into one group of the float model, and what runs before the group is not computed again.

    Args:
        mixture: in evaluation mode, without gradients.
        batches: images.
        scores: of the first batches; changed in place.
        logits: which of the model's outputs they are.
        progress: shown the runs.
        keep: is given the scores after each batch.

    Raises:
        DataError: the model gives NaN for some batch.
    """
    replay = Replay(mixture.model)
    same = {group.name: mixture.different(group) for group in mixture.groups}
    runs = sum(len(set(of_group.values())) for of_group in same.values()) + 1

    def scored() -> Iterator[Batch]:
        for position, inputs in enumerate(batches):
            batch = Batch(inputs, None, position)
            if position >= scores.batches:
                yield from _score_batch(mixture, replay, batch, same, scores, logits)
                scores.batches, scores.images = position + 1, scores.images + batch_size(inputs)
                keep(scores)

    mixture.leave_in_float()
    left = max(batches.images - scores.images, 0)
    with replay.installed():
        for _ in progress(scored(), left * runs, "scoring each layer"):
            pass
    return scores


def _score_batch(
    mixture: Mixture, replay: Replay, batch: Batch, same: Mapping[str, Mapping[str, str]], scores: Scores,
    logits: Logits,
) -> Iterator[Batch]:  # fmt: skip
    reference = checked_logits(replay.record(batch.inputs), batch, logits)
    yield batch
    for group in mixture.groups:
        found = {}
        for name in dict.fromkeys(same[group.name].values()):
            mixture.choose({group.name: name})
            output = checked_logits(replay.rerun(batch.inputs, group.modules), batch, logits)
            found[name] = divergence(output, reference)
            yield batch
        mixture.choose({group.name: FLOAT})
        sums = scores.sums.setdefault(group.name, dict.fromkeys(mixture.names(), 0.0))
        for name, first in same[group.name].items():
            sums[name] += found[first]


def losses_of(
    mixture: Mixture, choices: list[Choice], batches: KeptBatches, logits: Logits, progress: Progress, what: str
) -> list[float]:
    """Returns the mean divergence of whole choices from the float model, in nats.

    The first is recorded, and of every other what runs before the first group that differs is not computed again.

    Args:
        mixture: as for `score`; groups are left with the first choice.
        choices: complete.
        batches: images.
        logits: which of the model's outputs they are.
        progress: shown the runs.
        what: words for the progress.
    """
    replay, sums = Replay(mixture.model), [0.0] * len(choices)

    def runs() -> Iterator[Batch]:
        for position, inputs in enumerate(batches):
            batch = Batch(inputs, None, position)
            mixture.leave_in_float()
            reference = checked_logits(replay.record(inputs), batch, logits)
            mixture.choose_all(choices[0])
            sums[0] += divergence(checked_logits(replay.record(inputs), batch, logits), reference)
            yield batch
            for place, choice in enumerate(choices[1:], 1):
                moved = [group for group in mixture.groups if choice[group.name] != choices[0][group.name]]
                mixture.choose(choice)
                changed = set[Any]().union(*(group.modules for group in moved))
                output = checked_logits(replay.rerun(inputs, changed), batch, logits)
                sums[place] += divergence(output, reference)
                mixture.choose(choices[0])
                yield batch

    with replay.installed():
        for _ in progress(runs(), batches.images * len(choices), what):
            pass
    if not batches.images:
        raise DataError("There are no images to search on.")
    return [total / batches.images for total in sums]
