from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import qzoo
from qzoo.data_free.batch_norms import UntrainedStatisticsWarning
from qzoo.errors import DataError, UnsupportedError
from qzoo.models.base_model import InputFormat
from qzoo.models.provenance import ranges_from
from qzoo.quant.ranges import get_ranges
from qzoo.schema.calibration import CalibrationSpec, Source
from qzoo.schema.recipe import Base
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.data_free import usual_count
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.zoo.name_lookup import find


def base_of(name: str = "resnet8_digits") -> Base:
    return find(name).base


def test_images_are_of_the_format_of_the_base() -> None:
    images = calibration_images(base_of(), "digits", CalibrationSpec(source="synthetic", images=6, batch_size=4))
    batches = [x for x, _ in images]
    assert [tuple(x.shape) for x in batches] == [(4, 1, 8, 8), (2, 1, 8, 8)]
    assert images.source == "synthetic"


def test_the_flag_goes_before_the_recipe() -> None:
    images = calibration_images(base_of(), "digits", CalibrationSpec(images=100), Path("statistics"))
    assert (images.source, len(images)) == ("statistics", 256)


def test_as_many_as_are_asked_for() -> None:
    images = calibration_images(base_of(), "digits", CalibrationSpec(), Path("synthetic"), images=3)
    assert len(images) == 3


def test_another_seed_makes_other_images() -> None:
    made = [
        calibration_images(base_of(), "digits", CalibrationSpec(source="synthetic", images=2, seed=seed)).digest()
        for seed in (0, 1)
    ]
    assert made[0] != made[1]


def test_small_images_are_many() -> None:
    sizes = (32, 112, 224, 384)
    assert [usual_count(InputFormat(size, (0.5,), (0.5,)), "synthetic") for size in sizes] == [1024, 256, 64, 64]


def test_accuracy_is_not_measured_on_them() -> None:
    with pytest.raises(DataError, match=r"--data synthetic makes images to calibrate on.*the folder of digits"):
        evaluation_images(base_of(), "digits", Path("synthetic"))


@pytest.mark.parametrize("source", ["synthetic", "statistics"])
def test_a_model_remembers_what_its_ranges_were_made_from(source: str, tmp_path: Path) -> None:
    model = qzoo.calibrate(qzoo.create("resnet8_digits_int8", pretrained="float"), source)
    assert ranges_from(model) == source
    file = qzoo.save(model, tmp_path / "x.safetensors")
    again = qzoo.load(qzoo.create("resnet8_digits_int8", pretrained="float"), file)
    assert ranges_from(again) == source
    # What is calibrated on images anew forgets it.
    assert ranges_from(qzoo.calibrate(again, torch.zeros(2, 1, 8, 8).normal_())) == "images"


def test_statistics_come_nearer_to_real_ranges_than_plain_images(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    real = get_ranges(qzoo.create("resnet20_cifar10_int8", pretrained=True))
    keys = [key for key in real if key.endswith("input_quantizer.amax")]

    def distance(source: Source) -> float:
        model = qzoo.create("resnet20_cifar10_int8", pretrained="float")
        spec = CalibrationSpec(source=source, images=128)
        qzoo.calibrate(model, calibration_images(base_of("resnet20_cifar10"), "cifar10", spec))
        made = get_ranges(model)
        return float(torch.stack([(made[key] / real[key]).log2().abs() for key in keys]).mean())

    assert distance("statistics") < 0.6 * distance("synthetic")


def test_a_model_of_ones_own_is_calibrated_without_data() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU())
    model = qzoo.calibrate(qzoo.quantize(net), "synthetic")
    assert not [one for one in get_ranges(model).values() if not bool((one > 0).all())]
    with pytest.raises(UnsupportedError, match="evaluates no batch norm"):
        qzoo.calibrate(qzoo.quantize(net), "statistics")


def test_a_misspelt_source_is_told() -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained="float")
    with pytest.raises(DataError, match=r"'statistic', which is no source that needs no data.*'statistics'.*batches"):
        qzoo.calibrate(model, "statistic")


def test_statistics_of_an_untrained_network_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with (
        pytest.warns(UntrainedStatisticsWarning, match="1 of 1 batch norms"),
        pytest.raises(UnsupportedError, match=r"No batch norm of .* remembers the images.*`synthetic` images"),
    ):
        qzoo.calibrate(qzoo.quantize(net), "statistics")
