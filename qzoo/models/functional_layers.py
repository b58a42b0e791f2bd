"""Layers that nobody calls: operators that read a parameter in the forward of a module that is no layer of torch.

`nn.MultiheadAttention` multiplies by `in_proj_weight`, torchvision's Swin by `self.qkv.weight`, a class of one's own by
`x @ self.w`. The layer is named after its weight. Rules know it by the class that holds the weight, and by the layer of
torch that computes the same: `Linear`, `Conv2d` ...
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from torch import nn

from qzoo.models.tracing import OperatorCall, Trace
from qzoo.quant.layers import is_quantizable
from qzoo.quant.operators.operands import CONVOLUTIONS
from qzoo.schema.resolution.plan import Functional, Layer, Site, WeightRead

LAYER_OF = {name: name.replace("conv", "Conv").replace("_transpose", "Transpose") for name in CONVOLUTIONS}
"""The layer of torch that computes an operator; of all others it is `Linear`: sums of products with a matrix."""


@dataclass
class _Found:
    """A weight, and where it is read.

    Attributes:
        module: path of the module whose own forward reads it.
        operand: the name of the operand that it is.
        weight: as it is read; the path of its parameter is that from the module.
        inputs: names of the operands that are activations.
        calls: how often the module is called in one pass.
        sites: its evaluations.
    """

    module: str
    operand: str
    weight: WeightRead
    inputs: tuple[str, ...]
    calls: int
    sites: list[Site] = field(default_factory=list)


def functional_layers(model: nn.Module, trace: Trace, called: Collection[str]) -> list[Layer]:
    """Returns the layers that operators of other modules' forwards compute, in the order of evaluation.

    Args:
        model: the model that was traced.
        trace: its evaluations.
        called: names of the layers that are called; no other gets one of these.
    """
    names, prefixes = set(called), set[tuple[str, str]]()
    return [_layer(model, found, names, prefixes) for found in _all_found(model, trace).values()]


def _all_found(model: nn.Module, trace: Trace) -> dict[tuple[object, ...], _Found]:
    found: dict[tuple[object, ...], _Found] = {}
    for evaluation in trace.evaluations:
        module = model.get_submodule(evaluation.module)
        if evaluation.reads and evaluation.site and not is_quantizable(module) and not _is_written_to(module):
            for one in _read_by(model, evaluation, trace.calls[evaluation.module]):
                known = found.setdefault((one.module, evaluation.op, one.operand, one.weight), one)
                known.sites.append(evaluation.site)
                known.weight = replace(known.weight, in_parts=known.weight.in_parts or one.weight.in_parts)
                # The first step of a recurrent cell has a state of zeros, which is no activation.
                known.inputs = max(known.inputs, one.inputs, key=len)
    return found


def _is_written_to(module: nn.Module) -> bool:
    """Whether a table of embeddings is one whose rows torch writes to, or that has sparse gradients: neither works."""
    return isinstance(module, nn.Embedding | nn.EmbeddingBag) and (module.sparse or module.max_norm is not None)


def _read_by(model: nn.Module, evaluation: OperatorCall, calls: int) -> Iterator[_Found]:
    """Yields each weight that an operator reads, the first with the first activation, the last with all the rest."""
    module, inputs = model.get_submodule(evaluation.module), list(evaluation.operands)
    last = len(evaluation.reads) - 1
    for place, (operand, read) in enumerate(evaluation.reads.items()):
        own = tuple(inputs[place:] if place == last else inputs[place : place + 1])
        weight = _from_within(model, module, read)
        yield _Found(evaluation.module, operand, weight, own, calls)


def _from_within(model: nn.Module, module: nn.Module, read: WeightRead) -> WeightRead:
    """Returns what is read with the paths from the module that reads it; what that does not hold is computed."""
    paths = {id(one): path for path, one in module.named_parameters(remove_duplicate=False)}
    sources = (read.parameter,) if read.parameter is not None else read.made_of
    own = tuple(path for one in sources if (path := paths.get(id(model.get_parameter(one)))) is not None)
    if read.parameter is not None and own:
        return replace(read, parameter=own[0])
    return replace(read, parameter=None, made_of=own)


def _layer(model: nn.Module, found: _Found, names: set[str], prefixes: set[tuple[str, str]]) -> Layer:
    op, path = found.sites[0].op, found.weight.parameter
    owner, _, parameter = (path or op).rpartition(".")
    wanted = [f"{owner}.{_stem(parameter)}".strip("."), op]
    local = next(one for one in _numbered(wanted) if _joined(found.module, one) not in names)
    prefix = next(one for one in _numbered([local.replace(".", "_")]) if (found.module, one) not in prefixes)
    names.add(name := _joined(found.module, local))
    prefixes.add((found.module, prefix))
    holder = model.get_submodule(_joined(found.module, owner))
    return Layer(
        name,
        (*class_names(holder), LAYER_OF.get(op, "Linear")),
        has_weight=True,
        functional=Functional(
            found.module, f"{prefix}_" if prefix else "", tuple(found.sites), found.inputs, found.operand,
            found.weight, found.calls,
        ),
    )  # fmt: skip


def _stem(parameter: str) -> str:
    """Returns what a layer is called whose weight has a name: `in_proj` of `in_proj_weight`, `` of `weight`."""
    return "" if parameter == "weight" else parameter.removesuffix("_weight").removeprefix("weight_")


def _numbered(names: list[str]) -> Iterator[str]:
    yield from names
    yield from (f"{names[-1] or 'weight'}_{number}" for number in range(2, 1 << 20))


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}".strip(".")


def class_names(module: nn.Module) -> tuple[str, ...]:
    """Returns the names that a rule's `type` may give a module: of its class and bases, plain and with module."""
    classes = [c for c in type(module).__mro__ if issubclass(c, nn.Module) and c is not nn.Module]
    return tuple(name for c in classes for name in (c.__name__, f"{c.__module__}.{c.__qualname__}"))
