"""`python -m benchmarks.low_bits.picture`: what each step does to the weights of one layer, as docs/low-bits.png."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

import qzoo
from benchmarks.document import DOCUMENTS
from qzoo.models.quantize import float_copy
from qzoo.quant.fake_quant import quantization_scale
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.zoo.name_lookup import find

BASE, LAYER, NEXT = "resnet20_cifar10", "layer2.0.conv1", "layer2.0.conv2"
VARIANT = f"{BASE}_w4a4_opt"
IMAGES, STEPS = 256, 300
BEFORE, AFTER, QUIET = "#9aa5b1", "#d9480f", "#495057"
BINS = 20


def module(model: nn.Module, path: str = LAYER) -> Any:
    """Returns a layer, whose attributes mypy can't know."""
    return model.get_submodule(path)


def optimized(model: nn.Module, images: list[Tensor], steps: dict[str, Any]) -> nn.Module:
    """Returns a copy that went through some steps."""
    made = copy.deepcopy(model)
    qzoo.optimize(made, images, steps)
    return made


def share_up(made: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns where weights lie between two values of the grid, and the share of them that went up or further."""
    layer = module(made)
    quantizer: TensorQuantizer = layer.weight_quantizer
    steps = weight * quantization_scale(quantizer.amax, quantizer.grid)
    inside = (steps > quantizer.grid.low) & (steps < quantizer.grid.high)
    moved = layer.weight.detach() * quantization_scale(quantizer.amax, quantizer.grid) - steps.floor()
    place, up = (steps - steps.floor())[inside], (moved[inside] > 0.5).float()
    bins = (place * BINS).long().clamp(max=BINS - 1)
    count = torch.bincount(bins, minlength=BINS)
    return (torch.arange(BINS) + 0.5) / BINS, torch.bincount(bins, up, minlength=BINS) / count


def rounding_panel(axes: Axes, title: str, made: nn.Module, nearest: nn.Module, weight: Tensor) -> None:
    """Draws which weights go up: of nearest rounding a step in the middle."""
    axes.plot(*share_up(nearest, weight), color=BEFORE, drawstyle="steps-mid", label="nearest")
    axes.plot(*share_up(made, weight), color=AFTER, drawstyle="steps-mid", label=title)
    axes.set(
        title=title, xlabel="place between two values of the grid", ylabel="share that goes up", ylim=(-0.05, 1.05)
    )


def channel_panel(axes: Axes, title: str, before: Tensor, after: Tensor, what: str) -> None:
    """Draws a value for each channel, before and after, in the order of those before."""
    order = before.argsort(descending=True)
    place = torch.arange(len(order))
    axes.bar(place, before[order], color=BEFORE, width=0.9, label="before")
    axes.plot(place, after[order], color=AFTER, marker="o", markersize=3, linewidth=0.8, label="after")
    axes.set(title=title, xlabel="output channel", ylabel=what)


def channel_range(made: nn.Module, path: str = LAYER) -> Tensor:
    """Returns the largest weight of each output channel."""
    return module(made, path).weight.detach().abs().flatten(1).amax(1)  # type: ignore[no-any-return]


def mean_error(made: nn.Module, float_model: nn.Module, images: list[Tensor]) -> Tensor:
    """Returns the mean error of what the batch norm behind the layer gives, for each channel."""
    norm = LAYER.replace("conv", "bn")
    return (_mean_output(made, norm, images) - _mean_output(float_model, norm, images)).abs()


def _mean_output(model: nn.Module, path: str, images: list[Tensor]) -> Tensor:
    seen: list[Tensor] = []
    hook = module(model, path).register_forward_hook(lambda _, __, y: seen.append(y.mean((0, 2, 3))))
    with torch.no_grad():
        for x in images:
            model(x)
    hook.remove()
    return torch.stack(seen).mean(0)


def panels(images: list[Tensor]) -> list[Callable[[Axes], None]]:
    """Returns what draws each panel."""
    model = qzoo.create(VARIANT, pretrained="float")
    weight = module(model).weight.detach().clone()
    folded, equalized = (
        optimized(model, images, steps) for steps in ({"fold": True}, {"fold": True, "equalize": True})
    )
    qzoo.calibrate(model, images)
    float_model = float_copy(model)
    nearest = optimized(model, images, {"round": "nearest"})
    learned = {"iterations": STEPS}
    made = {
        "gptq": optimized(model, images, {"round": "gptq"}),
        "adaround": optimized(model, images, {"round": {"method": "adaround", **learned}}),
        "reconstruct": optimized(model, images, {"reconstruct": learned}),
    }
    bias = optimized(model, images, {"round": "nearest", "correct_bias": True})
    errors = [mean_error(one, float_model, images) for one in (nearest, bias)]
    ranges = [channel_range(one) for one in (model, folded, equalized)]
    return [
        lambda axes: channel_panel(axes, "fold", ranges[0], ranges[1], "largest weight"),
        lambda axes: channel_panel(axes, "equalize", ranges[1], ranges[2], "largest weight"),
        lambda axes: channel_panel(axes, "correct_bias", errors[0], errors[1], "mean error"),
        *(
            lambda axes, title=title, one=one: rounding_panel(axes, title, one, nearest, weight)  # type: ignore[misc]
            for title, one in made.items()
        ),
    ]


def main() -> None:
    """Computes and draws."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    zoo_model = find(VARIANT)
    seen = calibration_images(zoo_model.base, zoo_model.dataset, zoo_model.resolved.calibration, images=IMAGES)
    figure, grid = plt.subplots(2, 3, figsize=(11, 6.4), constrained_layout=True)
    for axes, draw in zip(grid.flat, panels([x for x, _ in seen]), strict=True):
        draw(axes)
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{LAYER} of {BASE} at W4A4, {IMAGES} images", color=QUIET)
    figure.savefig(DOCUMENTS / "low-bits.png", dpi=110)


if __name__ == "__main__":
    main()
