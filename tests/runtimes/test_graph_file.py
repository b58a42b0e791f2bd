"""Files of anybody: read, or refused in one message; never a traceback, and nothing outside the file's folder."""

from __future__ import annotations

import builtins
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.errors import WeightsError
from qzoo.runtimes.graph import constant
from qzoo.runtimes.graph_file import read_graph
from qzoo.runtimes.lint import lint_file
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from tests.runtimes import hostile_onnx as hostile

pytestmark = pytest.mark.runtimes


@pytest.fixture
def model(exported: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(exported)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What Python opens while a file is read."""
    seen: list[str] = []
    original = builtins.open

    def watched(file: object, *arguments: object, **options: object) -> object:
        seen.append(str(file))
        return original(file, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", watched)
    yield seen
    monkeypatch.undo()


@pytest.mark.parametrize("damage", hostile.IMPOSSIBLE, ids=lambda one: one.__name__)
def test_what_is_no_valid_model_is_refused_in_one_message(
    damage: hostile.Damage, model: onnx.ModelProto, folder: Path, opened: list[str]
) -> None:
    damage(model, folder)
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    opened.clear()
    with pytest.raises(WeightsError, match=r"a\.onnx") as caught:
        lint_file(folder / "a.onnx", runtime_named("onnxruntime"))
    assert len(str(caught.value)) < 1500
    assert "\0" not in str(caught.value)
    assert not [name for name in opened if "secret" in name]
    result = CliRunner().invoke(app, ["lint", str(folder / "a.onnx"), "-r", "openvino"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 64, b"no model at all", b"\x08\x07"], ids=["empty", "null", "text", "ir"]
)
def test_what_is_no_model_at_all_is_refused(data: bytes, folder: Path) -> None:
    (folder / "a.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match=r"a\.onnx can't be read as an ONNX model"):
        read_graph(folder / "a.onnx")


def test_what_is_no_file_is_refused(folder: Path, model: onnx.ModelProto) -> None:
    os.mkfifo(folder / "pipe")
    for name in ("missing.onnx", "pipe", "."):
        with pytest.raises(WeightsError, match="There is no file"):
            read_graph(folder / name)
    os.mkfifo(folder / "pipe.bin")
    hostile.external(hostile.weight(model), "pipe.bin")
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"is kept in pipe\.bin, which is no file beside the model"):
        read_graph(folder / "a.onnx")


def test_every_truncated_file_is_refused(exported: bytes, folder: Path) -> None:
    rng = random.Random(0)
    for end in sorted(rng.sample(range(len(exported)), 12)):
        (folder / "a.onnx").write_bytes(exported[:end])
        with pytest.raises(WeightsError, match="can't be read as an ONNX model"):
            read_graph(folder / "a.onnx")


def test_tensors_beside_the_file_are_read(model: onnx.ModelProto, folder: Path) -> None:
    weight = hostile.weight(model)
    expected, name = numpy_helper.to_array(weight), weight.name
    (folder / "weights").mkdir()
    (folder / "weights" / "all.bin").write_bytes(b"before" + weight.raw_data + b"after")
    hostile.external(weight, "weights/all.bin", offset="6", length=str(expected.nbytes))
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    read = read_graph(folder / "a.onnx").graph.initializers[name]
    assert (constant(read) == expected).all()
    assert lint_file(folder / "a.onnx", runtime_named("onnxruntime")).errors == []


def test_names_that_a_terminal_obeys_are_shown_harmless(model: onnx.ModelProto, folder: Path) -> None:
    hostile.node(model, "Relu").name = "\x1b[2J\0"
    node = hostile.node(model, "QuantizeLinear", 1)
    node.name = "a\0\x1b[31mb\u202e"
    node.input[1] = "no.scale"
    model.graph.initializer.append(helper.make_tensor("no.scale", TensorProto.FLOAT, [], [-1.0]))
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    result = CliRunner().invoke(app, ["lint", str(folder / "a.onnx"), "-r", "onnxruntime"])
    assert result.exit_code == 1
    assert r"bad-scale: a\x00\x1b[31mb\u202e: its scale holds -1.0" in " ".join(result.output.split())
    assert not {"\0", "\x1b", "\u202e"} & set(result.output)


def test_layers_in_branches_and_other_domains_are_read(model: onnx.ModelProto, folder: Path) -> None:
    value = helper.make_tensor_value_info("then", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", [model.graph.output[0].name], ["then"])], "b", [], [value])
    model.graph.initializer.append(helper.make_tensor("if", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("If", ["if"], ["chosen"], then_branch=branch, else_branch=branch))
    model.opset_import.append(helper.make_opsetid("com.nobody", 1))
    for op_type in ("Conv", "QuantizeLinear", "DequantizeLinear", "BatchNormalization", "Add", "Clip", "Pad"):
        model.graph.node.append(helper.make_node(op_type, ["chosen"], [f"{op_type}.own"], domain="com.nobody"))
        model.graph.node.append(helper.make_node(op_type, [hostile.pair(model).output[0]], [], domain="com.nobody"))
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    for name in RUNTIMES:
        lint_file(folder / "a.onnx", runtime_named(name))
    report = lint_file(folder / "a.onnx", runtime_named("onnxruntime"))
    assert (report.quantized, report.layers) == (6, 6), "those of another domain are no layers"


@pytest.mark.parametrize("damage", [hostile.quantizer_without_scale, hostile.axis_of_a_string])
def test_quantizers_of_onnx_runtime_s_domain_are_held_to_theirs(
    damage: hostile.Damage, model: onnx.ModelProto, folder: Path
) -> None:
    for node in model.graph.node:
        node.domain = "com.microsoft" if node.op_type.endswith("eLinear") else ""
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    assert lint_file(folder / "a.onnx", runtime_named("onnxruntime")).quantized == 6
    damage(model, folder)
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="it has other inputs or attributes"):
        read_graph(folder / "a.onnx")


@pytest.mark.parametrize("lowest", [[], [0.0, 0.0], 0.0])
def test_a_long_chain_of_activations_and_any_lowest_value_are_read(
    lowest: object, model: onnx.ModelProto, folder: Path
) -> None:
    layer, quantizer = hostile.node(model, "Conv"), hostile.node(model, "QuantizeLinear")
    model.graph.initializer.append(numpy_helper.from_array(np.array(lowest, np.float32), "lowest"))
    chain = [helper.make_node("Conv", layer.input, ["v0"]), helper.make_node("Clip", ["v0", "lowest"], ["v1"])]
    chain += [helper.make_node("Relu", [f"v{place}"], [f"v{place + 1}"]) for place in range(1, 2000)]
    chain += [helper.make_node("Clip", ["v2000", "lowest"], ["v2001"])]
    chain += [helper.make_node("QuantizeLinear", ["v2001", *quantizer.input[1:]], ["stored"])]
    model.graph.node.extend(chain)
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    assert outcome(folder / "a.onnx") == "read"


def outcome(file: Path) -> str:
    try:
        for name in RUNTIMES:
            lint_file(file, runtime_named(name))
    except WeightsError as error:
        return "refused" if len(str(error)) < 1500 else "at length"
    return "read"


def test_names_that_are_no_text_are_refused(exported: bytes, folder: Path) -> None:
    name = onnx.load_from_string(exported).graph.node[0].name.encode()
    (folder / "a.onnx").write_bytes(exported.replace(name, b"\xff" + name[1:]))
    with pytest.raises(WeightsError, match=r"a\.onnx: a \w+ of \w+ is no text in UTF-8"):
        read_graph(folder / "a.onnx")


@pytest.mark.slow
def test_three_hundred_damaged_files_give_no_traceback(exported: bytes, folder: Path) -> None:
    rng, outcomes = random.Random(15), {"read": 0, "refused": 0}
    for _ in range(300):
        (folder / "a.onnx").write_bytes(hostile.damaged(onnx.load_from_string(exported), rng))
        started = time.perf_counter()
        outcomes[outcome(folder / "a.onnx")] += 1
        assert time.perf_counter() - started < 10
    assert min(outcomes.values()) > 50, outcomes
