"""What a comparison of a runtime with the model found wrong, in words: why, and the remedy."""

from __future__ import annotations

from qzoo.results.export import LEAST_AGREEMENT, Parity


def fault_of(parity: Parity, title: str) -> str | None:
    """Returns what is wrong, or None.

    Args:
        parity: the comparison.
        title: the runtime, as people call it.
    """
    if parity.first_diverging:
        return _diverging(parity, title)
    if not parity.beyond:
        return None
    if parity.overflows:
        return f"{_off(parity, title)} {_overflowing(parity)}"
    if parity.agreement_plain >= LEAST_AGREEMENT and parity.own_runtime:
        return f"{_off(parity, title)} Without optimizations the graph is right, so the runtime's are at fault."
    return f"{_off(parity, title)} The graph is off without optimizations too: report it to qzoo, with the recipe."


def _diverging(parity: Parity, title: str) -> str:
    node = next((one for one in parity.nodes if one.node == parity.first_diverging), None)
    if node is None:
        return (
            f"The {parity.first_diverging} are wrong though the last layers are fed rightly: the graph is wrong there."
        )
    if node.alone > 1:
        return f"{node.node} is {node.alone} steps off though it is fed rightly: the graph is wrong."
    return (
        f"{node.node} is {node.optimized_alone} steps off though it is fed rightly, once {title} optimizes the graph; "
        "without optimizations it is right. The layer before it holds what the integer kernel can't compute with, such "
        "as a bias beyond 2^31 steps of input times weight."
    )


def _off(parity: Parity, title: str) -> str:
    logits = f"logits are off by {parity.logit_difference:.2g} of {parity.largest_logit:.3g}"
    limit = "" if parity.logit_limit is None else f", beyond {parity.logit_limit:.2g}"
    if parity.agreement >= LEAST_AGREEMENT:
        return f"{title}'s {logits}{limit}."
    if parity.agreement_plain >= LEAST_AGREEMENT and parity.own_runtime:
        changed = f"{title}'s own optimizations change {100 - parity.agreement:.1f} % of the predictions of this graph"
    else:
        changed = f"{title} predicts otherwise for {100 - parity.agreement:.1f} % of the images"
    return f"{changed}; {logits}{limit}."


def _overflowing(parity: Parity) -> str:
    first = f", first at {parity.first_overflowing}" if parity.first_overflowing else ""
    return (
        f"Sums of products of 8-bit weights overflow 16 bits on this CPU, which has no VNNI{first}: with weights of 7 "
        f"bits they are off by {parity.seven_bit_difference:.2g}. Export with --reduce-range, in Python "
        "reduce_range=True; or run this file on CPUs with VNNI, for which it is right."
    )
