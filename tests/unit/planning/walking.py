"""What covering a window and a backfill make of a ledger, as the SQL of both does."""

from __future__ import annotations

from dataclasses import replace

from harvestd.planning.window import Ledger
from harvestd.terms import Window


def with_covered(ledger: Ledger, window: Window) -> Ledger:
    """Add what an attempt covered.  The origin stays where it is."""
    start, end = window.start, window.end
    apart = []
    for piece in ledger.covered:
        if piece.end < start or end < piece.start:
            apart.append(piece)
        else:
            start, end = min(start, piece.start), max(end, piece.end)
    return replace(ledger, covered=tuple(sorted([*apart, Window(start, end)])))


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
