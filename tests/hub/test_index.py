from __future__ import annotations

from pathlib import Path

import pytest

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.hub.index import FILE, read_index, released
from qzoo.schema.reading.catalog import Catalog

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_shipped_index_names_variants_that_exist() -> None:
    index = read_index(environment.packaged(FILE))
    assert set(index.revisions) <= set(Catalog.load().names())


def test_indexes_of_own_folders_go_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, commit in (("one", COMMIT), ("two", COMMIT[::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(f'{{"organisation": "{name}", "revisions": {{"x_int8": "{commit}"}}}}')
    monkeypatch.setenv("QZOO_RECIPES", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    assert released()["x_int8"] == f"two/x_int8@{COMMIT[::-1]}"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"organisation": "a/b"}', "organisation"),
        ('{"organisation": "me", "revisions": {"x_int8": "main"}}', r"revisions\.x_int8"),
        ('{"organisation": "me", "url": "http://evil"}', "url"),
        ("{}", "organisation"),
        ("[", "the file"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(text: str, field: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(RecipeError, match=rf"hub\.json: {field}: .*Expected .*each commit as 40 hexadecimal digits"):
        read_index(tmp_path / FILE)
