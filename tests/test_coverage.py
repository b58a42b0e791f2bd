"""docs/coverage.md says what is so, and the sweep behind it notices what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from benchmarks.coverage import page, whole
from benchmarks.coverage.architectures import Architecture, smallest, timm_modules, torchvision_architectures
from benchmarks.coverage.check import Result, check
from benchmarks.coverage.other_spellings import other_skip_additions
from benchmarks.coverage.styles import STYLES, style
from benchmarks.coverage.whole import Whole, check_whole

VARIED = (
    "byobnet", "convnext", "efficientvit_mit", "fastvit", "levit", "nfnet", "resnest", "sknet", "tresnet", "xcit",
)  # fmt: skip


current = pytest.mark.skipif(
    not page.is_current(),
    reason="docs/coverage.md was made with other versions of timm or torchvision: run `make coverage`",
)


@dataclass
class Made:
    """Stands for an architecture."""

    build: Callable[[], nn.Module]
    module: str = "made"
    name: str = "made"

    def sizes(self) -> list[int]:
        return [8]


class Block(nn.Module):
    def __init__(self, forward: Callable[[Block, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.own = nn.Conv2d(3, 3, 1), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self, x)


class TestThePage:
    @current
    def test_has_a_row_for_every_module_and_classifier(self) -> None:
        rows = page.read()
        assert [a.module for a in rows if a.source == "timm"] == timm_modules()
        assert [a for a in rows if a.source == "torchvision"] == torchvision_architectures()

    def test_says_how_many_pass(self) -> None:
        rows = page.read().values()
        passing = {s: sum(r.passes for r in rows if r.architecture.source == s) for s in ("timm", "torchvision")}
        assert f"{passing['timm']} of 98 timm modules and {passing['torchvision']} of 80" in page.PAGE.read_text()
        assert passing["timm"] >= 93
        assert passing["torchvision"] == 80

    @pytest.mark.slow
    @current
    @pytest.mark.parametrize("module", VARIED)
    def test_holds(self, module: str) -> None:
        (row,) = [row for a, row in page.read().items() if (a.source, a.module) == ("timm", module)]
        result = check(row.architecture)
        assert (result.failure, page.residual(result)) == ("", row.residual)
        assert (result.quantizers["weight"], result.quantizers["input"]) == (row.weight, row.input)


class TestRows:
    def test_are_read_as_they_were_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page, "PAGE", tmp_path / "coverage.md")
        assert page.read() == {}
        assert not page.is_current()
        passed = Result(Architecture("timm", "a", "a1"), 128, additions=2)
        passed.quantizers.update(weight=3, input=4, residual=1)
        failed = Result(Architecture("torchvision", "b", "b1"), failure="ValueError: a | b")
        page.PAGE.write_text(page.written([passed, failed], [Whole("own class", "x", 99.5, "2 of 2")]))
        assert [tuple(row)[1:] for row in page.read().values()] == [
            (128, 3, 4, "1 of 2", "pass"), (0, 0, 0, "none", "ValueError: a / b"),
        ]  # fmt: skip
        assert "\n1 of 1 timm modules and 0 of 1 torchvision models pass.\n" in page.PAGE.read_text()
        assert "| own class | x | 99.5 | 2 of 2 | 0 | pass |" in page.PAGE.read_text()
        assert page.is_current()


class TestWhole:
    @pytest.mark.parametrize("name", STYLES)
    def test_all_weights_of_a_style_are_quantized(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(whole, "_exported", lambda model, arguments: "")
        found = check_whole("own class", name, lambda: style(name))
        assert (found.failure, found.weights) == ("", 100)

    @pytest.mark.runtimes
    @pytest.mark.parametrize("name", ["MultiheadAttention, packed", "addmm (Conv1D of transformers)", "weight tying"])
    def test_a_style_is_exported_whole(self, name: str) -> None:
        quantized, of, layers = check_whole("own class", name, lambda: style(name)).exported.split()
        assert (of, quantized) == ("of", layers)


class TestCheck:
    def test_counts(self) -> None:
        result = check(Made(lambda: Block(lambda block, x: (x + block.conv(x)).sigmoid())))
        assert (result.failure, result.size) == ("", 8)
        assert result.quantizers == {"input": 1, "weight": 1, "residual": 1}
        assert result.float_operators == {"sigmoid": 1}
        assert page.residual(result) == "1 of 1"

    @pytest.mark.parametrize(("forward", "failure"), [
        (lambda block, x: block.conv(x) / 0, "the quantized output is not finite"),
        (lambda block, x: block.conv(x) + torch.rand(()) * block.training, ""),
        (lambda block, x: block.conv(x) + len(list(block.children())),
         "differs from float in evaluation, quantizers off"),
        (lambda block, x: block.conv(x) + block.training * len(list(block.modules())),
         "differs from float in training, quantizers off"),
        (lambda block, x: block.conv(x.flatten(1)), "RuntimeError: Expected 3D"),
    ])  # fmt: skip
    def test_says_what_failed(self, forward: Callable[[Block, Tensor], Tensor], failure: str) -> None:
        # The skip gives the block itself a quantizer, which its own `children()` shows.
        result = check(Made(lambda: Block(lambda block, x: x + forward(block, x))))
        assert result.failure.startswith(failure)
        assert bool(result.failure) == bool(failure)


class TestOtherSpellings:
    @pytest.mark.parametrize(("forward", "found"), [
        (lambda block, x: x + block.conv(x), {}),
        (lambda block, x: torch.addcmul(x, torch.ones(3, 1, 1), block.conv(x)), {"addcmul": 1}),
        (lambda block, x: torch.addcmul(torch.ones(3, 1, 1), torch.ones(3, 1, 1), block.conv(x)), {}),
        (lambda block, x: x.lerp(block.conv(x), 0.5), {"lerp": 1}),
        (lambda block, x: torch.stack([x, block.conv(x)]).sum(0), {"stack + sum": 1}),
        (lambda block, x: block.conv(x).sum(0), {}),
    ])  # fmt: skip
    def test_are_named(self, forward: Callable[[Block, Tensor], Tensor], found: dict[str, int]) -> None:
        assert other_skip_additions(Block(forward), torch.rand(1, 3, 8, 8)) == found


@pytest.mark.parametrize("module", ["vgg", "visformer"])
def test_the_smallest_architecture_is_found(module: str) -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(parameter.numel() for parameter in timm.create_model(name).parameters())
            for name in timm.list_models(module=module)
        }
    assert smallest(module) == min(sizes, key=sizes.__getitem__)
