"""The quantizers planned for a model, and the layers and operators that rules can speak of.

Knows layers and operators by name and type alone, so it needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from qzoo.schema.quantizer import QuantizerSpec
from qzoo.schema.resolution.precedence import Origin


class Site(NamedTuple):
    """One evaluation of an operator in a module's own forward.

    Attributes:
        op: the operator's name, `add`.
        call: which call of the module, in one pass through the model; from 0.
        position: among the operators of that name in that call; from 0. Those of child modules do not count.
    """

    op: str
    call: int
    position: int


@dataclass(frozen=True)
class WeightRead:
    """A weight that an operator reads, whole or in parts.

    Attributes:
        parameter: path of the parameter, from the module whose forward evaluates the operator; None for a weight that
            is computed from parameters, as that of a cosine classifier is.
        size: its shape.
        axis: the axis that its output channels lie along; None where they lie along none.
        groups: the number of groups along the first axis that have channels of their own.
        in_parts: whether any evaluation reads a view of the parameter, and not the parameter itself.
        made_of: paths of the parameters that a computed weight is computed from.
    """

    parameter: str | None
    size: tuple[int, ...]
    axis: int | None = 0
    groups: int = 1
    in_parts: bool = field(default=False, compare=False)
    made_of: tuple[str, ...] = ()

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """The shape of a range for each output channel, see `quant.grouped`."""
        if self.axis is None:
            return ()
        channels = tuple(size if dim == self.axis else 1 for dim, size in enumerate(self.size))
        return channels if self.groups == 1 else (self.groups, *channels)


@dataclass(frozen=True)
class Functional:
    """How a layer is computed that nobody calls: by an operator of a module's own forward, which reads its weight.

    Attributes:
        module: path of the module whose own forward evaluates it.
        prefix: what the names of its quantizers in that module begin with: `in_proj_`; may be empty.
        sites: its evaluations, in each of which the weight, or a part of it, is read.
        inputs: names of the operands that are activations.
        operand: the name of the operand that is the weight.
        weight: what is read.
        calls: how often the module is called in one pass through the model.
    """

    module: str
    prefix: str
    sites: tuple[Site, ...]
    inputs: tuple[str, ...]
    operand: str
    weight: WeightRead
    calls: int = 1

    @property
    def op(self) -> str:
        """The operator's name: `linear`."""
        return self.sites[0].op

    def of_role(self, role: str) -> Iterator[tuple[str, str]]:
        """Yields name and operand of each quantizer of a role: `("in_proj_input", "input")`."""
        if role == "weight":
            yield f"{self.prefix}weight", self.operand
        elif role == "output":
            yield f"{self.prefix}output", "output"
        else:
            names = ("input", *self.inputs[1:])
            yield from ((f"{self.prefix}{name}", operand) for name, operand in zip(names, self.inputs, strict=False))


@dataclass(frozen=True)
class Layer:
    """A layer that rules can speak of.

    Attributes:
        name: module path, `layer1.0.conv1`; of one that nobody calls, the path of its weight: `attn.in_proj`.
        types: names of its class and of the classes it derives from, plain and with module.
        has_weight: whether there is a weight to quantize.
        functional: how it is computed, if nobody calls it.
    """

    name: str
    types: tuple[str, ...]
    has_weight: bool
    functional: Functional | None = None


@dataclass(frozen=True)
class Operator:
    """A functional operator that rules can speak of.

    Attributes:
        module: path of the module whose own forward evaluates it.
        types: names of that module's class, as of a layer.
        site: which evaluation.
        operands: names of the operands that are activations: `input`, or `left` and `right` ...
        number: among the operators of that name in the module, over all calls; from 1.
        skip: for a residual addition, the operand that is the identity or downsample branch.
        main: the other operand.
        residual_number: among the residual additions of the module; from 1.
        calls: how often the module is called in one pass through the model.
    """

    module: str
    types: tuple[str, ...]
    site: Site
    operands: tuple[str, ...]
    number: int = 1
    skip: str | None = None
    main: str | None = None
    residual_number: int = 1
    calls: int = 1

    @property
    def name(self) -> str:
        """Path and operator: `layer1.0.add`."""
        return f"{self.module}.{self.site.op}".lstrip(".")


@dataclass(frozen=True)
class PlannedQuantizer:
    """A quantizer to be made, and why.

    Attributes:
        module: path of the layer, or of the module whose forward evaluates the operator.
        role: `input`, `weight` or `output` of a layer, `in_proj_weight` of one that nobody calls; `residual`,
            `residual_main`, `matmul_left` ... of an operator.
        spec: complete.
        origin: the rule that spoke last.
        field_origins: for each field that a rule set, the rule that set it.
        sites: the sites of an operator; none for a layer that is called.
        operand: the operand of the operator: `left`, `output` ...
        number: tells the quantizers of one role in one module apart; from 1.
        calls: how often the module is called in one pass.
        layer: the name of the layer, if it is of one.
        functional: how that layer is computed, if nobody calls it.
    """

    module: str
    role: str
    spec: QuantizerSpec
    origin: Origin
    field_origins: dict[str, Origin]
    sites: tuple[Site, ...] = ()
    operand: str | None = None
    number: int = 1
    calls: int = 1
    layer: str | None = None
    functional: Functional | None = None

    @property
    def of_weight(self) -> bool:
        """Whether what it quantizes is a weight."""
        return self.role == "weight" if self.functional is None else self.operand == self.functional.operand

    @property
    def kind(self) -> str:
        """Its role in its layer, `input`, `weight` or `output`, also where nobody calls that; else its role."""
        if self.functional is None:
            return self.role
        return "weight" if self.of_weight else "output" if self.operand == "output" else "input"

    @property
    def name(self) -> str:
        """Its name in the module: `residual_quantizer`, and `residual_quantizer_2` for the next."""
        return f"{self.role}_quantizer" + (f"_{self.number}" if self.number > 1 else "")

    @property
    def path(self) -> str:
        """Its path in the model: `layer1.0.residual_quantizer`."""
        return f"{self.module}.{self.name}".lstrip(".")


class FloatWeight(NamedTuple):
    """A weight that stays in float although no rule says so.

    Attributes:
        path: path of the parameter.
        weights: its share of the model's weights, 0 to 1.
        macs: the share of the multiplications that are by it, 0 to 1; None where the model was not traced.
    """

    path: str
    weights: float
    macs: float | None


@dataclass(frozen=True)
class Plan:
    """Every quantizer of a model, and what stays in float.

    Attributes:
        quantizers: the quantizers of layers in the order of the model, then of operators in the order of evaluation.
        left_float: paths of the layers with weights that have no quantizer.
        float_operators: operators without a quantizer; empty where the model was not traced.
        float_rules: by path, the rule that left a layer in float; of other layers no rule speaks.
        float_weights: weights that stay in float although no rule says so, the largest first.
    """

    quantizers: list[PlannedQuantizer]
    left_float: list[str]
    float_operators: list[Operator] = field(default_factory=list)
    float_rules: dict[str, Origin] = field(default_factory=dict)
    float_weights: list[FloatWeight] = field(default_factory=list)
