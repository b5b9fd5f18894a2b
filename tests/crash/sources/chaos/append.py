"""Appends with SQL of its own: rows and checkpoint in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _upstream

resources = ["appended"]
import_window_duration = timedelta(minutes=1)
visibility_lag = timedelta(0)
INSERT = "INSERT INTO event (script, number, body, attempt) VALUES ('append', $1, $2, $3)"


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Append every event of the window, once."""
    async with _upstream.probed(db, "append") as attempt:
        async for until, numbers in _upstream.parts(start_date, end_date):
            rows = [(number, _upstream.body(tenant_id, number), attempt) for number in numbers]
            async with db.transaction() as connection:
                await connection.executemany(INSERT, rows)
                await db.checkpoint(until)
