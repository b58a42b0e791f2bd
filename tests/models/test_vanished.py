"""Quantizers that went with their layers are noticed by whoever measures, saves, trains or exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.models.heads import ReplacedHeadWarning, requantize_replaced
from qzoo.quant.ranges import quantizers

X, Y = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2, dtype=torch.long)
TEXT = (
    r"8[0-9] of the quantizers that int8 gave this model are gone: stem\.\S+_quantizer, .* and 8[0-9] more\. "
    r"Layers with weights came that have none: stem\.reparam_conv, .* and \d+ more\. .* Change the float model first"
)


@pytest.fixture(scope="module")
def deployed() -> nn.Module:
    torch.manual_seed(0)
    model = qzoo.calibrate(qzoo.quantize(timm.create_model("repvgg_a0", num_classes=10).eval(), "int8"), [X])
    return reparameterize_model(model)  # type: ignore[no-any-return]


USERS: dict[str, Callable[[nn.Module, Path], Any]] = {
    "evaluate": lambda model, folder: qzoo.evaluate(model, [(X, Y)]),
    "sensitivity": lambda model, folder: qzoo.sensitivity(model, [(X, Y)]),
    "calibrate": lambda model, folder: qzoo.calibrate(model, [X]),
    "save": lambda model, folder: qzoo.save(model, folder / "x.safetensors"),
    "save whole": lambda model, folder: qzoo.save(model, folder / "x.safetensors", whole=True),
    "finetune": lambda model, folder: qzoo.finetune(model, [(X, Y)], epochs=1, lr=1e-3),
    "export": lambda model, folder: qzoo.export(model, folder / "x.onnx", "tensorrt"),
}


@pytest.mark.parametrize("user", USERS)
def test_a_reparameterized_model_is_refused(user: str, deployed: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=TEXT):
        USERS[user](deployed, tmp_path)
    assert not list(tmp_path.iterdir())


def test_reparameterizing_first_is_the_way() -> None:
    model = reparameterize_model(timm.create_model("repvgg_a0", num_classes=10).eval())
    model = qzoo.calibrate(qzoo.quantize(model, "int8"), [X])
    assert qzoo.evaluate(model, [(X, Y)]).images == 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x


def calibrated() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)).eval()
    return qzoo.calibrate(qzoo.quantize(model, "int8", residual="skip"), [X])


def test_a_block_that_lost_its_residual_quantizer_is_named() -> None:
    model = calibrated()
    conv, model[1] = model[1].conv, Block().eval()
    model[1].conv = conv  # the layer has its quantizers, the addition none
    text = r"1 of the quantizers that int8 gave this model are gone: 1\.residual_quantizer\. It would compute in float"
    with pytest.raises(UnsupportedError, match=text):
        qzoo.evaluate(model, [(X, Y)])


@pytest.mark.parametrize("way", ["identity", "deleted"])
def test_what_is_taken_away_leaves_nothing_in_float(way: str) -> None:
    model = calibrated()
    if way == "identity":
        model[1] = nn.Identity()
    else:
        del model[1]
    assert qzoo.evaluate(model, [(X, Y)]).images == 2
    assert quantizers(model)


TAKEN: dict[str, Callable[[nn.Module], None]] = {
    "deleted": lambda layer: delattr(layer, "weight_quantizer"),
    "None": lambda layer: setattr(layer, "weight_quantizer", None),
    "identity": lambda layer: setattr(layer, "weight_quantizer", nn.Identity()),
}


@pytest.mark.parametrize("way", TAKEN)
def test_a_layer_that_lost_a_quantizer_is_named(way: str, tmp_path: Path) -> None:
    model = calibrated()
    TAKEN[way](model[1].conv)
    text = r"1 of the quantizers that int8 gave this model are gone: 1\.conv\.weight_quantizer\. It would compute in"
    for user in ("evaluate", "save", "export"):
        with pytest.raises(UnsupportedError, match=text):
            USERS[user](model, tmp_path)


@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel])
def test_what_was_wrapped_is_looked_for_inside(wrap: Callable[[nn.Module], nn.Module], deployed: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match=TEXT):
        qzoo.evaluate(wrap(deployed), [(X, Y)])
    model = wrap(calibrated())
    assert qzoo.evaluate(model, [(X, Y)]).images == 2
    inner = next(part for part in model.children())
    inner[4] = nn.Linear(3, 7)
    with pytest.warns(ReplacedHeadWarning, match="4 was replaced"):
        qzoo.evaluate(model, [(X, Y)])
    assert type(inner[4]) is nn.Linear  # measured as it would be quantized, and left alone
    with pytest.warns(ReplacedHeadWarning, match="4 was replaced"):
        qzoo.calibrate(model, [X])
    assert torch.equal(inner[4].weight_quantizer.amax, inner[4].weight.detach().abs().amax(1, keepdim=True))


def test_layers_behind_a_deleted_one_keep_their_quantizers() -> None:
    torch.manual_seed(0)
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), attention, nn.Flatten(), nn.Linear(40, 4)).eval()
    x = torch.rand(2, 5, 8)
    model = qzoo.calibrate(qzoo.quantize(model, "int8", example=x), [x])
    kept = model[2].linear1.input_quantizer.amax.clone()
    del model[1]
    assert qzoo.evaluate(model, [(x, Y)]).images == 2  # and no word
    assert torch.equal(model[1].linear1.input_quantizer.amax, kept)
    assert len(quantizers(model)) == 12


def test_a_layer_of_its_own_class_again_is_quantized_again() -> None:
    model = calibrated()
    model[4].__class__ = nn.Linear
    with pytest.warns(ReplacedHeadWarning, match="4 was replaced"):
        assert requantize_replaced(model) == ["4"]
