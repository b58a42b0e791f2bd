"""The tutorial "Quantizing Resnet50" of NVIDIA's pytorch-quantization, step by step, on qzoo: only imports differ.

    python examples/quant_resnet50.py --data /data/imagenet --device cuda            # as in the tutorial
    python examples/quant_resnet50.py --model resnet20_cifar10 --data /data          # a smaller base of the zoo
    python examples/quant_resnet50.py --model resnet8_digits                         # seconds, without any data

What the tutorial takes from torchvision's reference scripts, loaders, `evaluate` and `train_one_epoch`, is here in few
lines. docs/migrate.md sets each step beside the recipe that does the same, without a script.

Source of the steps: NVIDIA/TensorRT, tools/pytorch-quantization/docs/source/tutorials/quant_resnet50.rst (2.2.1).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import qzoo
from qzoo.compat.pytorch_quantization import calib, enable_onnx_export, quant_modules
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.residual import add_residual_quantizers
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from qzoo.data import default_workers, evaluation_split, loader, open_split, sample
from qzoo.models.bases import base_train_transform
from qzoo.runtimes.runtime import require

console = Console(highlight=False)
bar: Any = {"console": console, "transient": True, "disable": not console.is_terminal}
Batches = Iterator[tuple[Tensor, Tensor]]


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="a float base of the zoo: qzoo list")
    parser.add_argument("--data", type=Path, help="folder of the dataset, or of all datasets")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--calib-batches", type=int, default=2)
    parser.add_argument("--eval-images", type=int, help="a sample instead of all")
    parser.add_argument("--train-images", type=int, help="a sample instead of all")
    parser.add_argument("--train-batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.0001)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("quantized"), help="folder of checkpoints and ONNX file")
    return parser.parse_args(argv)


class Data:
    """Images of a base's dataset: augmented ones to calibrate and train on, as in the tutorial, others to evaluate."""

    def __init__(self, args: argparse.Namespace) -> None:
        recipe = qzoo.recipe(args.model)
        self.args, self.device = args, torch.device(args.device)
        self.train = open_split(recipe.dataset, "train", args.data)
        self.test = open_split(recipe.dataset, evaluation_split(recipe.dataset), args.data)
        self.train_transform = base_train_transform(recipe.base, recipe.dataset, seed=0)
        self.test_transform = qzoo.transform(args.model)

    def calibration(self) -> Batches:
        images = min(self.args.calib_batches * self.args.batch_size, len(self.train))
        return self._batches(self.train, self.train_transform, self.args.batch_size, images)

    def training(self, epoch: int) -> Batches:
        images = min(self.args.train_images or len(self.train), len(self.train))
        augmentation = replace(self.train_transform, seed=epoch)
        return self._batches(self.train, augmentation, self.args.train_batch_size, images)

    def testing(self) -> Batches:
        images = min(self.args.eval_images or len(self.test), len(self.test))
        return self._batches(self.test, self.test_transform, self.args.batch_size, images)

    def _batches(self, split: Any, transform: Any, batch_size: int, images: int) -> Batches:
        chosen = sample(split, images, seed=0)
        for x, y in loader(split, transform, batch_size, chosen, workers=default_workers(split)):
            yield x.to(self.device), y.to(self.device)


def collect_stats(model: nn.Module, batches: Batches, num_batches: int) -> None:
    """Feed data to the network and collect statistics; the tutorial's own loop sees one batch more than it is told."""
    for module in model.modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if module._calibrator is not None:
                module.disable_quant()
                module.enable_calib()
            else:
                module.disable()
    for image, _ in track(batches, "collecting", total=num_batches, **bar):
        model(image)
    for module in model.modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if module._calibrator is not None:
                module.enable_quant()
                module.disable_calib()
            else:
                module.enable()


