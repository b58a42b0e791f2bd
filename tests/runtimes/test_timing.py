"""Two sessions in turn: what is measured, and what a busy machine does to it."""

from __future__ import annotations

import math
import random
import statistics
import time
from typing import Any

import pytest

from qzoo.runtimes import timing
from qzoo.runtimes.timing import median_interval, paired


class Sleeping:
    """A session that takes a given time, on a clock of its own."""

    def __init__(self, clock: Clock, milliseconds: float) -> None:
        self.clock, self.milliseconds = clock, milliseconds

    def run(self, feeds: Any) -> dict[str, Any]:
        self.clock.now += self.milliseconds * self.clock.slower()
        return {}


class Clock:
    """Counts milliseconds; every run takes as many times as long as `slower` says."""

    def __init__(self) -> None:
        self.now, self.slower = 0.0, lambda: 1.0

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(timing, "time", own)
    return own


def test_a_ratio_is_that_of_the_two(clock: Clock) -> None:
    found = paired(Sleeping(clock, 4.0), Sleeping(clock, 5.0), {}, 6)
    assert found.first == pytest.approx([4.0] * len(found.first))
    assert found.ratios == pytest.approx([1.25] * len(found.first))
    assert len(found.first) >= 6


def test_what_slows_down_single_runs_or_both_sessions_for_a_while_changes_no_ratio(clock: Clock) -> None:
    chance = random.Random(0)
    # For half a second, now and then, all takes half as long again; and every third run is interrupted.
    clock.slower = lambda: (1.5 if int(clock.now / 500) % 2 else 1.0) * chance.choice([1.0, 1.0, 3.0])
    found = paired(Sleeping(clock, 4.0), Sleeping(clock, 5.0), {}, 25)
    assert statistics.median(found.ratios) == pytest.approx(1.25, rel=1e-6)


def test_a_fast_model_gets_more_pairs_of_blocks_and_longer_ones(clock: Clock) -> None:
    runs = {}
    for milliseconds in (0.05, 50.0):
        started = clock.now
        found = paired(Sleeping(clock, milliseconds), Sleeping(clock, milliseconds), {}, 11)
        runs[milliseconds] = len(found.first)
        # One pair: 4 ms to warm up and 8 ms of runs, twice; of the slow one, a run to warm up and three, twice.
        assert clock.now - started == pytest.approx(max(12.0, 4 * milliseconds) * 2 * len(found.first), rel=0.2)
    assert runs == {0.05: 21, 50.0: 11}


def test_real_time_is_measured() -> None:
    class Real:
        def run(self, feeds: Any) -> dict[str, Any]:
            time.sleep(0.002)
            return {}

    found = paired(Real(), Real(), {}, 3)
    assert min(found.first + found.second) >= 2.0


def test_the_interval_of_a_median_holds_it_as_often_as_coins_say() -> None:
    for n in (6, 11, 31):
        low, high = (int(end) for end in median_interval(list(range(n))))
        # The median lies between the values at these places, unless fewer than low + 1 or more than high are below it.
        within = sum(math.comb(n, heads) for heads in range(low + 1, high + 1)) / 2**n
        narrower = sum(math.comb(n, heads) for heads in range(low + 2, high)) / 2**n
        assert within >= 0.95 > narrower
        assert low + high == n - 1
