"""Windows and the ledger: which source time a run still lacks, cut into what run() is handed.

The specification clamps the start of a window to ``end - width`` and so loses,
in silence, every older day of a long stop.  Here the days are walked instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from harvestd.terms import Window

EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
"""No bound is computed before it: asyncpg sends ``datetime.min`` as -infinity, and a conversion
to a zone west of Greenwich must not overflow."""

NO_TIME = timedelta(0)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The source time already covered by a run: ``covered`` ascending, disjoint, not touching.

    It is what the columns ``origin`` and ``covered`` (a multirange) hold, in UTC.
    Raises: ValueError, if it is not of that shape.
    """

    origin: datetime
    covered: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        if self.origin.utcoffset() != NO_TIME:
            raise ValueError(f"the origin must be UTC: {self.origin!r}")
        for earlier, later in pairwise(self.covered):
            if earlier.end >= later.start:
                raise ValueError(f"covered must ascend and not touch: {earlier}, {later}")

    @property
    def watermark(self) -> datetime | None:
        """The end of the newest covered stretch; None when nothing is covered."""
        return self.covered[-1].end if self.covered else None

    @property
    def live_start(self) -> datetime:
        """Where the live gap begins: at the watermark, or at the origin."""
        return max(self.origin, self.watermark or self.origin)

    def gaps(self, until: datetime) -> tuple[Window, ...]:
        """Source time between the origin and ``until`` that is not covered, oldest first."""
        found = []
        start = self.origin
        for piece in self.covered:
            if until <= piece.start:
                break
            if start < piece.start:
                found.append(Window(start, piece.start))
            start = max(start, piece.end)
        if start < until:
            found.append(Window(start, until))
        return tuple(found)


class DueWindow(NamedTuple):
    """One call of run() that is due.

    ``handed`` is what the script gets, widened backwards by its lookback;
    ``covers`` is what success adds to the ledger; ``live`` says whether it is
    part of the live gap (from the watermark, or the origin, until now) or of an
    older one (a backfill), which holds no dependent up.
    """

    handed: Window
    covers: Window
    live: bool


def due_windows(
    ledger: Ledger,
    *,
    until: datetime,
    width: timedelta,
    lookback: timedelta = NO_TIME,
    catch_up: bool = True,
) -> Iterator[DueWindow]:
    """What to read before ``until``, window by window, each once the one before it succeeded.

    First the live gap, oldest window first, so that fresh data is not held up by
    a backfill; then the other gaps, oldest first.  A script that does not catch
    up (a snapshot) gets one window, which covers everything.

    Raises: ValueError, for a width that is not positive or a negative lookback.
    """
    if width <= NO_TIME or lookback < NO_TIME:
        raise ValueError(f"width must be positive, lookback not negative: {width}, {lookback}")
    gaps = ledger.gaps(until)
    if not gaps:
        return
    # A watermark past ``until`` (a clock stepped back, a date set by hand within the
    # visibility lag) leaves no live gap, whatever the gaps below it.
    live = ledger.live_start < until
    if not catch_up:
        yield _snapshot(ledger, until, width, lookback, live)
    elif live:
        yield from _windows_in(gaps[-1], width, lookback, live=True)
        gaps = gaps[:-1]
    if catch_up:
        for gap in gaps:
            yield from _windows_in(gap, width, lookback, live=False)


def _windows_in(
    gap: Window, width: timedelta, lookback: timedelta, *, live: bool
) -> Iterator[DueWindow]:
    rest: Window | None = gap
    while rest is not None:
        covers, rest = _cut(rest, width)
        handed = Window(backwards(covers.start, lookback), covers.end) if lookback else covers
        yield DueWindow(handed, covers, live)


def _cut(gap: Window, width: timedelta) -> tuple[Window, Window | None]:
    """The first window of a gap, and what is left.  No width is too large for a datetime."""
    if gap.width <= width:
        return gap, None
    end = gap.start + width
    return Window(gap.start, end), Window(end, gap.end)


def _snapshot(
    ledger: Ledger, until: datetime, width: timedelta, lookback: timedelta, live: bool
) -> DueWindow:
    """The specification's clamp: harmless here, since a snapshot says all there is."""
    floor = ledger.live_start if live else ledger.origin
    start = max(floor, backwards(until, width))
    return DueWindow(
        handed=Window(backwards(start, lookback), until),
        covers=Window(ledger.origin, until),
        live=live,
    )


def joined(windows: tuple[Window, ...], window: Window) -> tuple[Window, ...]:
    """``windows`` and then ``window``, as one with the last where they touch."""
    if windows and windows[-1].end == window.start:
        return (*windows[:-1], Window(windows[-1].start, window.end))
    return (*windows, window)


def window_end(now: datetime, visibility_lag: timedelta) -> datetime:
    """Until when source time may be read: the database's ``now`` less the lag of the upstream.

    What an upstream stored a moment ago may not be in its answers yet.
    """
    return whole_milliseconds(backwards(now, visibility_lag))


def whole_milliseconds(moment: datetime) -> datetime:
    """Cut off the microseconds.

    A JavaScript Date has none: another program that reads a watermark and writes
    it back must not look like somebody who set it by hand.
    """
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def backwards(moment: datetime, span: timedelta) -> datetime:
    """``moment - span``, or EARLIEST where that would lie before it; never after ``moment``."""
    if moment - EARLIEST <= span:
        return min(moment, EARLIEST)
    return moment - span
