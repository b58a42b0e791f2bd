from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qzoo.errors import WeightsError
from qzoo.weights.artifact import Header, TensorSpec, versions
from qzoo.weights.kinds import MODEL
from qzoo.weights.model_file import ModelInfo, load_model, save_model, spec_of

EXPECTED = {"conv.weight": TensorSpec("F32", (4, 2)), "conv.bias": TensorSpec("F32", (4,))}
INFO = ModelInfo(name="x_int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, packed=False, **versions())


def sparse(path: Path, header: Header, info: ModelInfo = INFO) -> Path:
    """A file whose header promises tensors of zeros, which take no space on the disk."""
    said, end = json.dumps(info.model_dump()), 0
    content: dict[str, object] = {"__metadata__": {"format": MODEL.format, "info": said, "digest": "0" * 64}}
    for key, (dtype, shape) in header.items():
        start, end = end, end + 4 * torch.Size(shape).numel()
        content[key] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(content).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({**EXPECTED, "conv.bias": TensorSpec("F32", (5,))}, r"conv\.bias is F32 \[5\], expected F32 \[4\]"),
        ({**EXPECTED, "conv.bias": TensorSpec("I32", (4,))}, r"conv\.bias is I32 \[4\], expected F32 \[4\]"),
        ({**EXPECTED, "conv.bias": TensorSpec("F32", (4, 1))}, r"conv\.bias is F32 \[4, 1\], expected F32 \[4\]"),
        (
            {"conv.bias": EXPECTED["conv.bias"]},
            r"1 tensors of the model are missing \(conv\.weight\), 0 unknown \(none",
        ),
        ({**EXPECTED, "../../x": TensorSpec("F32", (1,))}, r"0 tensors .* missing \(none\), 1 unknown \(\.\./\.\./x\)"),
        ({}, r"2 tensors of the model are missing \(conv\.bias, conv\.weight\)"),
    ],
)
def test_other_tensors_than_the_model_has_are_refused(header: Header, text: str, tmp_path: Path) -> None:
    path = sparse(tmp_path / "model.safetensors", header)
    with pytest.raises(WeightsError, match=rf"model\.safetensors does not fit: {text}.*fetch it again"):
        load_model(path, {False: EXPECTED, True: {}})


def test_packed_files_are_compared_with_the_packed_model(tmp_path: Path) -> None:
    tensors = {"conv.weight": torch.zeros(4, dtype=torch.uint8)}
    expected = {"conv.weight": spec_of((4,), torch.uint8)}
    save_model(tmp_path / "x", tensors, INFO.model_copy(update={"packed": True}))
    read, _ = load_model(tmp_path / "x", {False: EXPECTED, True: expected})
    assert torch.equal(read["conv.weight"], tensors["conv.weight"])
    with pytest.raises(WeightsError, match=r"conv\.weight is U8 \[4\], expected F32"):
        load_model(tmp_path / "x", {False: {}, True: {"conv.weight": EXPECTED["conv.weight"]}})


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    whole = torch.arange(8.0)
    save_model(tmp_path / "x", {"a": whole, "b": whole[:4]}, INFO)
    expected = {"a": TensorSpec("F32", (8,)), "b": TensorSpec("F32", (4,))}
    assert torch.equal(load_model(tmp_path / "x", {False: expected, True: {}})[0]["b"], whole[:4])


PROGRAM = """
import resource, sys
from pathlib import Path
from qzoo.errors import WeightsError
from qzoo.weights.artifact import TensorSpec
from qzoo.weights.model_file import load_model

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_model(Path(sys.argv[1]), {False: {"w": TensorSpec("F32", (4,))}, True: {}})
except WeightsError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


def test_a_header_that_claims_eight_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    path = sparse(tmp_path / "model.safetensors", {"w": TensorSpec("F32", (2_000_000_000,))})
    # Within what a model file may have, so that it is the header alone that stops it.
    assert 8_000_000_000 < path.stat().st_size < MODEL.largest
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    kilobytes, _, message = done.stdout.partition(" ")
    assert "w is F32 [2000000000], expected F32 [4]" in message
    assert int(kilobytes) < 50_000


def test_the_digest_covers_names(tmp_path: Path) -> None:
    save_model(tmp_path / "x", {"a": torch.ones(2), "b": torch.zeros(2)}, INFO)
    content = (tmp_path / "x").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"a"', b'"?"').replace(b'"b"', b'"a"').replace(b'"?"', b'"b"')
    assert header != content[8 : 8 + size]
    (tmp_path / "x").write_bytes(content[:8] + header + content[8 + size :])
    expected = dict.fromkeys("ab", TensorSpec("F32", (2,)))
    with pytest.raises(WeightsError, match="is corrupt: its digest does not fit its content"):
        load_model(tmp_path / "x", {False: expected, True: {}})
