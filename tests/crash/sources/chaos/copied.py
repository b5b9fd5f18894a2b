"""Appends with db.copy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _upstream

resources = ["copied"]
import_window_duration = timedelta(minutes=1)
visibility_lag = timedelta(0)


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Copy every event of the window, once."""
    async with _upstream.probed(db, "copied") as attempt:
        async for until, numbers in _upstream.parts(start_date, end_date):
            rows = [
                {
                    "script": "copied",
                    "number": number,
                    "body": _upstream.body(tenant_id, number),
                    "attempt": attempt,
                }
                for number in numbers
            ]
            await db.copy("event", rows, until=until)
