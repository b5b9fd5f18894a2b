"""The laws of windows, and that the check of them rejects every wrong planner we could think of.

Time is counted in steps that are no whole number of milliseconds, and compared
with a second, slow account of the same thing: sets of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.planning.window import DueWindow, Ledger, due_windows
from harvestd.terms import Window
from tests.unit.planning.walking import with_covered, without

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(minutes=1, microseconds=7)
STEPS_MAX = 40

# No deadline: a busy machine is no failure.  No database: a checkout may be read-only.
EXAMPLES = settings(max_examples=100, deadline=None, database=None)


def at(step: int) -> datetime:
    return START + step * STEP


def span(start: int, end: int) -> Window:
    return Window(at(start), at(end))


def steps_in(*windows: Window) -> set[int]:
    """The steps these windows hold; each bound must be a whole step."""
    steps: set[int] = set()
    for window in windows:
        start, odd_start = divmod(window.start - START, STEP)
        end, odd_end = divmod(window.end - START, STEP)
        assert not odd_start and not odd_end, window
        steps.update(range(start, end))
    return steps


@dataclass(frozen=True)
class Case:
    """What a planner is asked."""

    ledger: Ledger
    until: datetime
    width: timedelta
    lookback: timedelta = timedelta(0)

    def steps_missing(self) -> set[int]:
        """The source time that is to be read, counted by hand."""
        if self.ledger.origin >= self.until:
            return set()
        return steps_in(Window(self.ledger.origin, self.until)) - steps_in(*self.ledger.covered)


spans = st.tuples(st.integers(-STEPS_MAX // 4, STEPS_MAX), st.integers(1, STEPS_MAX // 4)).map(
    lambda pair: span(pair[0], pair[0] + pair[1])
)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """A ledger after any history of attempts and backfills."""
    ledger = Ledger(at(draw(st.integers(-5, 5))))
    for window, covered in draw(st.lists(st.tuples(spans, st.booleans()), max_size=6)):
        ledger = with_covered(ledger, window) if covered else without(ledger, window)
    return ledger


cases = st.builds(
    Case,
    ledger=ledgers(),
    until=st.integers(-10, STEPS_MAX + 10).map(at),
    width=st.integers(1, STEPS_MAX).map(lambda steps: steps * STEP),
    lookback=st.integers(0, 5).map(lambda steps: steps * STEP),
)


def check_windows(case: Case, due: list[DueWindow]) -> None:
    """Every law that windows of a script that catches up obey."""
    covers = [window.covers for window in due]
    live = [window.covers for window in due if window.live]
    older = [window.covers for window in due if not window.live]

    # Exactly what is missing, nothing twice.
    assert steps_in(*covers) == case.steps_missing()
    assert sum(len(steps_in(window)) for window in covers) == len(case.steps_missing())
    assert steps_in(*case.ledger.gaps(case.until)) == case.steps_missing()

    # Never too wide, never into the future.
    assert all(window.width <= case.width for window in covers)
    assert all(window.handed.end <= case.until for window in due)

    # Lookback widens what is handed out, backwards, and nothing else.
    assert [window.handed for window in due] == [
        Window(window.start - case.lookback, window.end) for window in covers
    ]

    # The live gap first, from the watermark or the origin to until, each window from where the
    # one before it ended; then older gaps, oldest first, the same way.
    assert covers == live + older
    begins = max(case.ledger.origin, case.ledger.watermark or case.ledger.origin)
    if begins < case.until:
        assert live[0].start == begins
        assert live[-1].end == case.until
    else:
        assert not live
    assert all(a.end == b.start for a, b in pairwise(live))
    assert all(a.end == b.start or gap_between(case, a, b) for a, b in pairwise(older))

    # No more windows than needed: within a gap only the last may be narrower than the width.
    assert all(a.width == case.width for a, b in pairwise(covers) if a.end == b.start)


def gap_between(case: Case, a: Window, b: Window) -> bool:
    """Whether b follows a, and all between them is covered already."""
    return a.end < b.start and not steps_in(Window(a.end, b.start)) & case.steps_missing()


def planned(case: Case) -> list[DueWindow]:
    return list(
        due_windows(case.ledger, until=case.until, width=case.width, lookback=case.lookback)
    )


# The laws


@EXAMPLES
@given(cases)
def test_windows_cover_exactly_what_is_missing_in_order(case: Case) -> None:
    check_windows(case, planned(case))


@EXAMPLES
@given(cases)
def test_when_every_window_succeeded_no_gap_is_left(case: Case) -> None:
    ledger = case.ledger
    for due in planned(case):
        ledger = with_covered(ledger, due.covers)

    assert ledger.gaps(case.until) == ()
    assert planned(replace(case, ledger=ledger)) == []


@EXAMPLES
@given(cases)
def test_an_attempt_that_stops_after_any_window_goes_on_with_the_next_one(case: Case) -> None:
    ledger, due = case.ledger, planned(case)
    for number, window in enumerate(due, 1):
        ledger = with_covered(ledger, window.covers)
        rest = [left.covers for left in planned(replace(case, ledger=ledger))]
        assert rest == [left.covers for left in due[number:]]


@EXAMPLES
@given(cases, spans)
def test_a_backfilled_range_is_covered_again_and_nothing_else_is(case: Case, taken: Window) -> None:
    complete = case.ledger
    for due in planned(case):
        complete = with_covered(complete, due.covers)
    backfilled = replace(case, ledger=without(complete, taken))

    due_again = steps_in(*(due.covers for due in planned(backfilled)))

    before_until = {step for step in steps_in(taken) if at(step) < case.until}
    # A backfill that ends before the old origin exposes what lies between them too.
    assert due_again >= before_until
    assert all(at(step) < complete.origin for step in due_again - before_until)
    check_windows(backfilled, planned(backfilled))


@EXAMPLES
@given(st.lists(st.tuples(spans, st.booleans()), max_size=12))
def test_the_ledger_holds_what_was_added_and_not_taken_in_normal_form(
    changes: list[tuple[Window, bool]],
) -> None:
    ledger, expected = Ledger(START), set[int]()
    origin = START
    for window, covered in changes:
        if covered:
            ledger, expected = with_covered(ledger, window), expected | steps_in(window)
        else:
            ledger, expected = without(ledger, window), expected - steps_in(window)
            origin = min(origin, window.start)

    assert steps_in(*ledger.covered) == expected
    assert ledger.origin == origin
    assert all(a.end < b.start for a, b in pairwise(ledger.covered))
    assert ledger.watermark == (at(max(expected) + 1) if expected else None)


@EXAMPLES
@given(cases)
def test_a_snapshot_is_one_window_up_to_until_and_then_none(case: Case) -> None:
    due = list(
        due_windows(
            case.ledger,
            until=case.until,
            width=case.width,
            lookback=case.lookback,
            catch_up=False,
        )
    )

    if not case.steps_missing():
        assert due == []
        return
    (only,) = due
    assert only.covers == Window(case.ledger.origin, case.until)
    assert only.handed.end == case.until
    assert only.handed.width <= case.width + case.lookback
    assert with_covered(case.ledger, only.covers).gaps(case.until) == ()


# The check can fail: wrong planners, each of which it must reject


def clamped(case: Case) -> Iterator[DueWindow]:
    """The specification's calculateDateRange, to the letter."""
    end = case.until
    start = max(case.ledger.watermark or case.ledger.origin, end - case.width)
    if start < end:
        yield DueWindow(Window(start - case.lookback, end), Window(start, end), live=True)


