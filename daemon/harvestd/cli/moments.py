"""Moments as a person writes them: dates, times, `now`, and ages such as `14d`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from harvestd.cli.output import UsageError, minute
from harvestd.planning.window import EARLIEST, backwards, whole_milliseconds
from harvestd.terms import Window

AGE = re.compile(
    r"(?P<number>\d{1,6})\s*(?P<unit>weeks?|days?|hours?|min|w|d|h)(\s+ago)?", re.ASCII
)
UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}


def moment(option: str, text: str, now: datetime) -> datetime:
    """What ``text`` means, in UTC and whole milliseconds; without a zone it is UTC.

    Raises: UsageError, naming the ``option``.
    """
    given = text.strip()
    if given == "now":
        return whole_milliseconds(now)
    if (age := AGE.fullmatch(given)) is not None:
        span = timedelta(**{UNITS[age["unit"][0]]: int(age["number"])})
        return whole_milliseconds(backwards(now, span))
    try:
        parsed = datetime.fromisoformat(given)
        parsed = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {given[:40]!r} is no moment",
            why="it may be a date (2026-01-31), a date and time (2026-01-31T08:00, UTC without a "
            "zone; 2026-01-31T08:00+02:00), now, or an age (14d, 36h, 90min, 2w)",
            next_step=f"for example {option} 14d",
        ) from None
    return max(whole_milliseconds(parsed), EARLIEST)


def stretch(since: str, until: str | None, now: datetime) -> Window:
    """The source time from --from to --to, which defaults to now.

    Raises: UsageError, when it is empty or reaches into the future.
    """
    start = moment("--from", since, now)
    end = moment("--to", until or "now", now)
    if end > now:
        raise UsageError(
            f"--to {minute(end)} lies in the future",
            why=f"it is {minute(now)} (UTC, the database's clock), and nothing later can be read",
            next_step="leave --to out: it is now by default",
        )
    if start >= end:
        raise UsageError(
            f"--from {minute(start)} is not before --to {minute(end)}",
            why="a stretch of source time begins before it ends; times are UTC",
            next_step="exchange them, or give an earlier --from",
        )
    return Window(start, end)
