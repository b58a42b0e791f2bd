"""Secrets: what is known as one or looks like one is in no text."""

from __future__ import annotations

import base64
import logging
import threading
import traceback
from pathlib import Path

import pytest

from qzoo import redaction
from qzoo.errors import QzooError, UnknownNameError, WeightsError
from qzoo.redaction import HIDDEN, redact, redacted_logs
from tests.each import for_each

TOKEN = "tok-en/with=signs"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in redaction.TOKENS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))


@for_each(
    ("text", "clean"),
    [
        ("hf_abcdefghij", "***"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("b'authorization', b'Basic bWU6cGFzcw=='", "b'authorization', b'***'"),
        ("'Authorization': 'token 0123456789'", "'Authorization': '***'"),
        ("see http://me:pw@host:80/a@b", "see http://***@host:80/a@b"),
        ("HTTPS://only-a-token@host", "HTTPS://***@host"),
        ("http://host/a?x=1&access_token=abc&y=2", "http://host/a?x=1&access_token=***&y=2"),
        ("http://host/a?X-Amz-Signature=ab%20c#t", "http://host/a?X-Amz-Signature=***#t"),
        ("http://host/#api_key=abc", "http://host/#api_key=***"),
        ("hf-hub:owner/repo@revision", "hf-hub:owner/repo@revision"),
        ("https://host/owner/repo@v1?download=true", "https://host/owner/repo@v1?download=true"),
        ("set HF_TOKEN to a token that may write", "set HF_TOKEN to a token that may write"),
        ("Authorization is needed; basic blocks have none", "Authorization is needed; basic blocks have none"),
    ],
)
def test_what_looks_like_one(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.timeout(20)
@for_each(
    "text", ["x", "a.b-", "a@", "http://", "?", "?token", "token", "authorization:", "bearer ", "\n", "http://a:"]
)
def test_long_texts_take_no_time(text: str) -> None:
    assert redact(f"?{text * (200_000 // len(text))}")


@pytest.mark.parametrize("name", redaction.TOKENS)
def test_tokens_of_variables_in_every_spelling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f" {TOKEN}\n")
    said = f"a {TOKEN}b {TOKEN!r} tok-en%2Fwith%3Dsigns"
    assert redact(said) == f"a {HIDDEN}b '{HIDDEN}' {HIDDEN}"


def test_tokens_of_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "huggingface"
    home.mkdir()
    (home / "token").write_text("token-of-a-file\n")
    (home / "stored_tokens").write_text("[one]\nhf_token = first-stored\n[two]\nhf_token=second-stored\n")
    (tmp_path / "elsewhere").write_text("token-elsewhere")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "elsewhere"))
    for secret in ("token-of-a-file", "first-stored", "second-stored", "token-elsewhere"):
        assert redact(f"<{secret}>") == "<***>"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"x" * 200_000])
def test_a_strange_token_file_is_no_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_bytes(content)
    assert redact("as it is") == "as it is"


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "https_proxy", "ALL_PROXY", "HTTP_PROXY"])
@pytest.mark.parametrize("password", ["hunter2", "p%40ss%2Fword", "with/slash", "a@b@c@d", "with#hash"])
def test_passwords_of_addresses(variable: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.parse import unquote

    monkeypatch.setenv(variable, f"http://me:{password}@mirror:80/x")
    plain = unquote(password)
    basic = base64.b64encode(f"me:{plain}".encode()).decode()
    for said in (f"http://me:{password}@mirror:80/x", f"proxy says {plain}", f"sent {basic}", f"bad port '{password}'"):
        assert password not in redact(said)
        assert plain not in redact(said)
        assert basic not in redact(said)


def test_an_address_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "me:hunter2@proxy:3128")
    assert redact("can't connect to me:hunter2@proxy:3128") == "can't connect to me:***@proxy:3128"


def test_what_is_no_address_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE", "docker://python:3.11@sha256:abc")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    assert redact("python 3.11 of localhost") == "python 3.11 of localhost"


@pytest.mark.parametrize("kind", [QzooError, WeightsError, UnknownNameError])
def test_no_error_of_ours_has_one(kind: type[QzooError]) -> None:
    error = kind("http://me:hunter2@host", 3)
    assert error.args == ("http://***@host", 3)
    assert "hunter2" not in "".join(traceback.format_exception(error)) + repr(error)


class TestLogs:
    def test_of_any_logger_on_any_handler(self, caplog: pytest.LogCaptureFixture) -> None:
        with redacted_logs():
            logging.getLogger("a.b").warning("'%s' thrown, %d", "Bearer abc", 3)
            logging.getLogger("c").error(f"{{http://me:pw@host}} 100% {'hf_' + 'a' * 30}")
        assert caplog.messages == ["'***' thrown, 3", "{http://***@host} 100% ***"]

    def test_tracebacks(self, caplog: pytest.LogCaptureFixture) -> None:
        with redacted_logs():
            try:
                raise ValueError("Bearer abc") from RuntimeError("http://me:hunter2@host")
            except ValueError:
                logging.getLogger("a").exception("failed")
        assert "ValueError: ***" in caplog.text
        assert "hunter2" not in caplog.text
        assert "Bearer abc" not in caplog.text.replace('raise ValueError("Bearer abc")', "")

    def test_arguments_that_do_not_fit_are_logging_s_own(self, capsys: pytest.CaptureFixture[str]) -> None:
        record = logging.getLogRecordFactory()("a", 10, "f", 1, "%d", ("x",), None)
        with redacted_logs():
            assert logging.getLogRecordFactory()("a", 10, "f", 1, "%d", ("x",), None).args == record.args

    def test_afterwards_all_is_as_before(self) -> None:
        before = logging.getLogRecordFactory()
        with redacted_logs(), redacted_logs():
            assert logging.getLogRecordFactory() is not before
        assert logging.getLogRecordFactory() is before
        with pytest.raises(ValueError, match="inside"), redacted_logs():
            raise ValueError("inside")
        assert logging.getLogRecordFactory() is before

    def test_blocks_of_several_threads_may_overlap(self) -> None:
        before, entered, leave = logging.getLogRecordFactory(), threading.Event(), threading.Event()

        def work() -> None:
            with redacted_logs():
                entered.set()
                leave.wait()

        thread = threading.Thread(target=work)
        with redacted_logs():
            thread.start()
            entered.wait()
        record = logging.getLogRecordFactory()("a", 10, "f", 1, "Bearer abc", (), None)
        leave.set()
        thread.join()
        assert record.msg == "***"
        assert logging.getLogRecordFactory() is before