def moved(due: DueWindow, *, start: int = 0, end: int = 0) -> DueWindow:
    return due._replace(
        covers=Window(due.covers.start + start * STEP, due.covers.end + end * STEP),
        handed=Window(due.handed.start + start * STEP, due.handed.end + end * STEP),
    )


WRONG: dict[str, Callable[[Case], list[DueWindow]]] = {
    "the specification's clamp": lambda case: list(clamped(case)),
    "nothing is ever due": lambda case: [],
    "the live gap alone": lambda case: [due for due in planned(case) if due.live],
    "older gaps alone": lambda case: [due for due in planned(case) if not due.live],
    "oldest first, whatever is live": lambda case: sorted(
        planned(case), key=lambda due: due.covers
    ),
    "newest first": lambda case: sorted(planned(case), key=lambda due: due.covers, reverse=True),
    "a step lost between windows": lambda case: [
        moved(due, start=1) if due.covers.width > STEP else due for due in planned(case)
    ],
    "a step read twice": lambda case: [moved(due, start=-1) for due in planned(case)],
    "into the future": lambda case: planned(replace(case, until=case.until + STEP)),
    "short of now": lambda case: planned(replace(case, until=case.until - STEP)),
    "one window for all of a gap": lambda case: planned(replace(case, width=100 * STEP)),
    "windows narrower than need be": lambda case: planned(replace(case, width=STEP)),
    "lookback forgotten": lambda case: planned(replace(case, lookback=timedelta(0))),
    "lookback in the ledger": lambda case: [
        due._replace(covers=due.handed) for due in planned(case)
    ],
    "the first window twice": lambda case: planned(case)[:1] + planned(case),
    "a backfill taken for live": lambda case: [due._replace(live=True) for due in planned(case)],
}

# Down for ten steps, with two older gaps, the first of them wider than a window.
TELLING = Case(
    ledger=Ledger(at(0), (span(5, 8), span(10, 20))),
    until=at(30),
    width=3 * STEP,
    lookback=STEP,
)


def test_the_example_for_wrong_planners_is_planned_right_by_ours() -> None:
    check_windows(TELLING, planned(TELLING))


@pytest.mark.parametrize("name", WRONG)
def test_the_check_of_windows_rejects_a_wrong_planner(name: str) -> None:
    with pytest.raises(AssertionError):
        check_windows(TELLING, WRONG[name](TELLING))


def test_the_specifications_clamp_is_rejected_for_nothing_but_a_long_stop() -> None:
    stopped = Case(Ledger(at(0), (span(0, 10),)), until=at(13), width=STEP)
    in_time = replace(stopped, until=at(11))

    check_windows(in_time, list(clamped(in_time)))
    with pytest.raises(AssertionError):
        check_windows(stopped, list(clamped(stopped)))
