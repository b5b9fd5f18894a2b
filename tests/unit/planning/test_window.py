"""Windows and the ledger by example; test_window_properties.py has the laws."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from harvestd.planning.window import (
    EARLIEST,
    DueWindow,
    Ledger,
    due_windows,
    window_end,
)
from harvestd.terms import Window
from tests.unit.planning.walking import with_covered, without

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def days(start: float, end: float) -> Window:
    """The window from ``start`` to ``end`` days after MONDAY."""
    return Window(MONDAY + start * DAY, MONDAY + end * DAY)


def ledger(*covered: tuple[float, float]) -> Ledger:
    """A ledger with its origin on MONDAY and these days covered."""
    return Ledger(MONDAY, tuple(days(*piece) for piece in covered))


def next_window(ledger: Ledger, **asked: Any) -> DueWindow | None:
    """The first window due, or None."""
    return next(due_windows(ledger, **asked), None)


# What is due


def test_three_days_down_leaves_three_windows_and_no_gap() -> None:
    due = list(due_windows(ledger((0, 1)), until=MONDAY + 4 * DAY, width=DAY))

    assert [window.covers for window in due] == [days(1, 2), days(2, 3), days(3, 4)]
    assert all(a.handed.end == b.handed.start for a, b in pairwise(due))
    assert all(window.live and window.handed == window.covers for window in due)


def test_a_run_that_never_ran_begins_at_its_origin() -> None:
    due = next_window(ledger(), until=MONDAY + 90 * DAY, width=DAY)

    assert due == DueWindow(handed=days(0, 1), covers=days(0, 1), live=True)


def test_the_newest_window_is_cut_at_until_and_after_it_nothing_is_due() -> None:
    until = MONDAY + 1.5 * DAY

    due = list(due_windows(ledger(), until=until, width=DAY))

    assert [window.covers for window in due] == [days(0, 1), days(1, 1.5)]
    assert next_window(ledger((0, 1.5)), until=until, width=DAY) is None


def test_the_live_gap_comes_before_older_gaps_and_those_oldest_first() -> None:
    backfilled = ledger((1, 2), (3, 6))

    due = list(due_windows(backfilled, until=MONDAY + 8 * DAY, width=DAY))

    assert [window.covers for window in due] == [
        days(6, 7),
        days(7, 8),
        days(0, 1),
        days(2, 3),
    ]
    assert [window.live for window in due] == [True, True, False, False]


def test_lookback_widens_what_is_handed_out_and_never_the_ledger() -> None:
    due = list(
        due_windows(ledger((0, 1)), until=MONDAY + 3 * DAY, width=DAY, lookback=2 * HOUR),
    )

    assert [window.covers for window in due] == [days(1, 2), days(2, 3)]
    assert [window.handed for window in due] == [days(1 - 2 / 24, 2), days(2 - 2 / 24, 3)]


def test_lookback_may_reach_before_the_origin() -> None:
    due = next_window(ledger(), until=MONDAY + DAY, width=DAY, lookback=HOUR)

    assert due is not None
    assert due.handed == Window(MONDAY - HOUR, MONDAY + DAY)


@pytest.mark.parametrize("catch_up", [True, False])
def test_a_width_and_a_lookback_of_any_size_fit_a_datetime(catch_up: bool) -> None:
    due = next_window(
        ledger(),
        until=MONDAY + DAY,
        width=timedelta.max,
        lookback=timedelta.max,
        catch_up=catch_up,
    )

    assert due == DueWindow(Window(EARLIEST, MONDAY + DAY), days(0, 1), live=True)


def test_a_watermark_ahead_of_the_clock_leaves_only_older_gaps() -> None:
    ahead = ledger((0, 1), (2, 5))

    due = list(due_windows(ahead, until=MONDAY + 4 * DAY, width=DAY))

    assert due == [DueWindow(days(1, 2), days(1, 2), live=False)]
    assert next_window(ledger((0, 5)), until=MONDAY + 4 * DAY, width=DAY) is None


def test_nothing_beyond_until_is_due_even_where_the_ledger_has_a_gap_there() -> None:
    odd = ledger((0, 1), (3, 4), (6, 7))

    due = list(due_windows(odd, until=MONDAY + 2 * DAY, width=DAY))

    assert due == [DueWindow(days(1, 2), days(1, 2), live=False)]


def test_an_origin_in_the_future_makes_nothing_due() -> None:
    assert next_window(ledger(), until=MONDAY, width=DAY) is None
    assert next_window(ledger(), until=MONDAY - DAY, width=DAY) is None
    assert next_window(ledger(), until=MONDAY - DAY, width=DAY, catch_up=False) is None


def test_what_is_covered_before_the_origin_is_no_progress_behind_it() -> None:
    early = ledger((-3, -2))

    due = next_window(early, until=MONDAY + DAY, width=DAY)
    snapshot = next_window(early, until=MONDAY + DAY, width=9 * DAY, catch_up=False)

    assert due == DueWindow(days(0, 1), days(0, 1), live=True)
    assert snapshot == due


def test_lookback_never_narrows_a_window_of_the_year_one() -> None:
    first_day = datetime(1, 1, 1, tzinfo=UTC)

    due = next_window(Ledger(first_day), until=first_day + DAY, width=DAY, lookback=HOUR)

    assert due is not None
    assert due.handed == due.covers == Window(first_day, first_day + DAY)


def test_a_watermark_with_microseconds_is_gone_on_from_exactly() -> None:
    odd = Ledger(MONDAY, (Window(MONDAY, MONDAY + HOUR + MICROSECOND),))

    due = next_window(odd, until=MONDAY + DAY, width=HOUR)

    assert due is not None
    assert due.covers == Window(MONDAY + HOUR + MICROSECOND, MONDAY + 2 * HOUR + MICROSECOND)


@pytest.mark.parametrize(
    ("width", "lookback"), [(timedelta(0), HOUR), (-HOUR, HOUR), (HOUR, -HOUR)]
)
def test_widths_that_would_never_end_are_refused(width: timedelta, lookback: timedelta) -> None:
    with pytest.raises(ValueError, match="width must be positive"):
        next_window(ledger(), until=MONDAY + DAY, width=width, lookback=lookback)


# Snapshots


@pytest.mark.parametrize(
    ("covered", "handed", "live"),
    [
        pytest.param([], (9, 10), True, id="never ran: the last width before until"),
        pytest.param([(0, 5)], (9, 10), True, id="long ago: the last width before until"),
        pytest.param([(0, 9.5)], (9.5, 10), True, id="lately: from the watermark"),
        pytest.param([(0, 4), (6, 10)], (9, 10), False, id="backfilled: the last width again"),
    ],
)
def test_a_snapshot_is_handed_one_window_that_covers_everything(
    covered: list[tuple[float, float]], handed: tuple[float, float], live: bool
) -> None:
    until = MONDAY + 10 * DAY

    due = list(due_windows(ledger(*covered), until=until, width=DAY, catch_up=False))

    assert due == [DueWindow(handed=days(*handed), covers=days(0, 10), live=live)]


def test_a_first_snapshot_younger_than_its_width_begins_at_the_origin() -> None:
    due = next_window(ledger(), until=MONDAY + HOUR, width=DAY, catch_up=False)

    assert due is not None
    assert due.handed == Window(MONDAY, MONDAY + HOUR)


@pytest.mark.parametrize("end", [10, 11])
def test_a_snapshot_up_to_until_or_beyond_is_not_due(end: float) -> None:
    until = MONDAY + 10 * DAY

    assert next_window(ledger((0, end)), until=until, width=DAY, catch_up=False) is None


def test_a_snapshot_with_lookback_is_handed_more_and_covers_the_same() -> None:
    due = next_window(
        ledger((0, 9.5)), until=MONDAY + 10 * DAY, width=DAY, lookback=DAY, catch_up=False
    )

    assert due == DueWindow(handed=days(8.5, 10), covers=days(0, 10), live=True)


# The ledger


@pytest.mark.parametrize(
    ("added", "covered"),
    [
        pytest.param((0, 1), [(0, 1), (2, 4), (6, 8)], id="apart, before"),
        pytest.param((1, 2), [(1, 4), (6, 8)], id="touching on the right"),
        pytest.param((4, 5), [(2, 5), (6, 8)], id="touching on the left"),
        pytest.param((4, 6), [(2, 8)], id="closing a gap"),
        pytest.param((3, 7), [(2, 8)], id="overlapping two"),
        pytest.param((1, 9), [(1, 9)], id="around all"),
        pytest.param((2.5, 3), [(2, 4), (6, 8)], id="inside one"),
        pytest.param((9, 10), [(2, 4), (6, 8), (9, 10)], id="apart, after"),
    ],
)
def test_adding_to_the_ledger_joins_what_touches(
    added: tuple[float, float], covered: list[tuple[float, float]]
) -> None:
    assert with_covered(ledger((2, 4), (6, 8)), days(*added)) == ledger(*covered)


@pytest.mark.parametrize(
    ("taken", "covered"),
    [
        pytest.param((0, 2), [(2, 4), (6, 8)], id="touching on the left"),
        pytest.param((4, 6), [(2, 4), (6, 8)], id="what was a gap"),
        pytest.param((2, 4), [(6, 8)], id="exactly one"),
        pytest.param((2.5, 3), [(2, 2.5), (3, 4), (6, 8)], id="inside one"),
        pytest.param((3, 7), [(2, 3), (7, 8)], id="from one into the next"),
        pytest.param((7, 9), [(2, 4), (6, 7)], id="the end: the watermark moves back"),
        pytest.param((0, 9), [], id="everything: a reset"),
    ],
)
def test_a_backfill_takes_exactly_its_span_out_of_the_ledger(
    taken: tuple[float, float], covered: list[tuple[float, float]]
) -> None:
    assert without(ledger((2, 4), (6, 8)), days(*taken)) == ledger(*covered)


def test_a_backfill_before_the_origin_moves_the_origin_there() -> None:
    backfilled = without(ledger((0, 4)), days(-3, 1))

    assert backfilled == Ledger(MONDAY - 3 * DAY, (days(1, 4),))
    assert backfilled.gaps(MONDAY + 4 * DAY) == (days(-3, 1),)


def test_the_watermark_is_the_end_of_the_newest_covered_stretch() -> None:
    assert ledger().watermark is None
    assert ledger((0, 1), (2, 3)).watermark == MONDAY + 3 * DAY


@pytest.mark.parametrize("covered", [[(2, 3), (0, 1)], [(0, 2), (1, 3)], [(0, 1), (1, 2)]])
def test_a_ledger_in_disorder_is_refused_at_the_door(
    covered: list[tuple[float, float]],
) -> None:
    with pytest.raises(ValueError, match="ascend"):
        ledger(*covered)


def test_an_origin_that_is_not_utc_is_refused_at_the_door() -> None:
    with pytest.raises(ValueError, match="UTC"):
        Ledger(datetime(2026, 1, 5, tzinfo=timezone(HOUR)))


# The end


@pytest.mark.parametrize(
    ("lag", "end"),
    [
        (timedelta(0), datetime(2026, 1, 5, 12, 0, 30, 123000, tzinfo=UTC)),
        (timedelta(seconds=10), datetime(2026, 1, 5, 12, 0, 20, 123000, tzinfo=UTC)),
        (timedelta.max, EARLIEST),
    ],
)
def test_windows_end_at_whole_milliseconds_before_the_visibility_lag(
    lag: timedelta, end: datetime
) -> None:
    now = datetime(2026, 1, 5, 12, 0, 30, 123999, tzinfo=UTC)

    assert window_end(now, lag) == end
