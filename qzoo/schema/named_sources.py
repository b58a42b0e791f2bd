"""Named sources: a text that a recipe writes once under `sources`, and that its claims name.

They are written out while a recipe is read, so that nothing after that knows of them. All of it is plain data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qzoo.errors import shown
from qzoo.schema.limits import mapping_or_empty

SOURCES, BLANK = "sources", "{}"
LONGEST_SOURCE = 500
"""Signs of a text under `sources`, of which every claim may make another one."""
_NAMED = re.compile(r"([a-z0-9][a-z0-9_.]{0,99})(?:\(([^()]*)\))?")
"""`log` or `log(15 epochs)`: the name of a source, and what its text has in place of `{}`."""


def with_sources(data: Any) -> Any:
    """Returns a recipe's data with the text of a source in place of each name of one.

    Example:
        >>> claim = {"top1": 76.1, "source": "log(monday)"}
        >>> with_sources({"sources": {"log": "the log of {}"}, "published": claim})["published"]
        {'top1': 76.1, 'source': 'the log of monday'}
    """
    sources = data.get(SOURCES) if isinstance(data, Mapping) else None
    if not isinstance(sources, Mapping) or not sources:
        return data
    variants = data.get("variants")
    written = {name: _claims_with(variant, sources) for name, variant in mapping_or_empty(variants).items()}
    return {**_claims_with(data, sources), **({"variants": written} if isinstance(variants, Mapping) else {})}


def _claims_with(holder: Any, sources: Mapping[str, Any]) -> Any:
    if not isinstance(holder, Mapping) or "published" not in holder:
        return holder
    said = holder["published"]
    claims = [_claim_with(claim, sources) for claim in said] if isinstance(said, list) else _claim_with(said, sources)
    return {**holder, "published": claims}


def _claim_with(claim: Any, sources: Mapping[str, Any]) -> Any:
    source = mapping_or_empty(claim).get("source")
    text = _written_out(source, sources)
    return claim if text is None else {**claim, "source": text}


def _written_out(source: Any, sources: Mapping[str, Any]) -> str | None:
    named = _NAMED.fullmatch(source) if isinstance(source, str) else None
    text = sources.get(named[1]) if named else None
    if named is None or not isinstance(text, str) or len(text) > LONGEST_SOURCE:
        return None
    return text.replace(BLANK, named[2] or "", 1) if (BLANK in text) == (named[2] is not None) else None


def source_fault(source: Any, sources: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Returns the name in a source that stands for none, and what is wrong if the name is known; None if all is well.

    A word alone is a name, where a recipe names any; everything else is a text of its own.

    Example:
        >>> source_fault("log(monday)", {"log": "the log of somebody"})
        ('log', "the text of 'log' has no {} in place of which 'monday' could stand. Say `log`.")
    """
    named = _NAMED.fullmatch(source) if sources and isinstance(source, str) else None
    if named is None or _written_out(source, sources) is not None:
        return None
    name, word = named.groups()
    if name not in sources:
        return name, None
    if word is None:
        return name, f"the text of '{name}' has a {BLANK}. Say what stands there: `{name}(...)`."
    return name, f"the text of '{name}' has no {BLANK} in place of which '{shown(word)}' could stand. Say `{name}`."
