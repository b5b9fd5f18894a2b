"""The date until which source time is loaded: checked before it is sent, refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import asyncpg

from harvestd.errors import WindowRefused, WriteRefused
from harvestd.loading.seats import Binding

OUTSIDE_WINDOW = "HD002"
"""What harvestd_api.checkpoint raises."""


def check_date(date: object, call: str) -> None:
    """Raise WriteRefused for what is no moment."""
    if not isinstance(date, datetime) or date.tzinfo is None:
        raise WriteRefused(
            f"{call} needs a datetime with a time zone",
            next_step="use datetime.now(UTC) or datetime.fromisoformat('...+00:00')",
        )


@contextmanager
def refused_date(binding: Binding, date: datetime, call: str) -> Iterator[None]:
    """The server's refusal of ``date`` as the author gave it, and with the call he made."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate != OUTSIDE_WINDOW:
            raise
        raise window_refused(binding, call, date) from None


def window_refused(
    binding: Binding, call: str = "checkpoint", date: datetime | None = None
) -> WindowRefused:
    """What the server refused; ``date`` None: it was sent in SQL of the author's own."""
    start, covers = binding.handed_from, binding.covers
    if start is None or covers is None:
        return WindowRefused(
            f"a snapshot script does not {call}",
            why="it has no windows, and covers no source time",
            next_step="leave it out, or leave catch_up = False out",
        )
    what = f"{call} does not take {'this date' if date is None else date}"
    if date is not None and start < date <= covers.end:
        what += ": it goes back, behind what this window has covered already"
    return WindowRefused(
        what,
        why=f"it takes one after {start} and at most {covers.end}, the window of this run(), "
        "and never goes back",
        next_step=f"{call} until the newest date that is wholly loaded"
        + (", at most end_date" if call == "copy" else ", or leave it out"),
    )
