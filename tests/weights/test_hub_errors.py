from __future__ import annotations

import logging

import pytest

from qzoo.weights.hub_errors import retries_in_one_line

CLIENT = logging.getLogger("huggingface_hub.utils._http")


def test_retries_of_the_client_are_one_line(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    CLIENT.addHandler(caplog.handler)
    try:
        with retries_in_one_line():
            for n in range(1, 6):
                CLIENT.warning("'[Errno 111] Connection refused' thrown while requesting HEAD http://127.0.0.1:9/a")
                CLIENT.warning(f"Retrying in 1s [Retry {n}/5].")
            CLIENT.warning("something else")
        CLIENT.warning("Retrying in 2s [Retry 1/5].")
    finally:
        CLIENT.removeHandler(caplog.handler)
    assert list(dict.fromkeys(record.getMessage() for record in caplog.records)) == [
        "something else",
        "Retrying in 2s [Retry 1/5].",
    ]
    said = "The hub does not answer as it should; trying again for up to half a minute."
    assert capsys.readouterr().err.count(said) == 1
