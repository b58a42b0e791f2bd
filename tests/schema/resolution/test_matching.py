from __future__ import annotations

import random
from fnmatch import fnmatchcase

from qzoo.schema.resolution.matching import _any_glob


def test_globs_match_as_those_of_python() -> None:
    dice = random.Random(0)
    for _ in range(20_000):
        glob = "".join(dice.choices("ab*?[]!-", k=dice.randrange(8)))
        name = "".join(dice.choices("ab*[]!-", k=dice.randrange(6)))
        assert _any_glob((glob,), name) is fnmatchcase(name, glob), (glob, name)
