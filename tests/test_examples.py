"""The examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import qzoo

MODULES = [
    module.name for module in pkgutil.walk_packages(qzoo.__path__, "qzoo.") if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    namespace = vars(module) | {"qzoo": qzoo}
    failed, _ = doctest.testmod(module, extraglobs=namespace, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
