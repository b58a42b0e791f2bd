"""What the parts of a model card have in common: names, formats, and the commands that recompute its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qzoo import environment
from qzoo.errors import QzooError
from qzoo.report.card_facts import CardFacts, Measured
from qzoo.report.markdown import plain
from qzoo.schema.catalog import Catalog
from qzoo.schema.datasets import dataset_named
from qzoo.schema.resolve import resolve


def address(facts: CardFacts) -> str:
    """Returns what to type for the model: its repository, or a folder of its name while there is none."""
    return f"hf-hub:{facts.repo}" if facts.repo else f"./{facts.manifest.name}"


def verify_command(facts: CardFacts) -> str:
    """Returns the command that recomputes the predictions behind the quantized model's figures."""
    return f"qzoo verify {address(facts)}{dataset_named(facts.config.dataset).data_option}"


def reproduce_command(facts: CardFacts) -> str:
    """Returns the command that calibrates and measures anew: by the recipe's name, if qzoo has this very recipe."""
    manifest = facts.manifest
    name = f"{manifest.base} --only {manifest.variant}" if _is_shipped(facts) else address(facts)
    stage = " --stage all" if facts.training else ""
    return f"qzoo reproduce {name}{stage}{dataset_named(facts.config.dataset).data_option}"


def where(measured: Measured) -> str:
    """Returns what figures were measured on: `500 images of ImageNet-1k val`."""
    every = "all " if measured.complete else ""
    dataset = dataset_named(measured.dataset).title
    return f"{every}{measured.images:,} images of {plain(dataset)} {plain(measured.split)}"


def formats(kinds: Iterable[str]) -> list[str]:
    """Returns the number formats among kinds of quantizers, each once.

    Example:
        >>> formats(["narrow 4bit per-channel max", "8bit per-tensor mse", "e4m3 per-tensor max"])
        ['int4', 'int8', 'fp8']
    """
    found = [re.search(r"\b(\d+)bit\b", kind) for kind in kinds]
    return list(dict.fromkeys(f"int{bits[1]}" if bits else "fp8" for bits in found))


def _is_shipped(facts: CardFacts) -> bool:
    try:
        entry = Catalog([environment.packaged()]).recipes.get(facts.manifest.base)
        return entry is not None and resolve(entry, facts.manifest.variant).digest == facts.manifest.recipe_sha256
    except QzooError:
        return False  # it has no such variant
