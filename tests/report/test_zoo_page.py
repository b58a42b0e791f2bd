from __future__ import annotations

from pathlib import Path

from qzoo.report.zoo_page import zoo_page
from qzoo.schema.reading.catalog import Catalog

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zoo.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == zoo_page(Catalog.load().entries), "docs/zoo.md is stale: run `make style`"


def test_every_variant_has_a_row_and_every_claim_its_source() -> None:
    page = PAGE.read_text()
    for entry in Catalog.load().entries:
        for name in entry.variants:
            assert f"| `{entry.name}_{name}` |" in page
        for claim in entry.recipe.published:
            assert f"{claim} |" in page
            assert claim.source in page
