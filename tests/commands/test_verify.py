"""A receipt tells another model from another machine, batch size, thread count or compiler."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import qzoo
from qzoo.commands.settings import Settings
from qzoo.commands.verify import Verified, verify
from qzoo.errors import DataError, WeightsError
from qzoo.quant.calibration.collecting import activation_quantizers
from qzoo.receipts.compare import Exact, Usual, compare_exact, compare_usual
from qzoo.weights.receipt import Predictions, load_receipt, save_receipt

DIGITS = "resnet8_digits_int8"
CIFAR = "resnet20_cifar10_int8"


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("receipts")
    qzoo.reproduce("resnet8_digits", only="int8", artifacts=folder)
    return folder / f"{DIGITS}.receipt.safetensors"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return qzoo.create(DIGITS, pretrained=True)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def changed(model: nn.Module, path: str, factor: float) -> nn.Module:
    model = copy.deepcopy(model)
    quantizer = activation_quantizers(model)[path]
    quantizer.set_amax(quantizer.amax * factor)
    return model


@pytest.mark.parametrize("said", [{"dataset": "../../etc"}, {"split": "train"}])
def test_a_receipt_of_other_images_is_refused(said: dict[str, str], receipt: Path, tmp_path: Path) -> None:
    claim = load_receipt(receipt)
    save_receipt(tmp_path / "other", replace(claim, info=claim.info.model_copy(update=said)))
    with pytest.raises(WeightsError, match=r"The receipt is of .* is measured on digits test"):
        verify(DIGITS, receipt=tmp_path / "other")


def test_the_same_model_on_the_same_machine_is_identical(receipt: Path) -> None:
    result = verify(DIGITS, receipt=receipt)
    assert result.usual == Usual(images=597, identical=597, moved=0, flipped=0, largest=0)
    assert result.exact == Exact(images=500, moved=0, largest=0)
    assert result.reproduced
    assert result.cause is None


def test_batch_size_threads_and_onednn_raise_no_alarm(receipt: Path) -> None:
    assert verify(DIGITS, Settings(batch_size=1), receipt=receipt, images=200).reproduced
    with threads(2):
        assert verify(DIGITS, receipt=receipt).reproduced
    with without_onednn():
        result = verify(DIGITS, receipt=receipt)
    assert result.reproduced
    assert result.exact.moved == 0
    assert result.usual.identical < 597  # in float32 it does move margins


def test_a_compiled_model_raises_no_alarm(receipt: Path, model: nn.Module) -> None:
    compiled = torch.compile(model, backend="aot_eager")
    assert verify(DIGITS, receipt=receipt, model=compiled, images=100).reproduced


@pytest.mark.parametrize("factor", [1.05, 0.95])
def test_any_range_that_changed_by_five_percent_is_detected(receipt: Path, model: nn.Module, factor: float) -> None:
    for path in activation_quantizers(model):
        result = verify(DIGITS, receipt=receipt, model=changed(model, path, factor), images=100)
        assert not result.reproduced, path
        assert result.exact.moved >= 50
        assert result.float_model == Exact(images=100, moved=0, largest=0)
        assert result.cause is not None
        assert result.cause.startswith("The float model agrees, so images and base weights are right: a range")


def test_other_images_than_the_receipt_s_differ_in_float_too(receipt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qzoo.models import bases

    transform = bases.base_transform

    def brighter(base: object) -> object:
        own = transform(base)  # type: ignore[arg-type]
        return lambda image: own(image) + 0.01

    monkeypatch.setattr("qzoo.tasks.inputs.images.base_transform", brighter)
    result = verify(DIGITS, receipt=receipt)
    assert not result.reproduced
    assert result.cause is not None
    assert "another transform, or images that are decoded differently" in result.cause


def test_fewer_images_are_those_with_exact_margins(receipt: Path) -> None:
    result = verify(DIGITS, receipt=receipt, images=30)
    assert result.usual.images == result.exact.images == 30
    assert verify(DIGITS, receipt=receipt, images=550).exact.images == 500


def test_published_models_and_folders_are_verified_by_their_own_receipt(receipt: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    qzoo.push(DIGITS, "me/model", artifacts=receipt.parent, folder=folder, dry_run=True)
    assert verify(str(folder)).reproduced
    assert isinstance(verify(str(folder)), Verified)


def test_without_a_receipt_the_message_has_the_command() -> None:
    with pytest.raises(
        WeightsError, match=r"no receipt for resnet50_int8\. Give one .* qzoo evaluate resnet50_int8 --data"
    ):
        verify("resnet50_int8")


def test_a_receipt_of_another_variant_is_refused(receipt: Path) -> None:
    with pytest.raises(WeightsError, match=r"receipt is of resnet8_digits_int8 \(\w+\), this is resnet8_digits_fp8"):
        verify("resnet8_digits_fp8", receipt=receipt)


def test_images_that_are_not_here_are_named(receipt: Path, tmp_path: Path) -> None:
    claim = load_receipt(receipt)
    path = tmp_path / "other.receipt.safetensors"
    save_receipt(path, replace(claim, ids=claim.ids ^ 1))
    with pytest.raises(
        DataError, match=r"None of the receipt's 597 images is in digits test here \(597 images\)\. Give"
    ):
        verify(DIGITS, receipt=path)
    ids = claim.ids.clone()
    ids[claim.exact.rows] ^= 1
    save_receipt(path, replace(claim, ids=ids))
    with pytest.raises(DataError, match=r"97 of the receipt's 597 images are in .* none of the 500 that have exact"):
        verify(DIGITS, receipt=path)


def test_comparisons_count() -> None:
    top = torch.tensor([[0], [1], [2], [3]])
    claimed = Predictions(top, torch.tensor([1.0, 1.0, 1.0, 5.0]))
    found = Predictions(torch.tensor([[0], [1], [2], [4]]), torch.tensor([1.00005, 1.1, 1.0, 4.0]))
    assert compare_usual(claimed, found) == Usual(4, identical=2, moved=1, flipped=1, largest=1.0)
    exact = compare_exact(torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0 + 1e-9, 2.0 + 1e-3]).double())
    assert (exact.images, exact.moved) == (2, 1)
    assert exact.alarm
    assert not Exact(images=500, moved=50, largest=1.0).alarm


def test_many_flips_are_an_alarm_of_their_own() -> None:
    assert not Usual(images=20, identical=17, moved=0, flipped=3, largest=1).alarm
    assert Usual(images=500, identical=0, moved=484, flipped=16, largest=1).alarm


@pytest.fixture
def cifar(data_root: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    return Settings(data=data_root)


@pytest.mark.slow
def test_cifar_no_alarm_for_other_machines(cifar: Settings) -> None:
    moved = []
    for context, settings in (
        (contextlib.nullcontext(), replace(cifar, batch_size=1)),
        (threads(2), cifar),
        (without_onednn(), cifar),
    ):
        with context:
            result = verify(CIFAR, settings, images=500)
        assert result.reproduced
        assert result.exact.moved == 0
        moved.append(result.usual.moved)
    compiled = torch.compile(qzoo.create(CIFAR, pretrained=True))
    result = verify(CIFAR, cifar, images=500, model=compiled)
    assert result.reproduced
    assert max([*moved, result.usual.moved]) > 100  # many margins do move in float32


@pytest.mark.slow
def test_cifar_every_range_changed_by_five_percent_is_detected(cifar: Settings) -> None:
    model = qzoo.create(CIFAR, pretrained=True)
    for path in activation_quantizers(model):
        result = verify(CIFAR, cifar, images=100, model=changed(model, path, 1.05))
        assert not result.reproduced, path
        assert result.exact.moved > 90
