"""Channels that can be scaled without a change of what a network computes: who makes them, and which layers read them.

    layer -> (batch norm) -> (ReLU, pooling, ...) -> layers        for equalization
    norm  ->                 (ReLU, pooling, ...) -> layers        for migration from activations to weights

All that lies between is positively homogeneous, `f(s x) = s f(x)` for `s > 0`, channel by channel: what the source is
divided by, the readers are multiplied by. All readers of the tensor have to be layers, which then share the factors; a
tensor that a residual addition reads, or a concatenation, or that the model gives, stays as it is. A depthwise
convolution between two others is a reader of the first and the source of the second: as pairs that are equalized in
turn, the three come to what the paper's closed form for three gives (arXiv 1906.04721).

ReLU6 is not homogeneous: `min(s x, 6) = s min(x, 6 / s)`. But a channel that stays below 6 does not see it, so it may
be scaled as long as it stays there; one that is clipped keeps its scale. See `limits.py`.

What is found here is what the graph promises; `probing.py` holds it against what the network computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from qzoo.models.tracing import OperatorCall
from qzoo.optimization.channels.network import Network
from qzoo.quant.layers import WEIGHTED, output_channel_axis
from qzoo.quant.operators.spellings import MOVES

NORMS = ("batch_norm", "layer_norm", "group_norm", "rms_norm")
SAME = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "contiguous", "clone",
    "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16", "alias",
})  # fmt: skip
"""What changes no value, in evaluation."""
HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})
CLIPPING = frozenset({"hardtanh", "relu6"})
REDUCING = frozenset({"mean", "sum", "amax"})
"""Over places of an image, or over channels: only what is computed tells."""
JOINING = frozenset({"flatten", "reshape", "view", "squeeze", "pad"}) | REDUCING
OF_SHAPE = frozenset({
    "empty_like", "ones_like", "zeros_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full",
    "new_tensor",
})  # fmt: skip
"""What sees the shape of a tensor, and no value."""
_POOL = re.compile(r"(?:adaptive_)?(?:max|avg)_pool([123])d")


@dataclass(frozen=True)
class Reader:
    """A layer that reads channels of a source.

    Attributes:
        index: of its evaluation.
        name: its path; of a layer that nobody calls, the path of its weight.
        key: of its weight, in the state dict.
        given: the name of the operand that reads the channels.
        operand: the name of the operand that the weight is.
        axis: that the output channels of the weight lie along.
        inputs: the number of its input channels.
        channel_axis: the axis of its input that the channels lie along, from the end.
        between: the operators between source and reader.
    """

    index: int
    name: str
    key: str
    given: str
    operand: str
    axis: int
    inputs: int
    channel_axis: int
    between: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Channels that are scaled together.

    Attributes:
        source: path of the layer or norm that makes them.
        index: of the last evaluation before what lies between: of the layer, of the batch norm after it, or the norm.
        channels: how many.
        channel_axis: the axis of what the source gives that they lie along.
        key: of the layer's weight; None where the source is a norm.
        axis: that the output channels of that weight lie along.
        norm: path of the batch norm after the layer, or of the source if it is a norm; None where there is none.
        readers: all layers that read them.
        ceiling: where they are clipped on their way, 6 of ReLU6; None where they are not.
    """

    source: str
    index: int
    channels: int
    channel_axis: int
    key: str | None
    axis: int
    norm: str | None
    readers: tuple[Reader, ...] = ()
    ceiling: float | None = None

    @property
    def path(self) -> str:
        """How people know it: `conv1 -> conv2`."""
        return f"{self.source} -> {', '.join(reader.name for reader in self.readers)}"


@dataclass(frozen=True)
class Apart:
    """A layer or norm whose channels can't be scaled, and why."""

    source: str
    reason: str


def layer_groups(network: Network) -> list[Group | Apart]:
    """Returns what each convolution or linear layer makes, in the order of evaluation."""
    return [_completed(network, group) for one in network.evaluations if (group := _layer(network, one))]


def norm_groups(network: Network) -> list[Group | Apart]:
    """Returns what each norm with a weight of its own makes, in the order of evaluation."""
    return [_completed(network, group) for one in network.evaluations if (group := _norm(network, one))]


def layer_before(network: Network, norm: OperatorCall) -> OperatorCall | None:
    """Returns the convolution or linear layer that a batch norm alone reads; None where there is none."""
    before = network.evaluations[norm.inputs[0]] if norm.op == "batch_norm" and len(norm.inputs) == 1 else None
    if before is None or network.is_output(before.index) or len(network.readers(before.index)) != 1:
        return None
    return before if _layer_key(network, before) and _has_statistics(network, norm) else None


def _layer_key(network: Network, evaluation: OperatorCall) -> str | None:
    """Returns the key of the weight of a layer that is called, if its outputs can be scaled by it."""
    key, module = network.weight_key(evaluation), network.module(evaluation)
    if key is None or not isinstance(module, WEIGHTED) or key != f"{evaluation.module}.weight".lstrip("."):
        return None
    others = [parameter for parameter in evaluation.parameters if parameter != key]
    bias = f"{evaluation.module}.bias".lstrip(".")
    return key if others in ([], [bias]) and all(map(network.is_read_once, others)) else None


def _has_statistics(network: Network, evaluation: OperatorCall) -> bool:
    module = network.module(evaluation)
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_var is None:
        return False
    return all(map(network.is_read_once, evaluation.parameters)) and _norm_axis(evaluation) == 1


