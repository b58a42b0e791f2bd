"""Whether a backward pass may write over what the forward pass left for it.

On a CPU the gradient of a large activation costs as much for its fresh memory as for its arithmetic. The quantized
values lie at hand by then, and the layer that read them has computed its gradient already: their memory serves, if
nobody else holds them.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Two functions that torch keeps for its own compiler. Without them, nothing is written over.
_KEEPS_GRAPH = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
_HOLDERS = getattr(torch._C, "_storage_Use_Count", None)

OWN_HOLDERS = 3
"""Of a tensor that a function saved and reads in its backward pass: autograd, the tensor read, its storage's object."""


def is_last_use(saved: Tensor) -> bool:
    """Returns whether nobody will read a tensor after the backward pass that now runs and has it from autograd.

    False if the graph is kept for a further pass, if gradients of the gradients are wanted, or if anything else refers
    to the memory: another function's saved tensor, a hook that put it aside, a view.

    Args:
        saved: what `ctx.saved_tensors` gave, held by one variable.
    """
    if _KEEPS_GRAPH is None or _HOLDERS is None or torch.compiler.is_compiling():
        return False
    if _KEEPS_GRAPH() or torch.is_grad_enabled():
        return False
    return bool(_HOLDERS(saved.untyped_storage()._cdata) <= OWN_HOLDERS)
