from __future__ import annotations

from pathlib import Path

import pytest
import torch

import qzoo
from qzoo.errors import CalibrationError, WeightsError
from qzoo.models.full_checkpoint import check_histograms_fit, outline
from qzoo.models.on_base import check_fit
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.resolution.resolve import resolve


@pytest.mark.parametrize("name", ["resnet8_digits_int8", "resnet18_int8_residual", "regnet_y_400mf_int8"])
def test_it_has_names_and_shapes_of_the_model_takes_no_memory_and_draws_nothing(name: str) -> None:
    entry, variant = Catalog.load().find(name)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    made = outline(resolve(entry, variant or ""))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in made.parameters())
    own = qzoo.create(name).state_dict()
    found = made.state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in own.items()}


def test_regnets_widths_are_computed_and_its_weights_are_not_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    # torchvision's RegNet does not run on the meta device from the start; 0.6 of 2.6 GB would be taken here.
    entry, _ = Catalog.load().find("torchvision/regnet_y_128gf")
    kaiming = torch.nn.init.normal_

    def on_meta(tensor: torch.Tensor, *arguments: float, **keywords: float) -> torch.Tensor:
        assert tensor.is_meta
        return kaiming(tensor, *arguments, **keywords)

    monkeypatch.setattr(torch.nn.init, "normal_", on_meta)
    made = outline(resolve(entry, "int8"))
    assert sum(parameter.numel() for parameter in made.parameters()) > 600_000_000


def test_ranges_and_histograms_of_another_variant_are_told(tmp_path: Path) -> None:
    entry, _ = Catalog.load().find("resnet8_digits_int8")
    variant = resolve(entry, "int8")
    model = qzoo.create("resnet8_digits_int8", pretrained=True)
    path = qzoo.save(model, tmp_path / "x.ranges.safetensors")
    check_fit(variant, path)
    places = [place for place in quantizers(model) if not place.endswith("weight_quantizer")]
    check_histograms_fit(variant, path, places)
    with pytest.raises(CalibrationError, match=rf"The collection lacks {places[0]}"):
        check_histograms_fit(variant, path, places[1:])
    with pytest.raises(WeightsError, match=r"the model has no quantizer layer9\.input_quantizer \(1 such\)"):
        check_histograms_fit(variant, path, [*places, "layer9.input_quantizer"])
    other = qzoo.quantize(qzoo.create("resnet8_digits", pretrained=True), "int8", residual="skip")
    qzoo.calibrate(other, torch.rand(8, 1, 8, 8))
    path = qzoo.save(other, tmp_path / "y.ranges.safetensors")
    assert len(get_ranges(other)) > len(get_ranges(model))
    with pytest.raises(WeightsError, match=r"y\.ranges\.safetensors does not fit: 0 tensors .* unknown \(layer1\.res"):
        check_fit(variant, path)
