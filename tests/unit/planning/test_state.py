"""What follows an attempt, and the moves of a status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.planning.state import (
    AUTHORISATION_RETRY,
    MOVES,
    RETRY_DELAY_MAX,
    Event,
    NextState,
    after_attempt,
    retry_delay,
)
from harvestd.terms import Outcome, Status

NOW = timedelta(0)
TICK = timedelta(seconds=60)
HOUR = timedelta(hours=1)
LATER = datetime(2026, 1, 5, 13, tzinfo=UTC)

EXAMPLES = settings(max_examples=100, deadline=None, database=None)
jitters = st.floats(-1, 1)
ticks = st.timedeltas(timedelta(milliseconds=1), timedelta(days=1))


def after(
    outcome: Outcome,
    *,
    failures: int = 2,
    interval: timedelta | None = None,
    wait_until: datetime | None = None,
) -> NextState:
    return after_attempt(
        outcome,
        failures=failures,
        interval=interval,
        tick=TICK,
        jitter=0.0,
        wait_until=wait_until,
    )


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.COMPLETED, NextState(Status.COMPLETED, NOW, False, None, 0)),
        (Outcome.FAILED, NextState(Status.FAILED, 4 * TICK, False, None, 3)),
        (Outcome.TIMED_OUT, NextState(Status.FAILED, 4 * TICK, False, None, 3)),
        (Outcome.WAITING, NextState(Status.WAITING, AUTHORISATION_RETRY, False, None, 2)),
        (Outcome.YIELDED, NextState(Status.PENDING, NOW, False, None, 2)),
        (Outcome.CANCELLED, NextState(Status.PENDING, NOW, False, None, 2)),
        (Outcome.LOST, NextState(Status.PENDING, NOW, False, None, 2)),
    ],
)
def test_what_follows_each_outcome_after_two_failures(
    outcome: Outcome, expected: NextState
) -> None:
    assert after(outcome) == expected


def test_a_script_with_an_interval_is_due_that_long_after_it_started() -> None:
    assert after(Outcome.COMPLETED, interval=HOUR) == NextState(
        Status.COMPLETED, HOUR, from_start=True, not_before=None, failures=0
    )


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.COMPLETED])
def test_the_interval_of_a_script_counts_only_after_completed(outcome: Outcome) -> None:
    assert after(outcome, interval=24 * HOUR) == after(outcome, interval=None)


def test_a_wait_with_a_date_is_held_until_then_and_due_at_once_after_it() -> None:
    assert after(Outcome.WAITING, wait_until=LATER) == NextState(
        Status.WAITING, NOW, from_start=False, not_before=LATER, failures=2
    )


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.WAITING])
def test_only_waiting_holds_a_run_back_until_a_date(outcome: Outcome) -> None:
    assert after(outcome, wait_until=LATER) == after(outcome)


def test_the_first_retry_is_at_the_next_tick_whatever_the_jitter() -> None:
    for jitter in (-1.0, 0.0, 1.0):
        first = after_attempt(Outcome.FAILED, failures=0, interval=None, tick=TICK, jitter=jitter)
        assert first == NextState(Status.FAILED, NOW, False, None, 1)


@pytest.mark.parametrize(
    ("failures", "jitter", "expected"),
    [
        (1, 1.0, NOW),
        (2, 0.0, 2 * TICK),
        (3, 0.0, 4 * TICK),
        (4, 0.0, 8 * TICK),
        (2, -1.0, 1.6 * TICK),
        (2, 1.0, 2.4 * TICK),
        (6, 0.0, 32 * TICK),
        (6, 1.0, 38.4 * TICK),
        (7, 0.0, HOUR),
        (7, 1.0, HOUR),
        (7, -1.0, 0.8 * HOUR),
        (10**9, 0.0, HOUR),
    ],
)
def test_retries_double_are_spread_by_a_fifth_and_end_at_an_hour(
    failures: int, jitter: float, expected: timedelta
) -> None:
    assert retry_delay(failures, tick=TICK, jitter=jitter) == expected


@EXAMPLES
@given(st.integers(2, 10**12), ticks, jitters)
def test_a_retry_is_never_later_than_an_hour_nor_sooner_than_a_fifth_off(
    failures: int, tick: timedelta, jitter: float
) -> None:
    middle = retry_delay(failures, tick=tick, jitter=0.0)
    delay = retry_delay(failures, tick=tick, jitter=jitter)

    rounding = timedelta(microseconds=1)
    assert 0.8 * middle - rounding <= delay <= min(1.2 * middle + rounding, RETRY_DELAY_MAX)
    in_seconds = min(2 ** min(failures - 1, 64) * tick.total_seconds(), 3600.0)
    assert middle.total_seconds() == pytest.approx(in_seconds, abs=1e-5)


@EXAMPLES
@given(st.integers(1, 100), ticks)
def test_each_failure_in_a_row_waits_at_least_as_long_as_the_one_before(
    failures: int, tick: timedelta
) -> None:
    assert retry_delay(failures, tick=tick, jitter=0) <= retry_delay(
        failures + 1, tick=tick, jitter=0
    )


@pytest.mark.parametrize("jitter", [-1.01, 1.01, float("nan")])
def test_a_jitter_outside_its_bounds_is_refused(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        retry_delay(2, tick=TICK, jitter=jitter)


# The table of moves


@pytest.mark.parametrize("outcome", Outcome)
def test_what_follows_an_attempt_is_a_move_of_the_table(outcome: Outcome) -> None:
    (move,) = [move for move in MOVES if move.event is outcome]

    assert move.before is Status.RUNNING
    assert after(outcome).status is move.after


def test_every_status_can_be_claimed_and_can_be_come_to() -> None:
    claims = [move for move in MOVES if move.event is Event.CLAIMED]

    assert {move.before for move in claims} == set(Status)
    assert {move.after for move in claims} == {Status.RUNNING}
    assert {move.after for move in MOVES} == set(Status)


def test_no_move_is_listed_twice_and_only_running_ends() -> None:
    assert len(MOVES) == len(set(MOVES))
    assert {move.before for move in MOVES if move.event is not Event.CLAIMED} == {Status.RUNNING}
