"""Reading an ONNX file of anybody: what comes out is valid ONNX, and holds every value that a rule looks at.

Nothing outside the file's own folder is read, nothing is run, and what a file says of sizes is held against the bytes
that are there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from qzoo.errors import WeightsError, shown
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, input_of, nodes

MOST_BYTES = 2**31 - 1
"""What protobuf can read."""
MOST_NODES = 1_000_000
"""Nodes of a graph, with those of its functions wherever they are called."""
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators, which has the two of quantization for more types."""
NO_NUMBERS = (ir.DataType.STRING, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def read_graph(path: Path) -> ir.Model:
    """Returns the graph of a file, all its constants loaded.

    Args:
        path: the path of the file; tensors that it keeps in other files have to lie in its folder.

    Raises:
        WeightsError: it is missing, damaged, too large, no valid ONNX, or names files outside its folder.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.")
    if path.stat().st_size > MOST_BYTES:
        raise WeightsError(f"{path} has more than the {MOST_BYTES:,} bytes that an ONNX file can have.")
    try:
        return _read(path)
    except WeightsError:
        raise
    except Exception as error:  # whatever protobuf, the checker and the reader have for a damaged file
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path} can't be read as an ONNX model ({type(error).__name__}{f': {shown(reason)}' if reason else ''}). "
            "Export it anew, or hold it against onnx.checker."
        ) from error


def _read(path: Path) -> ir.Model:
    proto = onnx.load(path, format="protobuf", load_external_data=False)
    if not proto.graph.node:
        raise WeightsError(f"{path} can't be read as an ONNX model: there is no graph in it.")
    for message in _messages(proto):
        _check_texts(message, path)
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message, path)
    _check_functions(proto, path)
    onnx.checker.check_model(str(path), full_check=True)
    model = ir.from_proto(proto)
    ir.external_data.set_base_dir(model.graph, path.parent)
    for value in model.graph.initializers.values():
        constant(value)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if any(attribute.is_ref() for attribute in node.attributes.values()):
            raise WeightsError(f"{path}: {_called(node)} takes an attribute from a function, but is in none.")
        if node.domain and not (node.domain == MICROSOFT and node.op_type in (QUANTIZE, DEQUANTIZE)):
            node.op_type = f"{node.domain}::{node.op_type}"  # a Conv of anybody's own is none to the rules
    _check_quantizers(model.graph, path)
    return model


def _messages(message: Any) -> Iterator[Any]:
    """Yields a message of protobuf and every one inside, such as nodes, attributes, subgraphs and tensors."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if isinstance(value, Iterable) else [value]:
                yield from _messages(one)


def _check_texts(message: Any, path: Path) -> None:
    """Refuses names that are no UTF-8, which protobuf hands on as bytes."""
    for field, value in message.ListFields():
        texts = [value] if isinstance(value, (str, bytes)) else value
        if field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in texts):
            raise WeightsError(f"{path}: a {field.name} of {type(message).__name__} is no text in UTF-8.")


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    if any(size < 0 for size in tensor.dims):
        raise WeightsError(f"{path}: tensor {shown(tensor.name)} has a size below 0: {list(tensor.dims)[:8]}.")
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        _check_external(tensor, path)


def _check_external(tensor: onnx.TensorProto, path: Path) -> None:
    said = {entry.key: entry.value for entry in tensor.external_data}
    location, offset = said.get("location", ""), _number(said.get("offset", "0"))
    name = f"{path}: tensor {shown(tensor.name)}"
    folder = os.path.realpath(path.parent)
    file = "" if "\0" in location else os.path.realpath(os.path.join(folder, location))
    if not location or os.path.isabs(location) or os.path.commonpath([folder, file or os.sep]) != folder:
        raise WeightsError(f"{name} is kept in {shown(location) or 'no file'}, outside the model's folder; not read.")
    if not os.path.isfile(file):
        raise WeightsError(f"{name} is kept in {shown(location)}, which is no file beside the model.")
    needed = math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth / 8)
    length = _number(said.get("length", str(needed)))
    if offset is None or length != needed or offset + needed > os.path.getsize(file):
        place = f"offset {shown(said.get('offset', 0))}, length {shown(said.get('length', needed))}"
        raise WeightsError(
            f"{name} needs {needed:,} bytes of {shown(location)}; the model says {place}, and the file has "
            f"{os.path.getsize(file):,}."
        )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _check_functions(proto: onnx.ModelProto, path: Path) -> None:
    """Refuses functions that call themselves, or together come to more nodes than there can be."""
    bodies = {(one.domain, one.name): one.node for one in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_ones: set[tuple[str, str]] = set()

    def size(key: tuple[str, str]) -> int:
        if key in open_ones:
            raise WeightsError(f"{path}: function {shown(key[1])} calls itself.")
        if key not in sizes:
            open_ones.add(key)
            sizes[key] = total(bodies[key])
            open_ones.remove(key)
        return sizes[key]

    def total(body: Iterable[onnx.NodeProto]) -> int:
        calls = [(node.domain, node.op_type) for node in _all_nodes(body)]
        return sum(1 + (size(call) if call in bodies else 0) for call in calls)

    if total(proto.graph.node) + sum(size(key) for key in bodies) > MOST_NODES:
        raise WeightsError(f"{path} has more than {MOST_NODES:,} nodes.")


def _all_nodes(body: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in body:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)


def _check_quantizers(graph: ir.Graph, path: Path) -> None:
    """Refuses what the checker lets pass: quantizers whose constants hold nothing, or a scale of another type."""
    for node in nodes(graph, QUANTIZE, DEQUANTIZE):
        axis = node.attributes.get("axis")
        if len(node.inputs) < 2 or len(node.outputs) != 1 or (axis and axis.type != ir.AttributeType.INT):
            raise WeightsError(f"{path}: {_called(node)} is no {node.op_type}: it has other inputs or attributes.")
        for place, what in enumerate(("values", "scale", "zero point")):
            value = input_of(node, place)
            array = constant(value)
            if array is not None and array.size == 0:
                raise WeightsError(f"{path}: the {what} of {_called(node)} holds nothing.")
            if place == 1 and value is not None and value.dtype not in (None, *FLOATS):
                raise WeightsError(f"{path}: the scale of {_called(node)} is {value.dtype}, not a float type.")
            if value is not None and value.dtype in NO_NUMBERS:
                raise WeightsError(f"{path}: the {what} of {_called(node)} is {value.dtype}, not a type of numbers.")


def _called(node: ir.Node) -> str:
    return shown(node.name or f"a {node.op_type} without a name")
