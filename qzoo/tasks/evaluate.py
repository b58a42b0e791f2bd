"""Accuracy on batches of images, and two models compared image by image.

Paired figures say more than two accuracies do: on a thousand images these are known to a point or two, but images
that both models judge alike cancel out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qzoo.arguments import checked
from qzoo.distributed import failing_together, gathered_rows, named_by_process, rank, world_size
from qzoo.errors import DataError
from qzoo.models.provenance import ranges_from
from qzoo.progress import Progress, silent
from qzoo.quant.eval_mode import device_of
from qzoo.quant.outputs import Logits
from qzoo.quant.ranges import quantizers, require_calibrated
from qzoo.results.readable import Readable
from qzoo.schema.calibration import Source
from qzoo.tasks.inputs.batches import ToInputs, as_batches
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.measuring.running import Runner, checked_logits, measuring
from qzoo.weights.receipt import TOP, Predictions

LARGEST = torch.finfo(torch.float32).max
"""What a margin is at most: receipts hold it as float32."""


@dataclass(frozen=True, repr=False)
class Evaluation(Readable):
    """What a model made of some images.

    Attributes:
        images: how many.
        top1: share of images whose label is the first prediction, in percent; None without labels.
        top5: share whose label is among the first five (or all, if there are fewer classes), in percent.
        predicted: the likeliest classes of each image, and the margin of the first.
        seconds: wall time.
        ranges_from: what the ranges of a quantized model were made from; None for a float one.
    """

    also_shown: ClassVar[tuple[str, ...]] = ("ci95",)

    images: int
    top1: float | None
    top5: float | None
    predicted: Predictions
    seconds: float
    ranges_from: Source | None = None

    @property
    def predictions(self) -> Tensor:
        """The first prediction for each image, int64 `(images,)`."""
        return self.predicted.top[:, 0]

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The 95% confidence interval of top-1, in percent."""
        return None if self.top1 is None else wilson_interval(round(self.top1 * self.images / 100), self.images)

    def agreement(self, other: Evaluation) -> float:
        """Returns the share of images with the same first prediction, in percent."""
        if self.images != other.images:
            raise ValueError(f"evaluations of {self.images} and {other.images} images can't be compared")
        return 100 * int((self.predictions == other.predictions).sum()) / self.images


@checked
def evaluate(
    model: nn.Module,
    images: Any,
    *,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    progress: Progress = silent,
    count: int | None = None,
    what: str = "evaluating",
) -> Evaluation:
    """Returns the accuracy of a model on images.

    In a script that made a `torch.distributed` group, every process has to call this, each with its own share of the
    images, or none. The accuracy is that of all shares together; predictions stand one process after the other. A
    `DistributedSampler` repeats images to make shares equal, and these would count twice.

    Args:
        model: float or quantized; runs in evaluation mode, without gradients. `qzoo.evaluate` takes the name of a
            variant too, and then, without images, those that the recipe is measured on.
        images: batches, transformed: `x`, `(x, y)`, `((x, x2), y)` or a dict, see docs/batches.md.
        to_inputs: a function that makes such a batch of an item of `images`, whatever it is.
        logits: which of the model's outputs they are: the name of one, or a function that makes them of the output.
            Default: the only one, or that called `logits`.
        progress: shown the batches.
        count: how many images there are, for the progress.
        what: words for the progress.

    Raises:
        NotCalibratedError: a quantizer has no range.
        DataError: there are no images, the model gives NaN, or several outputs of which none is known as the logits.
        PeerError: another process failed.

    Example:
        >>> round(qzoo.evaluate("resnet8_digits_int8").top1, 2)
        99.33
    """
    start = time.perf_counter()
    with failing_together(), measuring(model):
        require_calibrated(model, "evaluate")
        batches = progress(as_batches(images, device_of(model), to_inputs), count, named_by_process(what))
        runner = Runner(model)
        parts = [prediction_rows(checked_logits(runner(batch), batch, logits), batch.labels).cpu() for batch in batches]
        rows = gathered_rows(torch.cat([torch.empty(0, 2 + TOP, dtype=torch.float64), *parts]))
        found = _summary(rows, time.perf_counter() - start)
        return replace(found, ranges_from=ranges_from(model) if quantizers(model) else None)


