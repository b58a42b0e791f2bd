"""Models of the libraries with residual and operator quantizers: off they are the float model, on they train."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qzoo.models.bases import create_base
from qzoo.models.operators import find_operators
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.calibration.collecting import collecting, solve_ranges
from qzoo.quant.ranges import quantizers
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.resolve import resolve_scheme

# Name, image size, keywords, residual additions.
TORCHVISION = [
    ("resnet18", 32, {}, 8), ("mobilenet_v2", 32, {}, 10), ("regnet_y_400mf", 32, {}, 16),
    ("convnext_tiny", 32, {}, 18), ("swin_t", 64, {}, 24), ("vit_b_16", 32, {"image_size": 32}, 24),
]  # fmt: skip
TIMM = [
    ("test_vit", 160, {"drop_path_rate": 0.5}, 12), ("test_resnet", 64, {"drop_path_rate": 0.5}, 4),
    ("test_efficientnet", 64, {}, 0), ("efficientnet_b0", 32, {"drop_path_rate": 0.5}, 9),
    ("test_convnext", 64, {"drop_path_rate": 0.5}, 9), ("test_byobnet", 64, {}, 4), ("test_nfnet", 64, {}, 4),
    ("repvgg_a0", 32, {}, 39), ("poolformer_s12", 64, {}, 24),
]  # fmt: skip
MODELS = [("torchvision", *one) for one in TORCHVISION] + [("timm", *one) for one in TIMM]


def make(source: str, name: str, keywords: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return create_base(Base(source=source, architecture=name), **keywords)


def tiny(name: str) -> tuple[Any, Tensor]:
    # A new timm ResNet ends each branch in a batch norm of zeros, and has nothing to calibrate there.
    keywords = {"test_resnet": {"zero_init_last": False}, "test_vit": {"img_size": 64}}.get(name, {})
    return make("timm", name, keywords), torch.randn(2, 3, 64, 64)


def both(model: nn.Module, scheme: str, x: Tensor) -> Any:
    quantize_in_place(model, with_call(resolve_scheme(scheme), residual="both"), x)
    return model


def calibrated(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad(), collecting(model) as collection:
        model(x)
    solve_ranges(model, collection)


@pytest.mark.parametrize(("source", "name", "size", "keywords", "residuals"), MODELS, ids=str)
def test_while_off_it_is_the_float_model(
    source: str, name: str, size: int, keywords: dict[str, Any], residuals: int, silent: None
) -> None:
    model, x = make(source, name, keywords), torch.randn(2, 3, size, size)
    quantized = both(copy.deepcopy(model), "int8_vit", x)
    assert len([path for path in quantizers(quantized) if "residual" in path]) == 2 * residuals
    with torch.no_grad():
        assert torch.equal(quantized(x), model(x))
    model.train(), quantized.train()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        assert torch.equal(quantized(x), expected)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
class TestWhileQuantizing:
    def test_every_quantizer_is_reached_once(self, name: str) -> None:
        model, x = tiny(name)
        both(model, "int8_vit", x)
        calibrated(model, x)
        seen: list[str] = []
        for path, quantizer in quantizers(model).items():
            quantizer.register_forward_hook(lambda *_, path=path: seen.append(path))
        with torch.no_grad():
            model(x)
        assert sorted(seen) == sorted(quantizers(model))

    def test_gradients_flow_to_every_parameter(self, name: str) -> None:
        model, x = tiny(name)
        both(model, "int8_vit", x)
        calibrated(model, x)
        model.train()(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert all(p.grad.any() for path, p in model.named_parameters() if path.endswith("conv1.weight"))

    def test_copies_files_and_dtypes_compute_the_same(self, name: str) -> None:
        model, x = tiny(name)
        fresh = both(copy.deepcopy(model), "int8_vit", x)
        both(model, "int8_vit", x)
        calibrated(model, x)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        fresh.load_state_dict(model.state_dict())
        with torch.no_grad():
            expected = model(x)
            for again in (copy.deepcopy(model), torch.load(file, weights_only=False), fresh):
                assert torch.equal(again(x), expected)
            ranges = {path: quantizer.amax.clone() for path, quantizer in quantizers(model).items()}
            assert model.to(torch.bfloat16)(x.bfloat16()).isfinite().all()
        assert all(torch.equal(quantizer.amax, ranges[path]) for path, quantizer in quantizers(model).items())


@pytest.mark.slow
def test_a_reused_block_compiles() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    model, x = nn.Sequential(block, nn.Linear(8, 8), block).eval(), torch.randn(2, 5, 8)
    both(model, "int8", x)
    assert len([path for path in quantizers(model) if "residual" in path]) == 8
    calibrated(model, x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
        assert torch.equal(compiled(-x), model(-x))


def test_a_meta_model_has_the_same_operators() -> None:
    with torch.device("meta"):
        meta = make("timm", "test_vit", {})
    assert find_operators(meta) == find_operators(make("timm", "test_vit", {}))
