"""The hub server's own tests are left out where they have passed as it is, unless they are named."""

from __future__ import annotations

from tests.loopback_hub.passed import is_noted

collect_ignore_glob = ["test_*.py"] if is_noted() else []
