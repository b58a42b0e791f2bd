from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from qzoo.models.from_timm import _file_names
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.calibration.collecting import calibrate_weights
from qzoo.quant.quantizer import UncalibratedWarning
from qzoo.quant.ranges import quantizers
from qzoo.schema.resolution.resolve import resolve_scheme


@pytest.fixture
def quantized() -> Callable[..., nn.Module]:
    """Quantizes a model by the scheme `int8`, in place; with `amax` every activation has that range."""

    def quantize(model: nn.Module, amax: float | None = None) -> nn.Module:
        quantize_in_place(model, resolve_scheme("int8"))
        if amax is not None:
            calibrate_weights(model)
            for quantizer in quantizers(model, "input").values():
                quantizer.set_amax(torch.tensor(amax))
        return model.eval()

    return quantize


@pytest.fixture
def timm_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Tensor]]:
    """Puts random weights where those of a timm model are looked for, and returns them."""
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))

    def save(name: str, **keywords: Any) -> dict[str, Tensor]:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
        state = timm.create_model(name, **keywords).state_dict()
        save_file(state, tmp_path / _file_names(config)[0])
        return state

    return save


@pytest.fixture
def silent() -> Iterator[None]:
    """Lets a model run whose quantizers have no range yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncalibratedWarning)
        yield
