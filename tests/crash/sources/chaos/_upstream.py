"""The fake upstream: each tenant has one event every PITCH, numbered since EPOCH.

What it says of a span of source time never changes, so that the oracle can say what must be there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
PITCH = timedelta(milliseconds=100)
PARTS = 4
"""Into so many transactions a window is cut."""
PACE_SECONDS = 0.08
"""Between two of them, so that a fault finds a run under way."""


def numbers(start: datetime, end: datetime) -> range:
    """The events of ``[start, end)``."""
    return range(-((EPOCH - start) // PITCH), -((EPOCH - end) // PITCH))


def body(tenant_id: str, number: int) -> str:
    """What an event says."""
    return f"{tenant_id}:{number}"


async def parts(start: datetime, end: datetime) -> AsyncIterator[tuple[datetime, range]]:
    """The window piece by piece: up to when, and the events of the piece."""
    reached = start
    for part in range(1, PARTS + 1):
        until = start + (end - start) * part / PARTS
        if until > reached:
            yield until, numbers(reached, until)
            await asyncio.sleep(PACE_SECONDS)
        reached = until


@asynccontextmanager
async def probed(db: Any, script: str) -> AsyncIterator[str]:
    """Note in the database that a call begins and ends; the name of the call."""
    attempt = uuid4().hex
    await _note(db, script, attempt, "begin")
    yield attempt
    await _note(db, script, attempt, "end")


async def _note(db: Any, script: str, attempt: str, mark: str) -> None:
    async with db.transaction() as connection:
        await connection.execute(
            "INSERT INTO probe (script, attempt, mark) VALUES ($1, $2, $3)", script, attempt, mark
        )
