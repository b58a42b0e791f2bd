from __future__ import annotations

import logging

import pytest

from qzoo.errors import WeightsError
from qzoo.hub import errors as hub_errors
from qzoo.hub.errors import explained, patiently, retries_in_one_line


def of_network(kind: str, text: str) -> Exception:
    """An error as that library raises whose name changed from one version of the hub's client to another."""
    error: Exception = type(kind, (Exception,), {"__module__": "httpx._exceptions"})(text)
    return error


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


def test_other_tries_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_errors.time, "sleep", lambda _: None)

    def refused() -> None:
        raise of_network("ConnectError", "[Errno 111] Connection refused.")

    with pytest.raises(WeightsError, match=r"^x: https?://.* \(\[Errno 111\] Connection refused\)\. Try again;"):
        explained("x", lambda: patiently(refused))
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kind", ["InvalidURL", "UnsupportedProtocol"])
def test_an_address_that_is_none_is_not_tried_again(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> None:
        raise of_network(kind, "Invalid port: 'x'")

    with pytest.raises(WeightsError, match=r"^x: .*\. Look at HF_ENDPOINT, and at the proxy"):
        explained("x", lambda: patiently(wrong))
    assert capsys.readouterr().err == ""
