"""The state machine of a run row: the moves of its status, and what follows an attempt.

docs/states.md has the same tables for people; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from harvestd.terms import Outcome, Status

RETRY_DELAY_MAX = timedelta(hours=1)
RETRY_JITTER = 0.2
"""A retry is spread by this fraction both ways, so that what failed together does not retry so."""

AUTHORISATION_RETRY = timedelta(hours=1)
"""How long a run waits that was refused by its upstream and has no date to wait for."""

# A tick of at most RETRY_DELAY_MAX, doubled so often, still fits a timedelta; it passes the
# maximum long before, unless ticks come every microsecond.
DOUBLINGS_MAX = 32


class Event(StrEnum):
    """What moves a status besides the outcome of an attempt."""

    CLAIMED = "claimed"
    REAPED = "reaped"  # taken back from a dead holder


@dataclass(frozen=True, slots=True)
class Move:
    """One allowed change of a run row's status."""

    before: Status
    event: Event | Outcome
    after: Status


# The only table.  Changes from outside (reset, backfill, a date set by hand, pause, a changed
# configuration) are no moves: they change the ledger, the dates and the fence, never the status.
MOVES = (
    Move(Status.PENDING, Event.CLAIMED, Status.RUNNING),
    Move(Status.WAITING, Event.CLAIMED, Status.RUNNING),
    Move(Status.COMPLETED, Event.CLAIMED, Status.RUNNING),
    Move(Status.FAILED, Event.CLAIMED, Status.RUNNING),
    # RUNNING without a holder was written by another program: it may be claimed.
    Move(Status.RUNNING, Event.CLAIMED, Status.RUNNING),
    Move(Status.RUNNING, Outcome.COMPLETED, Status.COMPLETED),
    Move(Status.RUNNING, Outcome.FAILED, Status.FAILED),
    Move(Status.RUNNING, Outcome.TIMED_OUT, Status.FAILED),
    Move(Status.RUNNING, Outcome.WAITING, Status.WAITING),
    Move(Status.RUNNING, Outcome.YIELDED, Status.PENDING),
    Move(Status.RUNNING, Outcome.CANCELLED, Status.PENDING),
    Move(Status.RUNNING, Outcome.LOST, Status.PENDING),
    Move(Status.RUNNING, Event.REAPED, Status.PENDING),
    # After three dead holders in a row: the script may be what kills them.
    Move(Status.RUNNING, Event.REAPED, Status.FAILED),
)

_STATUS_AFTER = {move.event: move.after for move in MOVES if isinstance(move.event, Outcome)}


class NextState(NamedTuple):
    """What to record of an ended attempt.

    The run is due ``delay`` after the moment of recording (by the database's
    clock), or after its ``started_at`` if ``from_start``; zero means the next
    tick.  ``not_before`` holds it besides, if set; ``failures`` is the new count
    of failures in a row.
    """

    status: Status
    delay: timedelta
    from_start: bool
    not_before: datetime | None
    failures: int


def after_attempt(
    outcome: Outcome,
    *,
    failures: int,
    interval: timedelta | None,
    tick: timedelta,
    jitter: float,
    wait_until: datetime | None = None,
) -> NextState:
    """What follows an attempt of a run that had failed ``failures`` times in a row before it.

    ``interval`` is the script's own, if it has one; ``tick`` the time between two
    ticks; ``jitter`` a random number in [-1, 1]; ``wait_until`` is looked at for
    the outcome WAITING only, None there means a wait for authorisation.
    """
    delay, from_start, not_before = timedelta(0), False, None
    match outcome:
        case Outcome.COMPLETED:
            failures = 0
            if interval is not None:
                delay, from_start = interval, True
        case Outcome.FAILED | Outcome.TIMED_OUT:
            failures += 1
            delay = retry_delay(failures, tick=tick, jitter=jitter)
        case Outcome.WAITING:
            # Due in an hour instead of held by not_before: a forced cycle may try at once.
            delay = timedelta(0) if wait_until is not None else AUTHORISATION_RETRY
            not_before = wait_until
        case Outcome.YIELDED | Outcome.CANCELLED | Outcome.LOST:
            pass  # it gave its place back: due now, and neither better nor worse than before
    return NextState(_STATUS_AFTER[outcome], delay, from_start, not_before, failures)


def retry_delay(failures: int, *, tick: timedelta, jitter: float) -> timedelta:
    """How long after the ``failures``-th failure in a row (1 or more) to try again.

    The first retry is at the next tick; then 2, 4, 8 ... ticks, spread by
    ``jitter`` (in [-1, 1]) times RETRY_JITTER, never more than RETRY_DELAY_MAX.

    Raises: ValueError, for a jitter outside [-1, 1].
    """
    if not -1 <= jitter <= 1:
        raise ValueError(f"jitter must lie in [-1, 1]: {jitter}")
    if failures <= 1:
        return timedelta(0)
    doubled = min(tick, RETRY_DELAY_MAX) * (1 << min(failures - 1, DOUBLINGS_MAX))
    spread = min(doubled, RETRY_DELAY_MAX) * (1 + RETRY_JITTER * jitter)
    return min(spread, RETRY_DELAY_MAX)
