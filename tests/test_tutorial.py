"""The tutorial of pytorch-quantization, run from beginning to end by the script in examples/."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch

import qzoo
from qzoo.compat import import_checkpoint
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.data import loader, open_split, sample

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "quant_resnet50.py"
STEPS = [
    "float", "percentile 99.99", "percentile 99.9", "mse", "entropy", "one epoch of training",
    "with residual quantizers",
]  # fmt: skip


@pytest.fixture
def tutorial(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("quant_resnet50", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for layer in (quant_nn.QuantConv2d, quant_nn.QuantLinear):  # the script sets them for the whole process
        monkeypatch.setattr(layer, "default_quant_desc_input", layer.default_quant_desc_input)
    return module


@pytest.mark.runtimes  # it exports
def test_on_embedded_data(tutorial: ModuleType, tmp_path: Path) -> None:
    top1 = tutorial.main(["--model", "resnet8_digits", "--out", str(tmp_path)])
    assert list(top1) == STEPS
    assert all(figure > 98.5 for figure in top1.values())
    graph = onnx.load(tmp_path / "quant_resnet8_digits.onnx").graph
    assert sum(node.op_type == "Conv" for node in graph.node) == 7
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) >= 17


@pytest.mark.slow
def test_on_cifar10_with_published_weights(
    tutorial: ModuleType, data_root: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    top1 = tutorial.main(
        ["--model", "resnet20_cifar10", "--data", str(data_root), "--out", str(tmp_path), "--eval-images", "2000",
         "--train-images", "2048"]
    )  # fmt: skip
    assert list(top1) == STEPS
    assert top1["float"] > 91
    # Of 2,000 images, where the whole test set loses 0.05 by percentile 99.99.
    assert all(top1["float"] - figure < 1 for figure in top1.values())

    made = import_checkpoint(tmp_path / "quant_resnet20_cifar10-calibrated.pth", "resnet20_cifar10_int8", tmp_path)
    assert made.of_base is True
    model = qzoo.load(qzoo.create("resnet20_cifar10_int8", pretrained="float"), made.files[0])
    test = open_split("cifar10", "test", data_root)
    batches = loader(test, qzoo.transform("resnet20_cifar10"), 512, sample(test, 2000, seed=0))
    assert qzoo.evaluate(model, batches).top1 == pytest.approx(top1["percentile 99.99"], abs=1e-6)

    trained = import_checkpoint(tmp_path / "quant_resnet20_cifar10-finetuned.pth", "resnet20_cifar10_int8", tmp_path)
    assert trained.of_base is False
    weights = torch.load(tmp_path / "quant_resnet20_cifar10-finetuned.pth", weights_only=True)
    assert torch.equal(trained.model.conv1.weight, weights["conv1.weight"])  # type: ignore[union-attr, arg-type]
