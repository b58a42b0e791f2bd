"""The metadata at the top of a model card: what the Hugging Face hub filters by, and shows beside the text.

Its fields: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qzoo.report.card_facts import CardFacts, Measured, formats, verify_command, where
from qzoo.schema.datasets import dataset_named
from qzoo.weights.kinds import RECEIPT

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-classification"
HUB = "https://hf.co"

_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 gemma
gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 ms-pl ncsa openrail osl-3.0 postgresql unlicense wtfpl zlib
"""
KNOWN_LICENSES = frozenset(_LICENSES.split())
"""Short names that the hub accepts, of https://huggingface.co/docs/hub/repositories-licenses."""


def front_matter(facts: CardFacts) -> str:
    """Returns the YAML between the two lines of dashes, without these."""
    from huggingface_hub import ModelCardData

    results = _results(facts)
    dataset = dataset_named(facts.config.dataset).hub_id
    base: dict[str, Any] = (
        {"base_model": facts.base_model, "base_model_relation": "quantized"} if facts.base_model else {}
    )
    data = ModelCardData(
        **(base if facts.base_model else {}),
        **license_fields(facts),
        library_name="qzoo",
        pipeline_tag=TASK,
        tags=_tags(facts),
        datasets=[dataset] if dataset else None,
        metrics=["accuracy"] if results else None,
        model_name=facts.manifest.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def license_fields(facts: CardFacts) -> dict[str, Any]:
    """Returns the fields on the license: none where it is not known, another where only the hub does not know it."""
    name = known_license(facts)
    if name is None or name in KNOWN_LICENSES:
        return {} if name is None else {"license": name}
    # The hub wants a slug.
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    link = {"license_link": f"{HUB}/{facts.base_model}"} if facts.base_model else {}
    return {"license": "other", "license_name": slug} | link


def known_license(facts: CardFacts) -> str | None:
    """Returns the license's name, or None where nobody says what it is."""
    return None if facts.license in (None, "", "unknown", "other") else facts.license


def _tags(facts: CardFacts) -> list[str]:
    library = [facts.config.source] if facts.config.source in ("timm", "torchvision") else []
    return [TASK, "quantization", *formats([*facts.weights, *facts.activations]), "qzoo", *library]


def _results(facts: CardFacts) -> list[EvalResult]:
    measured = facts.measured
    if measured is None:
        return []
    figures = {1: measured.top1, 5: measured.top5}
    return [_result(facts, measured, top, value) for top, value in figures.items() if value is not None]


def _result(facts: CardFacts, measured: Measured, top: int, value: float) -> EvalResult:
    from huggingface_hub import EvalResult

    dataset = dataset_named(measured.dataset)
    name = f"top-{top}" if measured.complete else f"top-{top} on {where(measured)}"
    return EvalResult(
        task_type=TASK,
        task_name="Image classification",
        dataset_type=dataset.hub_id or Path(dataset.name).name,
        dataset_name=dataset.title,
        dataset_split=dataset.hub_split(measured.split),
        metric_type="accuracy",
        metric_name=name,
        metric_value=round(value, 2),
        metric_args={"top": top, "unit": "percent", "images": measured.images, "command": verify_command(facts)},
        **_source(facts),
    )


def _source(facts: CardFacts) -> dict[str, Any]:
    if facts.repo is None or RECEIPT.file not in facts.manifest.files:
        return {}
    url = f"{HUB}/{facts.repo}/blob/main/{RECEIPT.file}"
    return {"source_name": f"predictions, recomputed by {verify_command(facts)}", "source_url": url}
