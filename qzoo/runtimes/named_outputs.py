"""The outputs of an exported model: each tensor that the model gives, under its name."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from qzoo.quant.inputs import run
from qzoo.quant.outputs import LOGITS, named_tensors


def names_of_outputs(model: nn.Module, inputs: Any) -> list[str]:
    """Returns the names of what a model gives, by running it.

    Raises:
        UnsupportedError: it gives something else than tensors, and containers of them.
    """
    with torch.no_grad():
        return list(named_tensors(run(model, inputs)))


def name_outputs(graph: ir.Graph, names: list[str]) -> None:
    """Gives the outputs of a graph their names; each becomes a value of its own, which is neither input nor constant.

    A name that an input or a constant has gets a number; but what is judged by, `logits`, keeps it, and an empty one
    becomes its place.
    """
    if LOGITS in names and LOGITS in graph.initializers:
        graph.initializers[LOGITS].name = f"{LOGITS}.constant"
    taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
    for place, name in enumerate(names):
        value = graph.outputs[place]
        if value.producer() is None or value in list(graph.outputs)[:place]:
            value = graph.outputs[place] = _copied(graph, value)
        own, number = name or f"output_{place}", 1
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken.add(own)
        value.name = own


def _copied(graph: ir.Graph, value: ir.Value) -> ir.Value:
    node = ir.Node("", "Identity", [value], name=f"{value.name}/Identity")
    graph.append(node)
    copied: ir.Value = node.outputs[0]
    copied.shape, copied.type = value.shape, value.type
    return copied
