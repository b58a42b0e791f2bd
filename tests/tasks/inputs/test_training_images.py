"""Which images a step sees: decided by seed and epoch alone, each once, shared among processes without overlap."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from qzoo.errors import DataError
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.recipe import Base
from qzoo.tasks.inputs import training_images
from qzoo.tasks.inputs.training_images import GivenImages, RecipeImages, recipe_images

BASE = Base(source="qzoo", architecture="resnet8_digits")


def made(images: int | None = None, workers: int = 0, **fields: Any) -> RecipeImages:
    spec = FinetuneSpec.model_validate({"epochs": 2, "lr": 0.1, "batch_size": 64} | fields)
    return recipe_images(BASE, "digits", "train", spec, images=images, workers=workers)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 100), batch=st.integers(1, 300), images=st.integers(300, 900)
)
def test_an_epoch_sees_each_image_once_but_for_those_that_fill_no_batch(
    seed: int, epoch: int, batch: int, images: int
) -> None:
    one = made(images, seed=seed, batch_size=batch)
    order = one.order(epoch)
    assert len(set(order)) == len(order) == one.images == one.steps * batch
    assert set(order) <= set(one.indices)
    assert len(one.indices) - one.images < batch
    assert order == made(images, seed=seed, batch_size=batch).order(epoch)
    assert order != one.order(epoch + 1)


def test_the_order_is_the_same_on_every_machine() -> None:
    # Of this seed, for good: a checkpoint made elsewhere goes on with the same images.
    assert made(seed=3).order(1)[:8] == [122, 323, 1046, 355, 878, 123, 707, 133]


def test_what_is_left_of_an_epoch_is_its_end() -> None:
    one = made(200)
    whole = list(one.epoch(0))
    assert [len(y) for _, y in whole] == [64, 64, 64]
    for first in range(4):
        rest = list(one.epoch(0, first))
        assert len(rest) == 3 - first
        for (x, y), (expected, labels) in zip(rest, whole[first:], strict=True):
            assert torch.equal(x, expected)
            assert torch.equal(y, labels)


def test_augmentation_differs_from_epoch_to_epoch_and_not_between_runs(data_root: Any) -> None:
    base = Base(source="qzoo", architecture="resnet20_cifar10")
    spec = FinetuneSpec(epochs=2, lr=0.1, batch_size=8)

    def pixels(epoch: int, workers: int, **fields: Any) -> tuple[list[int], Tensor]:
        one = recipe_images(
            base, "cifar10", "train", spec.model_copy(update=fields), data_root, images=16, workers=workers
        )
        order = sorted(range(16), key=one.order(epoch).__getitem__)
        return sorted(one.order(epoch)), torch.cat([x for x, _ in one.epoch(epoch)])[order]

    images, first = pixels(0, 0)
    assert torch.equal(pixels(0, 2)[1], first), "decoding in other processes changes no pixel"
    again, second = pixels(1, 0)
    assert again == images
    assert not torch.equal(second, first)
    plain = pixels(0, 0, transform="eval")[1]
    assert torch.equal(pixels(1, 0, transform="eval")[1], plain)
    assert not torch.equal(plain, first)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_are_disjoint_and_together_the_batch(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(200)
    whole = list(one.epoch(0))
    monkeypatch.setattr(training_images, "world_size", lambda: processes)
    shares = []
    for process in range(processes):
        monkeypatch.setattr(training_images, "rank", lambda process=process: process)
        shares.append(list(one.epoch(0)))
    for step, (x, y) in enumerate(whole):
        assert all(len(share[step][1]) == 64 // processes for share in shares)
        assert torch.equal(torch.cat([share[step][0] for share in shares]), x)
        assert torch.equal(torch.cat([share[step][1] for share in shares]), y)


def test_the_split_that_accuracy_is_measured_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"Training on 'test', the split that accuracy is measured on.* --data"):
        recipe_images(BASE, "digits", "test", FinetuneSpec(epochs=1, lr=0.1))


def test_a_batch_larger_than_the_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"A batch of 64 images is requested, .* only 10 to .*--batch-size 10 or"):
        made(10)


@pytest.mark.parametrize(("processes", "advice"), [(3, 63), (100, 100)])
def test_a_batch_that_can_not_be_shared_is_refused(
    processes: int, advice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_images, "world_size", lambda: processes)
    with pytest.raises(DataError, match=rf"{processes} processes can't share a batch of 64 .*--batch-size {advice}:"):
        made()


PAIRS = [(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))] * 3


def test_a_list_of_batches_is_an_epoch() -> None:
    images = GivenImages(PAIRS)
    assert (images.steps, images.images) == (3, 12)
    assert [len(list(images.epoch(0, first))) for first in range(4)] == [3, 2, 1, 0]


def test_a_sampler_is_told_the_epoch() -> None:
    dataset = TensorDataset(torch.arange(8.0).view(8, 1), torch.arange(8))
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, num_replicas=2, rank=0, seed=1)
    images = GivenImages(DataLoader(dataset, 4, sampler=sampler))
    first, second, again = (next(images.epoch(number))[1].tolist() for number in (0, 1, 0))
    assert first == again != second


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (iter(PAIRS), "have to be a list of (x, y) or a DataLoader, not list_iterator."),
        ((pair for pair in PAIRS), "or a DataLoader, not generator."),
        (7, "or a DataLoader, not int."),
        ([], "There are no images to train on."),
        (
            [torch.zeros(2, 1, 8, 8)],
            "Item 0 of the images, float32 (2, 1, 8, 8), has no labels to train on; expected (x, y), or a dict",
        ),
        (
            [{"x": 1, "y": 2}],
            "Item 0 of the images is x: int, y: int; expected a tensor (N, C, H, W); (x, y) with labels",
        ),
    ],
)
def test_what_is_no_epoch_of_pairs_is_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        GivenImages(given)
    assert message in str(caught.value)