def _layer(network: Network, evaluation: OperatorCall) -> Group | None:
    key = _layer_key(network, evaluation)
    if key is None:
        return None
    layer, (shape,) = network.module(evaluation), evaluation.results
    axis = len(shape) - (1 if isinstance(layer, nn.Linear) else len(layer.kernel_size) + 1)  # type: ignore[arg-type]
    found = Group(evaluation.module, evaluation.index, shape[axis], axis, key, output_channel_axis(layer), norm=None)
    norms = [one for one in network.readers(evaluation.index) if layer_before(network, one) is evaluation]
    return replace(found, index=norms[0].index, norm=norms[0].module) if norms and axis == 1 else found


def _norm(network: Network, evaluation: OperatorCall) -> Group | None:
    """Returns what a norm makes, if it has a weight for each channel that nobody else reads."""
    weight = network.vector(evaluation.module, "weight") if evaluation.op in NORMS else None
    own = {f"{evaluation.module}.{name}".lstrip(".") for name in ("weight", "bias")}
    if weight is None or weight.dim() != 1 or not set(evaluation.parameters) <= own or not evaluation.parameters:
        return None
    if not all(map(network.is_read_once, evaluation.parameters)):
        return None
    axis = _norm_axis(evaluation)
    found = Group(evaluation.module, evaluation.index, len(weight), axis, None, 0, norm=evaluation.module)
    return found if evaluation.results[0][axis] == len(weight) else None


def _norm_axis(evaluation: OperatorCall) -> int:
    return 1 if evaluation.op in ("batch_norm", "group_norm") else len(evaluation.results[0]) - 1


class _ApartError(Exception):
    """Why the channels can't be scaled."""


def _completed(network: Network, group: Group) -> Group | Apart:
    start = _Way(group.index, group.channel_axis)
    try:
        ends = list(_followed(network, group, start))
    except _ApartError as reason:
        return Apart(group.source, str(reason))
    ceilings = [way.ceiling for _, way in ends if way.ceiling is not None]
    if not ends:
        return Apart(group.source, "no layer reads it")
    return replace(group, readers=tuple(reader for reader, _ in ends), ceiling=min(ceilings, default=None))


@dataclass(frozen=True)
class _Way:
    """How far a tensor was followed: the evaluation that gives it, where its channels lie, and what was passed."""

    index: int
    axis: int | None
    between: tuple[str, ...] = ()
    ceiling: float | None = None


def _followed(network: Network, group: Group, way: _Way) -> Iterator[tuple[Reader, _Way]]:
    if network.is_output(way.index):
        raise _ApartError("the model gives it")
    for one in network.readers(way.index):
        key = network.weight_key(one)
        if one.op in OF_SHAPE:
            continue
        if key is not None:
            yield _reader(network, group, one, key, way), way
        elif (further := _passed(network, one, way)) is not None:
            yield from _followed(network, group, further)
        else:
            raise _ApartError(f"{one.op} of {one.module or 'the model'} reads it")


def _passed(network: Network, one: OperatorCall, way: _Way) -> _Way | None:
    """Returns the way beyond an operator; None where its channels are not scaled as what it is given is."""
    if one.inputs != (way.index,) or not one.shapes or one.reads:
        return None
    axis, ceiling = way.axis, way.ceiling
    if one.op in CLIPPING:
        own = _ceiling(network.module(one), one.op)
        # Of what is computed before it is clipped, only what moves values or takes the largest has the same bounds.
        if own is None or axis is None or not all(op in SAME or _POOL.fullmatch(op) for op in way.between):
            return None
        ceiling = own if ceiling is None else min(own, ceiling)
    elif pool := _POOL.fullmatch(one.op):
        axis = axis if axis == len(one.shapes[0]) - int(pool[1]) - 1 else None
    elif one.op in MOVES - SAME or one.op in REDUCING:
        axis = _moved(axis, one)
    elif one.op not in SAME | HOMOGENEOUS:
        return None
    return _Way(one.index, axis, (*way.between, one.op), ceiling)


def _ceiling(module: nn.Module, op: str) -> float | None:
    if op == "relu6":
        return 6.0
    return float(module.max_val) if isinstance(module, nn.Hardtanh) and module.min_val == 0 else None


def _moved(axis: int | None, one: OperatorCall) -> int | None:
    """Returns where channels lie after an operator that only joins or drops what lies behind them; else None."""
    before, after = one.shapes[0], one.results[0]
    if axis is None or one.op not in JOINING or len(after) <= axis or after[:axis] != before[:axis]:
        return None
    return axis if after[axis] % before[axis] == 0 else None


def _reader(network: Network, group: Group, one: OperatorCall, key: str, way: _Way) -> Reader:
    (operand,), (given,) = one.reads, one.operands
    read, channel_axis = one.reads[operand], 1 - len(one.reads[operand].size)
    if operand == "left":
        raise _ApartError(f"{key} is multiplied by it, and not it by {key}")
    inputs = one.shapes[0][channel_axis]
    if inputs != group.channels and not _is_flattened(network, group, way, inputs):
        raise _ApartError(f"{key} reads {inputs} channels of its {group.channels}")
    name = key.removesuffix(".weight").removesuffix("_weight")
    return Reader(one.index, name, key, given, operand, read.axis or 0, inputs, channel_axis, way.between)


def _is_flattened(network: Network, group: Group, way: _Way, inputs: int) -> bool:
    """Whether a linear layer reads the places of each channel side by side."""
    shape = network.evaluations[way.index].results[0]
    return way.axis is not None and way.axis == len(shape) - 1 and inputs % group.channels == 0
