"""kill -9 in the middle of a load, and restart: the rows of an undisturbed run, none twice."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.daemons import write_plugins
from tests.processes import harvestd_run, wait_until

pytestmark = pytest.mark.slow

APPENDING = """
import asyncio
from datetime import timedelta
import_window_duration = timedelta(days=5)
STEP = timedelta(hours=6)
async def run(env, db, tenant_id, start_date, end_date):
    # Appends to a table without a key: whatever is repeated after a crash shows.
    at = start_date
    while at < end_date:
        until = min(at + STEP, end_date)
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ('append', $1, $2)", at, until)
            await db.checkpoint(until)
        at = until
        await asyncio.sleep(0.002)
"""
KILLS = 4


async def test_appended_rows_are_neither_lost_nor_doubled_by_four_kills(
    database_url: str, tmp_path: Path
) -> None:
    chance = random.Random(7)
    plugins = write_plugins(tmp_path / "plugins", {"probe/append.py": APPENDING})
    tenants = ["acme", "globex"]
    for tenant_id in tenants:
        await a_tenant(database_url, tenant_id, {"probe": {"KEY": "value"}})
    settings = {"database_url": database_url, "plugin_dirs": plugins, "data_dir": tmp_path / "data"}

    async def counted() -> int:
        rows = await query(
            database_url,
            "SELECT count(*)::int AS n FROM probe.event",
        )
        return int(rows[0]["n"])

    async def covered() -> bool:
        rows = await query(
            database_url,
            "SELECT FROM data_source_run WHERE data_source = 'probe' AND status = 'COMPLETED'",
        )
        return len(rows) == len(tenants)

    for kill in range(KILLS):
        async with harvestd_run(**settings) as daemon:
            await daemon.logged("daemon_ready")
            before = await counted() if kill else 0

            async def grown(before: int = before, by: int = chance.randint(5, 60)) -> bool:
                return await counted() >= before + by

            await wait_until(grown, "rows after the restart\n" + "\n".join(daemon.lines[-20:]))
            await daemon.kill()
    async with harvestd_run(**settings) as daemon:
        await wait_until(covered, "both runs completed")
        assert await daemon.stop() == 0

    for tenant_id in tenants:
        events = await query(
            database_url,
            "SELECT from_at, to_at FROM probe.event WHERE tenant_id = $1 ORDER BY from_at, to_at",
            tenant_id,
        )
        assert all(earlier["to_at"] == later["from_at"] for earlier, later in pairwise(events))
        (run,) = await query(
            database_url,
            "SELECT origin, last_fetched_data_date AS watermark FROM data_source_run "
            "WHERE tenant_id = $1 AND script = 'append'",
            tenant_id,
        )
        assert (events[0]["from_at"], events[-1]["to_at"]) == (run["origin"], run["watermark"])
    # the kills hit runs that were under way, or this test proves nothing
    lost = await query(
        database_url, "SELECT FROM harvestd.run_history WHERE reason = 'holder_died'"
    )
    assert len(lost) >= KILLS