def compute_amax(model: nn.Module, show: int = 0, **kwargs: Any) -> None:
    """Load what the calibrators find; print the first few quantizers."""
    for name, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if isinstance(module._calibrator, calib.MaxCalibrator):
                module.load_calib_amax()
            elif module._calibrator is not None:
                module.load_calib_amax(**kwargs)
            if show > 0:
                console.print(f"{name:40}: {module}", markup=False, soft_wrap=True)
            show -= 1


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> float:
    model.eval()
    right, seen = 0, 0
    for image, target in track(batches, "evaluating", **bar):
        right += int((model(image).argmax(1) == target).sum())
        seen += len(target)
    return 100 * right / seen


def train_one_epoch(model: nn.Module, criterion: nn.Module, optimizer: Any, batches: Batches) -> None:
    model.train()
    for image, target in track(batches, "training", **bar):
        optimizer.zero_grad()
        criterion(model(image), target).backward()
        optimizer.step()


def create_model(args: argparse.Namespace) -> nn.Module:
    """The float model, of its library's unmodified class, with quantized layers in the place of torch's."""
    quant_modules.initialize()
    model = qzoo.create(args.model, pretrained=True)  # models.resnet50(pretrained=True)
    quant_modules.deactivate()
    return model.to(args.device)


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = get_args(argv)
    require("onnxscript")  # for the last step: better known before the first
    args.out.mkdir(parents=True, exist_ok=True)
    data, top1 = Data(args), {}

    top1["float"] = evaluate(qzoo.create(args.model, pretrained=True).to(args.device), data.testing())

    # Post training quantization
    quant_desc_input = QuantDescriptor(calib_method="histogram")
    quant_nn.QuantConv2d.set_default_quant_desc_input(quant_desc_input)
    quant_nn.QuantLinear.set_default_quant_desc_input(quant_desc_input)
    model = create_model(args)

    with torch.no_grad():
        collect_stats(model, data.calibration(), num_batches=args.calib_batches)
        compute_amax(model, show=4, method="percentile", percentile=99.99)
    top1["percentile 99.99"] = evaluate(model, data.testing())
    calibrated = args.out / f"quant_{args.model}-calibrated.pth"
    torch.save(model.state_dict(), calibrated)

    # Use different calibration
    with torch.no_grad():
        compute_amax(model, method="percentile", percentile=99.9)
        top1["percentile 99.9"] = evaluate(model, data.testing())
        for method in ["mse", "entropy"]:
            compute_amax(model, method=method)
            top1[method] = evaluate(model, data.testing())

    # Quantization aware training
    model.load_state_dict(torch.load(calibrated))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    train_one_epoch(model, criterion, optimizer, data.training(epoch=0))
    top1["one epoch of training"] = evaluate(model, data.testing())
    torch.save(model.state_dict(), args.out / f"quant_{args.model}-finetuned.pth")

    # Further optimization: the tutorial copies resnet.py to put a quantizer on each skip branch
    model = create_model(args)
    console.print(f"{len(add_residual_quantizers(model))} residual quantizers")
    model.to(args.device)
    with torch.no_grad():
        collect_stats(model, data.calibration(), num_batches=args.calib_batches)
        compute_amax(model, method="percentile", percentile=99.99)
    top1["with residual quantizers"] = evaluate(model, data.testing())
    torch.save(model.state_dict(), args.out / f"quant_{args.model}-residual.pth")

    # Export to ONNX
    image = next(data.testing())[0][:1]
    with enable_onnx_export():
        torch.onnx.export(model, (image,), str(args.out / f"quant_{args.model}.onnx"), verbose=False)

    _report(args, top1)
    return top1


def _report(args: argparse.Namespace, top1: dict[str, float]) -> None:
    table = Table("step", "top-1", title=f"{args.model}, quantized as in the tutorial")
    for step, figure in top1.items():
        table.add_row(step, f"{figure:.2f}")
    console.print(table)
    console.print(f"files in {args.out}; as artifacts of the zoo:", soft_wrap=True)
    for step, variant in (("calibrated", "int8"), ("finetuned", "int8_qat"), ("residual", "int8_residual")):
        name = f"{args.model}_{variant}"
        if name in qzoo.list_models():
            console.print(f"  qzoo import {args.out}/quant_{args.model}-{step}.pth --as {name}", soft_wrap=True)


if __name__ == "__main__":
    main()
