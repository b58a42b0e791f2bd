"""Rerunning gives what computing everything gives, bit for bit, whatever the model does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.tasks.measuring.quantizer_groups import QuantizerGroup, quantizer_groups
from qzoo.tasks.measuring.replay import Replay


def images(size: int, channels: int = 3) -> Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(2))


def calibrated(model: nn.Module, x: Tensor, residual: str = "none") -> nn.Module:
    return qzoo.calibrate(qzoo.quantize(model.eval(), "int8", residual=residual, example=x.clone()), x)


class Awkward(nn.Module):
    """Does what a recording must not be misled by."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.counting = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), Counting()
        self.relu, self.pair, self.after = nn.ReLU(inplace=True), Pair(), Activated()
        self.through, self.twins, self.head = Through(), Twins(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(0.5)
        kept = self.stem(x)
        # The activation also changes `kept`, which is used again.
        y = self.relu(kept)
        y = self.twice(y) + self.twice(kept)
        y = self.counting(y)
        left, right = self.pair(y)
        left.add_(right)
        shortcut = self.counting(left)
        self.through(shortcut).mul_(2)
        one, flat = self.twins(shortcut)
        one.mul_(3)
        y = self.after(shortcut)
        return self.head((y + shortcut).mean((2, 3)) + flat.mean(2))


class Counting(nn.Module):
    """Counts its calls, and computes something else in each second one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.calls = nn.Conv2d(8, 8, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(x) if self.calls % 2 else -self.conv(x)


class Pair(nn.Module):
    """Returns two views of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.conv(x).chunk(2, dim=1)


class Through(nn.Module):
    """Returns its argument itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        return x


class Twins(nn.Module):
    """Returns one tensor in two shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return y, y.flatten(2)


class Activated(nn.Module):
    """Begins by writing into its argument, as blocks with activation first do."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.conv = nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.relu(x))


def awkward() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Awkward(), images(8)


class Again(nn.Module):
    """Calls a block with a residual addition twice; each call has its own quantizers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 3), Skip(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(self.stem(x))).mean((2, 3)))


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


def again() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Again(), images(8)


def digits() -> tuple[nn.Module, Tensor]:
    return qzoo.create("resnet8_digits", pretrained=True), images(8, channels=1)


def from_timm(name: str, size: int) -> Callable[[], tuple[nn.Module, Tensor]]:
    def make() -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10)
        for module in model.modules():
            # Fresh blocks end in a batch norm of zeros, so that nothing in them would show.
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
        return model, images(size)

    return make


# Additions in place, squeeze-excite with activations in place, concatenation, attention.
MODELS = {
    "awkward": awkward,
    "residual": digits,
    "residual twice": again,
    "digits": digits,
    "resnet": from_timm("test_resnet", 64),
    "squeeze-excite": from_timm("test_efficientnet", 64),
    "mobilenetv3": from_timm("mobilenetv3_small_050", 64),
    "densenet": from_timm("densenet121", 32),
    "vit": from_timm("test_vit", 160),
}


@pytest.mark.parametrize("base", ["off", "quantizing"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_naive_way(name: str, base: str) -> None:
    model, x = MODELS[name]()
    model = calibrated(model, x.clone(), residual="both" if name.startswith("residual") else "none")
    groups = quantizer_groups(model)
    groups = groups[:: max(1, len(groups) // 7)]
    for quantizer in quantizers(model).values():
        quantizer.state = base  # type: ignore[assignment]
    naive = [_switched(group, lambda: model(x.clone())) for group in groups]
    replay = Replay(model)
    with torch.no_grad(), replay.installed():
        recorded = replay.record(x)
        assert torch.equal(recorded, model(x.clone()))
        rerun = [_switched(group, lambda u=group: replay.rerun(x, [u.module])) for group in groups]
        assert torch.equal(replay.rerun(x, []), recorded)
    assert all(torch.equal(one, other) for one, other in zip(naive, rerun, strict=True))
    # A gate's last bits may get lost in the next quantizer; but the switches have to show.
    assert sum(not torch.equal(recorded, changed) for changed in rerun) > 0.7 * len(groups)


@torch.no_grad()
def _switched(group: QuantizerGroup, compute: Callable[[], Tensor]) -> Tensor:
    before = group.quantizers[0].state
    group.switch("off" if before == "quantizing" else "quantizing")
    logits = compute()
    group.switch(before)
    return logits


def test_several_changes_at_once() -> None:
    model, x = digits()
    model = calibrated(model, x)
    groups = quantizer_groups(model)[3:7:3]
    replay = Replay(model)
    with torch.no_grad(), replay.installed():
        replay.record(x)
        for group in groups:
            group.switch("off")
        rerun = replay.rerun(x, {group.module for group in groups})
        naive = model(x.clone())
    assert torch.equal(rerun, naive)


def test_what_came_before_is_not_computed_again() -> None:
    model, x = digits()
    model = calibrated(model, x)
    ran: list[nn.Module] = []
    last = quantizer_groups(model)[-1].module
    replay = Replay(model)
    # Inside a layer nothing is looked up, so its input quantizer tells that the layer ran.
    for quantizer in quantizers(model, "input").values():
        quantizer.register_forward_hook(lambda module, *_: ran.append(module))
    with torch.no_grad(), replay.installed():
        replay.record(x)
        assert len(ran) == len(quantizers(model, "input"))
        ran.clear()
        replay.rerun(x, [last])
    assert ran == [last.input_quantizer]


def test_the_model_is_left_as_it_was() -> None:
    model, x = digits()
    model = calibrated(model, x)
    model.layer1.forward = original = model.layer1.forward  # an attribute of the instance, as some tools leave
    before = {module: dict(module.__dict__) for module in model.modules()}
    with pytest.raises(RuntimeError, match="stopped"), Replay(model).installed():
        raise RuntimeError("stopped")
    assert model.layer1.__dict__["forward"] is original
    assert all("forward" not in m.__dict__ for m in model.modules() if m is not model.layer1)
    assert all(set(module.__dict__) == set(before[module]) for module in model.modules())


def test_inputs_are_not_changed() -> None:
    model, x = awkward()
    model, before = calibrated(model, x.clone()), x.clone()
    replay = Replay(model)
    with torch.no_grad(), replay.installed():
        replay.record(x)
        replay.rerun(x, [model.head])
    assert torch.equal(x, before)
