"""Whatever measures a model leaves it as it was: every layer, bit and flag, and the random numbers to come."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

import qzoo
from qzoo.models.heads import ReplacedHeadWarning
from qzoo.models.provenance import provenance
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.runtimes.parity import measure_parity
from qzoo.runtimes.registry import runtime_named
from qzoo.tasks.adapt import adapt

X, Y = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
HOOKS = [name for name in vars(nn.Module()) if "hooks" in name]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)) + x)  # type: ignore[no-any-return]


class Merged(nn.Linear):
    """Adds to its weight in evaluation mode what it keeps apart in training, as adapters of low rank do."""

    merged = False

    def train(self, mode: bool = True) -> Merged:
        if self.merged == mode:
            self.weight.data += -1 if mode else 1
            self.merged = not mode
        return super().train(mode)


def network(head: nn.Module) -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(stem, Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), head)


def calibrated(head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = qzoo.quantize(network(head).eval(), "int8", residual="skip", example=X)
    return qzoo.calibrate(model, [X])  # type: ignore[return-value]


def half_frozen() -> nn.Module:
    """The head trains, one batch norm does, the backbone does not; hooks, gradients and a quantizer that is off."""
    model = calibrated(nn.Linear(8, 3))
    model.requires_grad_(False)
    model[6].train().requires_grad_(True)
    model[1].norm.train()
    model[6].weight.grad = torch.ones_like(model[6].weight)
    model[2].conv.register_forward_hook(lambda module, args, output: None)
    model[1].conv.input_quantizer.state = "off"
    return model


def in_training() -> nn.Module:
    model = calibrated(nn.Linear(8, 3)).train()
    model[1].norm.eval()
    return model


def with_another_head() -> nn.Module:
    model = half_frozen()
    model[6] = nn.Linear(8, 3)
    model[4] = nn.Sequential(nn.Flatten())
    return model


def with_merged_weights() -> nn.Module:
    return calibrated(Merged(8, 3)).train()


MODELS = {made.__name__: made for made in (half_frozen, in_training, with_another_head, with_merged_weights)}

Task = Callable[[nn.Module, Any, Path], Any]
PLAIN: dict[str, Task] = {
    "evaluate": lambda model, images, folder: qzoo.evaluate(model, images),
    "sensitivity": lambda model, images, folder: qzoo.sensitivity(model, images, mend=0),
    "save": lambda model, images, folder: qzoo.save(model, folder / "ranges"),
    "save whole": lambda model, images, folder: qzoo.save(model, folder / "model", whole=True),
    "adapt": lambda model, images, folder: adapt(model, runtime_named("onnxruntime"), images, example=X[:1]),
}
ON_RUNTIMES: dict[str, Task] = {
    "export": lambda model, images, folder: qzoo.export(model, folder / "x.onnx", images=images),
    "export adapted": lambda model, images, folder: qzoo.export(model, folder / "x.onnx", example=X[:1], adapt_on=[X]),
    "benchmark": lambda model, images, folder: qzoo.benchmark(model, batches=(1,)),
}
TASKS = [*PLAIN, *(pytest.param(name, marks=pytest.mark.runtimes) for name in ON_RUNTIMES)]
USING_IMAGES = ["evaluate", "sensitivity", "adapt", pytest.param("export", marks=pytest.mark.runtimes)]


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that a measurement could change, as values that compare equal if nothing did."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        kept = {name: value for name, value in vars(module).items() if name not in ("_cache", *HOOKS)}
        held = module._parameters | module._buffers
        plan = provenance(module)
        found[path] = (
            module, type(module), sorted(kept), module.training, {name: dict(vars(module)[name]) for name in HOOKS},
            {name: None if value is None else _facts(value) for name, value in held.items()},
            plan and {layer: dict(roles) for layer, roles in plan.quantizers.items()},
            isinstance(module, TensorQuantizer) and (module.state, module.collector, module.learned),
        )  # fmt: skip
    found["state dict"] = {name: _facts(value) for name, value in model.state_dict().items()}
    name, keys, *rest = np.random.get_state()
    found["random"] = torch.get_rng_state().tolist(), random.getstate(), name, list(keys), rest
    found["torch"] = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
    return found


def _facts(value: Tensor) -> Any:
    grad = None if value.grad is None else value.grad.tolist()
    return value.data_ptr(), value.dtype, value.device, value.requires_grad, grad, value.is_inference(), value.tolist()


def run(task: str, model: nn.Module, images: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReplacedHeadWarning)
        return (PLAIN | ON_RUNTIMES)[task](model, images, folder)


@pytest.mark.parametrize("made", MODELS)
@pytest.mark.parametrize("task", TASKS)
def test_measuring_leaves_the_model_as_it_was(task: str, made: str, tmp_path: Path) -> None:
    model = MODELS[made]()
    before = snapshot(model)
    run(task, model, torch.utils.data.DataLoader([(X[n], Y[n]) for n in range(6)], 2, shuffle=True), tmp_path)
    assert snapshot(model) == before


class _Stop(BaseException):
    pass


def _breaking(error: type[BaseException]) -> Iterator[Any]:
    yield X[:2], Y[:2]
    raise error("in the middle")


def _one_and_stop() -> Iterator[Tensor]:
    yield X
    raise _Stop


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("task", USING_IMAGES)
@pytest.mark.parametrize("made", MODELS)
def test_images_that_break_off_leave_it_too(made: str, task: str, error: Any, tmp_path: Path) -> None:
    model = MODELS[made]()
    before = snapshot(model)
    with pytest.raises(error, match="in the middle"):
        run(task, model, _breaking(error), tmp_path)
    assert snapshot(model) == before


@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize("task", USING_IMAGES)
def test_a_forward_that_breaks_off_leaves_it_too(task: str, call: int, tmp_path: Path) -> None:
    model = half_frozen()
    left = [call]

    def stop(module: nn.Module, args: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _Stop

    model[2].act.register_forward_pre_hook(stop)
    before = snapshot(model)
    left[0] = call
    images = [(X[n : n + 1], Y[n : n + 1]) for n in range(6)]
    with pytest.raises(_Stop):
        run(task, model, images, tmp_path)
    assert snapshot(model) == before


@pytest.mark.runtimes
@pytest.mark.parametrize("stopped", [False, True])
def test_comparing_with_a_file_leaves_the_model(stopped: bool, tmp_path: Path) -> None:
    model = in_training()
    qzoo.export(model, tmp_path / "x.onnx", example=X[:1])
    before = snapshot(model)
    if stopped:
        with pytest.raises(_Stop):
            measure_parity(model, tmp_path / "x.onnx", runtime_named("onnxruntime"), _one_and_stop())
    else:
        measure_parity(model, tmp_path / "x.onnx", runtime_named("onnxruntime"), [X])
    assert snapshot(model) == before


def test_a_graph_for_each_mode_is_put_back() -> None:
    extractor = create_feature_extractor(resnet18(), ["avgpool"]).train()
    graphs = extractor.graph
    with evaluation_mode(nn.Sequential(extractor)):
        assert extractor.graph is not graphs
    assert extractor.graph is graphs


def test_what_a_model_keeps_while_it_is_measured_can_be_trained_with() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.scale = nn.Linear(4, 2), None

        def forward(self, x: Tensor) -> Tensor:
            self.scale = torch.ones(2) if self.scale is None else self.scale
            return self.linear(x) * self.scale  # type: ignore[no-any-return]

    model = Caching()
    qzoo.evaluate(model, [torch.rand(2, 4)])
    model(torch.rand(2, 4)).sum().backward()


def test_a_new_head_counts_as_quantized_and_stays_float() -> None:
    model = with_another_head()
    with pytest.warns(ReplacedHeadWarning, match="for this measurement alone; qzoo.calibrate and qzoo.finetune let"):
        found = qzoo.evaluate(model, [(X, Y)])
    assert type(model.get_submodule("6")) is nn.Linear
    with pytest.warns(ReplacedHeadWarning):
        qzoo.calibrate(model, [X])
    assert found.predicted.margins.shape == (6,)
