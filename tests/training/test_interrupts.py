"""Ctrl-C and SIGTERM: noted once, obeyed at the second, and given back afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from qzoo.training.interrupts import SIGNALS, Interrupts, noticing_interrupts


@pytest.fixture(autouse=True)
def hanging_up_ends_a_process() -> Iterator[None]:
    """As it does where the tests were not started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize(("first", "second"), [*itertools.product(SIGNALS, SIGNALS)])
def test_the_second_signal_of_either_kind_ends_the_work(first: signal.Signals, second: signal.Signals) -> None:
    before = handlers()
    with noticing_interrupts() as interrupts:
        os.kill(os.getpid(), first)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
    assert handlers() == before


def test_without_a_signal_nothing_is_asked() -> None:
    before = handlers()
    with noticing_interrupts() as interrupts:
        assert not interrupts.asked
        assert handlers() == [interrupts.note] * 3
    assert handlers() == before


def test_handlers_come_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(ValueError, match="in the block"), noticing_interrupts():
        raise ValueError("in the block")
    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_handler_of_ones_own_comes_back(number: signal.Signals) -> None:
    seen: list[int] = []

    def own(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(number, own)
    try:
        with noticing_interrupts():
            os.kill(os.getpid(), number)
        assert seen == []
        os.kill(os.getpid(), number)
        assert seen == [number]
    finally:
        signal.signal(number, before)


def test_of_two_blocks_the_inner_one_notices() -> None:
    with noticing_interrupts() as outer, noticing_interrupts() as inner:
        os.kill(os.getpid(), signal.SIGINT)
    assert (outer.asked, inner.asked) == (False, True)


def test_another_thread_changes_no_handler() -> None:
    before, found = handlers(), []

    def work() -> None:
        with noticing_interrupts() as interrupts:
            found.append((handlers() == before, interrupts.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(True, False)]


def test_a_fresh_one_has_noted_nothing() -> None:
    interrupts = Interrupts()
    interrupts.note(signal.SIGTERM, None)
    assert interrupts.asked
    with pytest.raises(KeyboardInterrupt):
        interrupts.note(signal.SIGTERM, None)
    assert not Interrupts().asked
