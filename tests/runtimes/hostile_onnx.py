"""Ways to damage an ONNX file, and one that is damaged at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

Damage = Callable[[onnx.ModelProto, Path], Any]

STRINGS = ["", "\0", "a\0b", "x" * 5000, "../../etc/passwd", "\x1b[2J", "\u202e"]


def node(model: onnx.ModelProto, op_type: str, place: int = 0) -> onnx.NodeProto:
    return [one for one in model.graph.node if one.op_type == op_type][place]


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(one for one in model.graph.initializer if one.name == name)


def scale(model: onnx.ModelProto) -> onnx.TensorProto:
    return tensor(model, node(model, "QuantizeLinear").input[1])


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    names = {one.name for one in model.graph.initializer}
    return tensor(
        model, next(n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in names)
    )


def pair(model: onnx.ModelProto) -> onnx.NodeProto:
    """The first DequantizeLinear of an activation."""
    quantized = node(model, "QuantizeLinear").output[0]
    return next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == quantized)


def external(of: onnx.TensorProto, location: str, **more: str) -> None:
    of.ClearField("raw_data")
    of.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        of.external_data.add(key=key, value=value)


def wrong_length(model: onnx.ModelProto, folder: Path) -> None:
    weight(model).raw_data = weight(model).raw_data[:-3]


def huge_dims(model: onnx.ModelProto, folder: Path) -> None:
    weight(model).dims[0] = 2**62


def negative_dims(model: onnx.ModelProto, folder: Path) -> None:
    weight(model).dims[0] = -1


def no_dims(model: onnx.ModelProto, folder: Path) -> None:
    del weight(model).dims[:]


def string_scale(model: onnx.ModelProto, folder: Path) -> None:
    found = scale(model)
    name = found.name
    found.CopyFrom(helper.make_tensor(name, TensorProto.STRING, [], [b"one"]))


def whole_number_scale(model: onnx.ModelProto, folder: Path) -> None:
    found = scale(model)
    found.CopyFrom(helper.make_tensor(found.name, TensorProto.INT8, [], [1]))


def empty_scale(model: onnx.ModelProto, folder: Path) -> None:
    found = scale(model)
    found.CopyFrom(helper.make_tensor(found.name, TensorProto.FLOAT, [0], []))


def unknown_type(model: onnx.ModelProto, folder: Path) -> None:
    weight(model).data_type = 999


def cyclic(model: onnx.ModelProto, folder: Path) -> None:
    first, last = node(model, "Conv"), node(model, "Conv", -1)
    first.input[0] = last.output[0]


def two_of_one_output(model: onnx.ModelProto, folder: Path) -> None:
    node(model, "Conv", 1).output[0] = node(model, "Conv").output[0]


def two_initializers_of_one_name(model: onnx.ModelProto, folder: Path) -> None:
    model.graph.initializer.append(weight(model))


def quantizer_without_scale(model: onnx.ModelProto, folder: Path) -> None:
    del node(model, "QuantizeLinear").input[1:]


def layer_without_inputs(model: onnx.ModelProto, folder: Path) -> None:
    del node(model, "Conv").input[:]


def layer_without_weight(model: onnx.ModelProto, folder: Path) -> None:
    node(model, "Conv").input[1] = ""


def node_without_outputs(model: onnx.ModelProto, folder: Path) -> None:
    del node(model, "Conv").output[:]


def missing_input(model: onnx.ModelProto, folder: Path) -> None:
    node(model, "Conv").input[0] = "nobody"


def axis_of_a_string(model: onnx.ModelProto, folder: Path) -> None:
    found = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.attribute)
    del found.attribute[:]
    found.attribute.append(helper.make_attribute("axis", "one"))


def transposed_by_a_float(model: onnx.ModelProto, folder: Path) -> None:
    found = node(model, "Gemm")
    del found.attribute[:]
    found.attribute.append(helper.make_attribute("transB", 1.5))


def unknown_domain(model: onnx.ModelProto, folder: Path) -> None:
    node(model, "Relu").domain = "com.nobody"


def no_graph(model: onnx.ModelProto, folder: Path) -> None:
    model.ClearField("graph")


def no_opset(model: onnx.ModelProto, folder: Path) -> None:
    del model.opset_import[:]


def function_that_calls_itself(model: onnx.ModelProto, folder: Path) -> None:
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    body = [helper.make_node("f", ["x"], ["y"], domain="mine")]
    model.functions.append(helper.make_function("mine", "f", ["x"], ["y"], body, opset))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    found = node(model, "Relu")
    found.op_type, found.domain = "f", "mine"


def functions_that_double(model: onnx.ModelProto, folder: Path) -> None:
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    for depth in range(40):
        called, domain = (f"f{depth - 1}", "mine") if depth else ("Relu", "")
        body = [
            helper.make_node(called, ["x"], ["z"], domain=domain),
            helper.make_node(called, ["z"], ["y"], domain=domain),
        ]
        model.functions.append(helper.make_function("mine", f"f{depth}", ["x"], ["y"], body, opset))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    found = node(model, "Relu")
    found.op_type, found.domain = "f39", "mine"


def absolute_path(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(weight(model).raw_data)
    external(weight(model), str(folder.parent / "secret"))


def path_above(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(weight(model).raw_data)
    external(weight(model), "../secret")


def link_to_outside(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(weight(model).raw_data)
    (folder / "link").symlink_to(folder.parent / "secret")
    external(weight(model), "link")


def folder_that_links_outside(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(weight(model).raw_data)
    (folder / "sub").symlink_to(folder.parent)
    external(weight(model), "sub/secret")


def missing_file(model: onnx.ModelProto, folder: Path) -> None:
    external(weight(model), "nowhere.bin")


def null_byte_in_a_path(model: onnx.ModelProto, folder: Path) -> None:
    external(weight(model), "a\0b")


def short_file(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "short.bin").write_bytes(weight(model).raw_data[:-1])
    external(weight(model), "short.bin")


def offset_beyond_the_file(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "all.bin").write_bytes(weight(model).raw_data)
    external(weight(model), "all.bin", offset="1000000000000")


def offset_of_words(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "all.bin").write_bytes(weight(model).raw_data)
    external(weight(model), "all.bin", offset="-1")


def huge_length(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "all.bin").write_bytes(weight(model).raw_data)
    external(weight(model), "all.bin", length="9" * 5000)


def external_strings(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "all.bin").write_bytes(b"0" * 4000)
    scale(model).data_type = TensorProto.STRING
    external(scale(model), "all.bin")


def attribute_outside_the_folder(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"\0" * 4)
    value = helper.make_tensor("c", TensorProto.FLOAT, [1], [0.0])
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.append(helper.make_attribute("value", value))
    constant.attribute[0].t.ClearField("float_data")
    external(constant.attribute[0].t, "../secret")
    model.graph.node.insert(0, constant)


def axis_of_a_function(model: onnx.ModelProto, folder: Path) -> None:
    found = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.attribute)
    found.attribute[0].ref_attr_name = "axis"


def zero_point_of_words(model: onnx.ModelProto, folder: Path) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [], [b"zero"]))
    inputs = [node(model, "QuantizeLinear").output[0], scale(model).name, "words"]
    model.graph.node.append(helper.make_node("DequantizeLinear", inputs, ["w"], domain="com.microsoft"))


IMPOSSIBLE: list[Damage] = [
    wrong_length, huge_dims, negative_dims, no_dims, string_scale, whole_number_scale, empty_scale, unknown_type,
    cyclic, two_of_one_output, two_initializers_of_one_name, quantizer_without_scale, layer_without_inputs,
    layer_without_weight, node_without_outputs, missing_input, axis_of_a_string, transposed_by_a_float, unknown_domain,
    no_graph, no_opset, function_that_calls_itself, functions_that_double, absolute_path, path_above, link_to_outside,
    folder_that_links_outside, missing_file, null_byte_in_a_path, short_file, offset_beyond_the_file, offset_of_words,
    huge_length, external_strings, attribute_outside_the_folder, axis_of_a_function, zero_point_of_words,
]  # fmt: skip


def damaged(model: onnx.ModelProto, rng: random.Random) -> bytes:
    """The bytes of a model in which one field of one message is another, or some bytes are."""
    if rng.random() < 0.2:
        return damaged_bytes(model.SerializeToString(), rng)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        change_a_field(model, rng)
    return model.SerializeToString()


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.randrange(3)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    for _ in range(rng.choice([1, 4, 64])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed) if kind == 1 else bytes(changed[rng.randrange(64) :])


def change_a_field(message: Any, rng: random.Random) -> None:
    """Goes down into a message at random, and changes a field there."""
    fields = list(message.DESCRIPTOR.fields)
    rng.shuffle(fields)
    present = [field for field in fields if field in {one for one, _ in message.ListFields()}]
    below = [field for field in present if field.message_type is not None]
    if below and rng.random() < 0.85:
        value = getattr(message, rng.choice(below).name)
        change_a_field(rng.choice(value) if hasattr(value, "__len__") else value, rng)
        return
    field = rng.choice(present if present and rng.random() < 0.8 else fields)
    value = getattr(message, field.name)
    if rng.random() < 0.3 or field.message_type is not None:
        message.ClearField(field.name)
    elif hasattr(value, "append") and not isinstance(value, bytes):
        change_a_list(value, other(field, rng), rng)
    else:
        setattr(message, field.name, other(field, rng))


def change_a_list(values: Any, new: Any, rng: random.Random) -> None:
    if len(values) and rng.random() < 0.6:
        values[rng.randrange(len(values))] = new
    elif len(values) and rng.random() < 0.5:
        del values[rng.randrange(len(values))]
    else:
        values.append(new)


def other(field: Any, rng: random.Random) -> Any:
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).number
    kinds = {
        field.TYPE_STRING: lambda: rng.choice(STRINGS),
        field.TYPE_BYTES: lambda: rng.randbytes(rng.choice([0, 1, 7, 4096])),
        field.TYPE_FLOAT: lambda: rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e-45]),
        field.TYPE_DOUBLE: lambda: rng.choice([0.0, -1.0, float("nan")]),
        field.TYPE_UINT64: lambda: rng.choice([0, 1, 2**63]),
    }
    numbers = [0, 1, -1, 2, 3, 7, 16, 999] if field.type == field.TYPE_INT32 else [0, 1, -1, 3, 2**31, 2**62, -(2**63)]
    return kinds.get(field.type, lambda: rng.choice(numbers))()
