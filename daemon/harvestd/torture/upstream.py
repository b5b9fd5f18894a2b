"""The upstream's truth, and the scripts that load it: one that appends, one that upserts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from harvestd.catalog.script import RunFunction, Script
from harvestd.planning.window import whole_milliseconds
from harvestd.terms import ScriptName
from harvestd.torture.witness import APPENDING, KEYED, SOURCE

WIDTH = timedelta(days=1)
AGE = timedelta(days=1, hours=8)
"""Two windows, of which the last is not a whole one, whatever time it is."""
ITEM_EVERY = timedelta(hours=12)


class Upstream:
    """What there is to load, since ``origin``."""

    def __init__(self, now: datetime) -> None:
        self.origin = whole_milliseconds(now.astimezone(UTC)) - AGE
        self.items = [self.origin + n * ITEM_EVERY for n in range(AGE // ITEM_EVERY + 1)]

    def rows(self, start: datetime, end: datetime) -> list[dict[str, object]]:
        """What it answers for a window."""
        return [{"at": at} for at in self.items if start <= at < end]

    def scripts(self, append: Any = None) -> dict[ScriptName, Script]:
        """Both scripts, over the same items."""
        runs: dict[str, RunFunction] = {
            APPENDING: lambda env, db, tenant_id, start, end: (append or append_rows)(
                db, self.rows(start, end), start, end
            ),
            KEYED: lambda env, db, tenant_id, start, end: upsert_rows(db, self.rows(start, end)),
        }
        return {
            (name := ScriptName(SOURCE, script)): Script(
                name, run, content_hash="torture", width=WIDTH, origin=self.origin
            )
            for script, run in runs.items()
        }


async def append_rows(
    db: Any, rows: list[dict[str, object]], start: datetime, end: datetime
) -> None:
    """Rows, bookmark and progress in one transaction."""
    async with db.transaction():
        await db.copy("event", rows, until=end)
        if rows:
            await db.set_bookmark("newest", str(rows[-1]["at"]))


async def upsert_rows(db: Any, rows: list[dict[str, object]]) -> None:
    """Rows alone: the ledger follows, when the window has ended.

    A second time in a transaction: nothing changes, but the guard is asked again.
    """
    await db.upsert("thing", rows, key=["at"])
    async with db.transaction():
        await db.upsert("thing", rows, key=["at"])
