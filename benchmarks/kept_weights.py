"""`python -m benchmarks.kept_weights [--write]`: what keeping quantized weights brings, and what it costs.

A kept weight is used as long as the float weight has the same values, so both are compared in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import timm
import torch
import torchvision
from torch import nn

import qzoo
from benchmarks.__main__ import THREADS, Row, paired, table
from benchmarks.document import asked_to_write, publish, where
from qzoo.quant.layers import QuantizedLayer

ROUNDS = 21


def weight_rows(name: str, make: Callable[[], nn.Module]) -> Iterator[Row]:
    """Yields what one image costs with weights quantized in each call, and with kept ones that are only compared."""
    torch.manual_seed(0)
    float_model, x = make().eval(), torch.randn(1, 3, 224, 224)
    quantized = qzoo.calibrate(qzoo.quantize(float_model, "int8"), [x])
    layers = [layer for layer in quantized.modules() if isinstance(layer, QuantizedLayer)]

    def run(model: nn.Module) -> None:
        with torch.inference_mode():
            model(x)

    def anew() -> None:
        for layer in layers:
            layer.refresh()
        run(quantized)

    ratio, seconds = paired(lambda: run(quantized), lambda: run(float_model), ROUNDS)
    yield Row(f"{name}: float forward, 1 image", f"{1000 * seconds:.0f} ms", "")
    yield Row(f"{name}: 1 image, weights compared with those that were quantized / float", f"{ratio:.2f}", "")
    ratio, _ = paired(anew, lambda: run(float_model), ROUNDS)
    yield Row(f"{name}: 1 image, weights quantized anew / float", f"{ratio:.2f}", "")


def main() -> None:
    """Measures, prints, and writes if asked to."""
    write = asked_to_write("benchmarks.kept_weights")
    torch.set_num_threads(THREADS)
    rows = [
        *weight_rows("resnet50", torchvision.models.resnet50),
        *weight_rows("tf_efficientnet_lite0", lambda: timm.create_model("tf_efficientnet_lite0")),
    ]
    publish("kept-weights", f"{table(rows)}\n\nMedian of {ROUNDS} paired runs. {where(THREADS)}.", write)


if __name__ == "__main__":
    main()
