"""All windows of an attempt that goes on to the end, and what a backfill makes of a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from harvestd.planning.window import NO_TIME, DueWindow, Ledger, next_window
from harvestd.terms import Window


def windows_due(
    ledger: Ledger,
    *,
    until: datetime,
    width: timedelta,
    lookback: timedelta = NO_TIME,
    catch_up: bool = True,
) -> Iterator[DueWindow]:
    """Every window due before ``until``, in the order an attempt would take them."""
    while due := next_window(
        ledger, until=until, width=width, lookback=lookback, catch_up=catch_up
    ):
        yield due
        ledger = ledger.with_covered(due.covers)


def without(ledger: Ledger, window: Window) -> Ledger:
    """Take source time out, so that it is read again: a backfill.

    If it begins before the origin, the origin moves there.
    """
    kept = []
    for piece in ledger.covered:
        if piece.start < window.start:
            kept.append(Window(piece.start, min(piece.end, window.start)))
        if window.end < piece.end:
            kept.append(Window(max(piece.start, window.end), piece.end))
    return Ledger(origin=min(ledger.origin, window.start), covered=tuple(kept))
