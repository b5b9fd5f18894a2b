"""Upserts by key and keeps a bookmark; the ledger follows when the window is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _upstream

resources = ["kept"]
import_window_duration = timedelta(minutes=1)
visibility_lag = timedelta(0)


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Upsert every event of the window; again after a crash, without effect."""
    async with _upstream.probed(db, "upserted"):
        async for until, numbers in _upstream.parts(start_date, end_date):
            rows = [
                {"number": number, "body": _upstream.body(tenant_id, number)} for number in numbers
            ]
            async with db.transaction():
                await db.upsert("kept", rows, key=["number"])
                await db.set_bookmark("until", until.isoformat())