def evaluate_images(
    model: nn.Module, images: Images, *, progress: Progress = silent, what: str = "evaluating"
) -> Evaluation:
    """Returns the accuracy of a model on a recipe's images, of which each process takes its share.

    Predictions stand in the order of the images, however many processes there are.
    """
    world = world_size()
    share = images.shard(rank(), world)
    result = evaluate(model, share, progress=progress, count=len(share), what=what)
    places = torch.tensor([place for one in range(world) for place in images.places(one, world)])
    return replace(result, predicted=result.predicted.at(places.argsort()))


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Returns the 95% confidence interval of a share, in percent.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Example:
        >>> wilson_interval(9173, 10000)
        (91.17, 92.25)
    """
    from scipy.stats import binomtest  # takes half a second, and only reports need it

    interval = binomtest(hits, trials).proportion_ci(method="wilson")
    return round(100 * float(interval.low), 2), round(100 * float(interval.high), 2)


def prediction_rows(logits: Tensor, labels: Tensor | None) -> Tensor:
    """Returns a row for each image, float64 `(images, 7)`: label, margin, and the five likeliest classes.

    Of equal logits the class that comes first is the likelier one, as `argmax` has it in torch, NumPy and ONNX. The
    margin is by how much the largest logit exceeds the second, 0 for a single class, and the largest float32 where
    the second is -Inf. -1 stands for a label that is not known, and for classes that are not there.

    Args:
        logits: the result of `checked_logits`.
        labels: int64 `(images,)`, or None.
    """
    values, classes = logits.sort(dim=1, descending=True, stable=True)
    rows = logits.new_full((len(logits), 2 + TOP), -1, dtype=torch.float64)
    rows[:, 0] = -1 if labels is None else labels
    rows[:, 1] = (values[:, 0].double() - values[:, 1]).clamp(max=LARGEST) if logits.shape[1] > 1 else 0
    rows[:, 2 : 2 + min(TOP, logits.shape[1])] = classes[:, :TOP]
    return rows


def _summary(rows: Tensor, seconds: float) -> Evaluation:
    if not len(rows):
        raise DataError("There are no images to evaluate on.")
    labels, classes = rows[:, 0].long(), rows[:, 2:].long()
    top = classes[:, classes[0] >= 0]
    predicted = Predictions(top, rows[:, 1].float())
    labelled = int((labels >= 0).sum())
    if not labelled:
        return Evaluation(len(rows), None, None, predicted, seconds)
    if labelled != len(rows):
        raise DataError(
            f"Only {labelled} of {len(rows)} images have labels. Give (x, y) for all batches, or x for all."
        )
    hits = top == labels.unsqueeze(1)
    # Four digits tell any two counts apart, and print the same everywhere.
    top1, top5 = (round(100 * float(hit.double().mean()), 4) for hit in (hits[:, 0], hits.any(1)))
    return Evaluation(len(rows), top1, top5, predicted, seconds)


@dataclass(frozen=True)
class Flips:
    """The images that two models judge differently.

    Attributes:
        lost: the first model is right, the second wrong.
        gained: the first model is wrong, the second right.
    """

    lost: int
    gained: int

    @property
    def mcnemar_p(self) -> float:
        """The chance of flips at least as uneven, if losing and gaining an image were equally likely."""
        return mcnemar(self.lost, self.gained)


def flips_between(first: Evaluation, second: Evaluation, labels: Tensor) -> Flips:
    """Returns the flips from one model to another.

    Args:
        first: the evaluation of the float model, say.
        second: the evaluation of the quantized model, on the same images in the same order.
        labels: int64 `(images,)`, of these images.

    Raises:
        ValueError: the numbers of images differ.
    """
    if not first.images == second.images == len(labels):
        raise ValueError(f"{first.images} and {second.images} predictions and {len(labels)} labels can't be compared")
    was_right, is_right = first.predictions == labels, second.predictions == labels
    return Flips(int((was_right & ~is_right).sum()), int((~was_right & is_right).sum()))


def mcnemar(lost: int, gained: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    Under the hypothesis each flip is a fair coin, so `p = min(1, 2 * P(B <= min(lost, gained)))` with B binomial of
    `lost + gained` flips.

    Source: Q. McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, with the binomial distribution in place of its normal approximation.

    Example:
        >>> mcnemar(5, 3)
        0.7265625
    """
    from scipy.stats import binomtest  # takes half a second, and only reports need it

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
