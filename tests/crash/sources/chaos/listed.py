"""A snapshot: all that there is, and a sweep of what is there no more."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _upstream

resources = ["listed"]
catch_up = False
visibility_lag = timedelta(0)
LENGTH = 40


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """List the same numbers each time."""
    async with _upstream.probed(db, "listed"):
        await db.upsert("listed", [{"number": number} for number in range(LENGTH)], key=["number"])
        await db.sweep("listed", {}, range(LENGTH))
