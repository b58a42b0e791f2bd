"""A network and pictures of one's own on the command line, by `--model` alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from qzoo.cli.main import app
from qzoo.data import lookup
from qzoo.schema.datasets import OWN_DATASETS

FILE = """\
import qzoo
import torch
from torch import nn
from torchvision.transforms import v2

pictures = [(torch.full((3, 8, 8), 20 * n, dtype=torch.uint8), n % 2) for n in range(12)]
qzoo.register_dataset("of_this_file", {"train": pictures[:8], "val": pictures[8:]})


def net(num_classes=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


net.transform = v2.Compose([v2.ToImage(), v2.Resize(8), v2.ToDtype(torch.float32, scale=True)])
"""


@pytest.fixture(autouse=True)
def _own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("qzoo.tasks.inputs.images.default_workers", lambda _: 0)
    Path("own_nets.py").write_text(FILE)
    yield
    sys.modules.pop("own_nets", None)
    OWN_DATASETS.pop("of_this_file", None)
    lookup._own_readers.pop("of_this_file", None)


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def test_from_a_class_to_a_figure() -> None:
    code = ("--model", "own_nets.py:net")
    made = qzoo("new", "python/net", "--dataset", "of_this_file", *code)
    assert "qzoo explain net.yaml:int8 --model own_nets.py:net" in made.output, made.output
    written = Path("net.yaml").read_text()
    assert "# The transform comes with the weights: 8x8" in written
    Path("net.yaml").write_text(written.replace("images: 1024", "images: 8"))
    for command in (
        ("validate", "net.yaml"), ("explain", "net.yaml:int8"), ("calibrate", "net.yaml:int8"),
        ("evaluate", "net.yaml:int8", "--receipt", "r.safetensors"),
        ("verify", "net.yaml:int8", "--receipt", "r.safetensors"), ("sensitivity", "net.yaml:int8", "--mend", "1"),
    ):  # fmt: skip
        done = qzoo(*command, *code)
        assert done.exit_code == 0, done.output
        assert "note: --model" not in done.output
    Path("photos").mkdir()
    for n in range(16):
        Image.new("RGB", (8, 8), (20 * (n % 8),) * 3).save(f"photos/{n:02}.png")
    done = qzoo("check", "net.yaml:int8", "--data", "photos", "--workers", "0", *code)
    assert done.exit_code == 0, done.output
    assert "net_int8 on 16 images: " in done.output
    assert done.output.splitlines()[-1] == "next ship it: qzoo export net.yaml:int8 --model own_nets.py:net"


@pytest.mark.parametrize("verb", ["explain", "calibrate", "evaluate"])
def test_without_the_code_it_is_said_how_to_give_it(verb: str) -> None:
    Path("net.yaml").write_text("base: {source: python, architecture: net}\ndataset: x\nvariants: {int8: {}}\n")
    done = qzoo(verb, "net.yaml:int8")
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    if verb != "evaluate":
        assert "net.yaml:1: base.architecture: The base is a class of one's own, 'net', and nobody gave" in said
    advised = "--model" if verb != "evaluate" else "qzoo calibrate net.yaml:int8"
    assert advised in said
