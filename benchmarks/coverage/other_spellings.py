"""Skip additions that are not spelled as additions: `torch.addcmul(x, gamma, y)`, `torch.stack([x, y]).sum(0)`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn

from qzoo.models.operators import traced
from qzoo.models.tracing import OperatorCall, Trace

SPELLINGS = frozenset({"addcmul", "addcdiv", "lerp", "addmm", "addmv", "addbmm", "baddbmm", "addr"})


def other_skip_additions(model: nn.Module, example: Any) -> Counter[str]:
    """Counts, by spelling, the additions of two activations that rules can't speak of."""
    found = traced(model, example)
    names = (_spelling(found, call) for call in found.evaluations)
    return Counter(name for name in names if name)


def _spelling(found: Trace, call: OperatorCall) -> str:
    op, sources = call.op, [found.evaluations[index] for index in call.inputs]
    activations = [source for source in sources if source.is_activation]
    if op in SPELLINGS and len(activations) > 1:
        return op
    if op == "sum" and any(source.op == "stack" for source in sources):
        return "stack + sum"
    if op == "add" and len(activations) > 1 and call.site is None:
        return "add"
    return ""
