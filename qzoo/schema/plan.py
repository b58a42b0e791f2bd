"""What rules can speak of in a model, and the quantizers they come to: plain names, so that no torch is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from qzoo.schema.bound_rule import Origin
from qzoo.schema.quantizer import QuantizerSpec


@dataclass(frozen=True)
class Layer:
    """A layer that rules can speak of.

    Attributes:
        name: module path, `layer1.0.conv1`.
        types: names of its class and of the classes it derives from, plain and with module.
        has_weight: whether there is a weight to quantize.
    """

    name: str
    types: tuple[str, ...]
    has_weight: bool


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
class Operator:
    """A functional operator that rules can speak of.

    Attributes:
        module: path of the module whose own forward evaluates it.
        types: names of that module's class, as of a layer.
        site: which evaluation.
        operands: names of the operands that are activations: `input`, or `left` and `right` ...
        number: among the operators of that name in the module, over all calls; from 1.
        skip: of a residual addition: the operand that is the identity or downsample branch.
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
        role: `input`, `weight` or `output` of a layer; `residual`, `residual_main`, `matmul_left` ... of an operator.
        spec: complete.
        origin: the rule that spoke last.
        field_origins: for each field that a rule set, the rule that set it.
        site: of an operator; None for a layer.
        operand: of the operator: `left`, `output` ...
        number: tells the quantizers of one role in one module apart; from 1.
        calls: how often the module is called in one pass.
    """

    module: str
    role: str
    spec: QuantizerSpec
    origin: Origin
    field_origins: dict[str, Origin]
    site: Site | None = None
    operand: str | None = None
    number: int = 1
    calls: int = 1

    @property
    def name(self) -> str:
        """Its name in the module: `residual_quantizer`, and `residual_quantizer_2` for the next."""
        return f"{self.role}_quantizer" + (f"_{self.number}" if self.number > 1 else "")

    @property
    def path(self) -> str:
        """Its path in the model: `layer1.0.residual_quantizer`."""
        return f"{self.module}.{self.name}".lstrip(".")


@dataclass(frozen=True)
class Plan:
    """Every quantizer of a model, and what stays in float.

    Attributes:
        quantizers: of layers in the order of the model, then of operators in the order of evaluation.
        left_float: paths of the layers with weights that have no quantizer.
        float_operators: operators without a quantizer; empty where the model was not traced.
    """

    quantizers: list[PlannedQuantizer]
    left_float: list[str]
    float_operators: list[Operator] = field(default_factory=list)
