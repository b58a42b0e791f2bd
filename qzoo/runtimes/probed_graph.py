"""A graph that also gives the integers of its quantizers, one that is cut at them, and how both differ from a model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qzoo.results.export import NodeParity
from qzoo.runtimes.graph import QUANTIZE, constant, consumers, input_of, nodes
from qzoo.runtimes.runtime import Array

OUTPUT, LOGIT_STEPS = "logits", 127
"""What stands for a last quantizer: the logits, counted in steps of the largest."""
CALL = " (call "
MOST_STEPS = 2.0**31
FLOAT_MAX = float(np.finfo(np.float32).max)


class Differences:
    """Differences of one quantizer, image after image; or of the logits, in steps too."""

    def __init__(self, path: str, step: float, zero_point: int = 0) -> None:
        self.path, self.step, self.zero_point = path, step, zero_point
        self.worst: dict[str, int] = {}
        self.differ: dict[str, int] = {}
        self.values = 0

    def expected(self, y: Array) -> Array:
        """Returns the integers that the fake-quantized model's values stand for, as the graph stores them."""
        return np.rint(y / self.step if self.step else y * 0) + self.zero_point

    def stored(self, found: Array) -> Array:
        """Returns the integers that a graph gives, in float32, or those that its logits stand for."""
        return self.expected(found) if self.path == OUTPUT else found.astype(np.float32)

    def add(self, how: str, expected: Array, found: Array) -> None:
        """Counts what one run found; NaN and Inf are further off than anything."""
        difference = np.nan_to_num(np.abs(expected - self.stored(found)), nan=MOST_STEPS, posinf=MOST_STEPS)
        self.worst[how] = max(self.worst.get(how, 0), int(difference.max(initial=0)))
        self.differ[how] = self.differ.get(how, 0) + int((difference > 0).sum())

    @property
    def is_off_optimized(self) -> bool:
        """Whether it is more than a step off though it is fed rightly, once the graph is optimized."""
        return self.worst.get("optimized_alone", 0) > 1

    @property
    def overflows(self) -> bool:
        """Whether it is off once optimized, but not where inputs are half as large."""
        return self.is_off_optimized and self.worst.get("halved", 0) <= 1

    @property
    def is_wrong(self) -> bool:
        """Whether it is more than a step off though it is fed rightly, and no overflow explains that."""
        return self.worst["alone"] > 1 or (self.is_off_optimized and not self.overflows)

    def report(self) -> NodeParity:
        """Returns what was counted."""
        seen = max(self.values, 1)
        return NodeParity(
            node=self.path,
            alone=self.worst["alone"],
            plain=self.worst["plain"],
            plain_share=self.differ["plain"] / seen,
            optimized=self.worst.get("optimized"),
            optimized_share=self.differ["optimized"] / seen if "optimized" in self.differ else None,
            optimized_alone=self.worst.get("optimized_alone"),
        )


class Logits:
    """Differences of the logits."""

    def __init__(self) -> None:
        self.same, self.images = 0.0, 0
        self.worst = 0.0

    def add(self, expected: Array, found: Array) -> None:
        """Counts a batch; NaN and Inf are further off than anything."""
        # Of images whose output is a map of classes, the share of places counts.
        classes = (one if one.ndim > 1 else one.reshape(-1, 1) for one in (expected, found))
        same = np.equal(*(one.argmax(1) for one in classes))
        self.same += float(same.reshape(len(same), -1).mean(1).sum())
        self.images += len(same)
        off = np.nan_to_num(np.abs(expected - found), nan=FLOAT_MAX, posinf=FLOAT_MAX)
        self.worst = max(self.worst, float(off.max(initial=0)))

    @property
    def agreement(self) -> float:
        """Percent of images with the same top-1."""
        return 100 * self.same / max(self.images, 1)


def activation_quantizers(graph: ir.Graph) -> dict[str, ir.Node]:
    """Returns the QuantizeLinear nodes of activations, in order, by the path of their quantizer.

    A layer that is called again quantizes again: its second node is `path (call 2)`.
    """
    calls: Counter[str] = Counter()
    found: dict[str, ir.Node] = {}
    for node in nodes(graph, QUANTIZE):
        if constant(node.inputs[0]) is None:
            path = (node.name or "").rpartition("/")[0]  # names of modules may hold a slash
            calls[path] += 1
            found[path if calls[path] == 1 else f"{path}{CALL}{calls[path]})"] = node
    return found


def path_of(evaluation: str) -> str:
    """Returns the path of a quantizer, of one of its calls.

    Example:
        >>> path_of("conv.input_quantizer (call 2)")
        'conv.input_quantizer'
    """
    return evaluation.partition(CALL)[0]


def write_probed(source: Path, target: Path, output: int, *, cut: bool = False) -> dict[str, int]:
    """Writes a graph that gives, besides the logits, the integers of each activation's quantizer.

    Returns what 0 is stored as by each quantizer, under the name that `activation_quantizers` gives it.

    Args:
        source: the graph.
        target: the file that is written.
        output: the place of the output that is taken for the logits.
        cut: take the integers of the activations as inputs too, so that each part between quantizers can be fed alone,
            and is optimized as it is in the whole; of FP8, for which numpy has no type, what they stand for.
    """
    model = ir.load(source)
    graph, zero_points = model.graph, {}
    graph.outputs[:] = [graph.outputs[output]]
    for path, node in activation_quantizers(graph).items():
        zero = constant(input_of(node, 2))
        zero_points[path] = 0 if zero is None else int(zero.reshape(-1)[0])
        if cut:
            _feed(graph, path, node)
        graph.outputs.append(node.outputs[0])
    ir.save(model, target)
    return zero_points


def _feed(graph: ir.Graph, path: str, node: ir.Node) -> None:
    zero, fed = constant(input_of(node, 2)), ir.Value(name=f"fed.{path}", shape=node.outputs[0].shape)
    graph.inputs.append(fed)
    if zero is None or zero.dtype.kind in "iu":
        fed.type = ir.TensorType(ir.DataType.UINT8 if zero is None else ir.DataType.from_numpy(zero.dtype))
        node.outputs[0].replace_all_uses_with(fed)
        return
    for pair in consumers(node.outputs[0]):
        fed.shape, fed.type = pair.outputs[0].shape, pair.outputs[0].type
        pair.outputs[0].replace_all_uses_with(fed)
        graph.remove(pair, safe=True)
