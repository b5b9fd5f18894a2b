"""kill -9 in the middle of a load, and restart: the rows of an undisturbed run, none twice."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.daemons import write_plugins
from tests.plugins.git.world import an_upstream
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
KILLS = 3


async def test_appended_rows_are_neither_lost_nor_doubled_by_kills(
    database_url: str, tmp_path: Path
) -> None:
    chance = random.Random(7)
    plugins = write_plugins(tmp_path / "plugins", {"probe/append.py": APPENDING})
    tenants = ["acme", "globex"]
    for tenant_id in tenants:
        await a_tenant(database_url, tenant_id, {"probe": {"KEY": "value"}})
    settings = {"database_url": database_url, "plugin_dirs": plugins, "data_dir": tmp_path / "data"}

    async def counted() -> int:
        (there,) = await query(database_url, "SELECT to_regclass('probe.event') IS NOT NULL AS yes")
        if not there["yes"]:
            return 0
        (row,) = await query(database_url, "SELECT count(*)::int AS n FROM probe.event")
        return int(row["n"])

    async def covered() -> bool:
        rows = await query(
            database_url,
            "SELECT FROM data_source_run WHERE data_source = 'probe' AND status = 'COMPLETED'",
        )
        return len(rows) == len(tenants)

    for _ in range(KILLS):
        async with harvestd_run(**settings) as daemon:
            await daemon.logged("daemon_ready")
            before = await counted()

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


async def test_a_git_load_that_is_killed_ends_with_the_rows_of_an_undisturbed_one(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    stream = "".join(
        f"commit refs/heads/main\ncommitter Ada <ada@example.org> {1_700_000_000 + number} +0000\n"
        f"data 2\nc\n\nM 100644 inline number\ndata {len(str(number))}\n{number}\n"
        for number in range(4_000)
    )
    upstream.git("fast-import", "--quiet", stdin=stream.encode())
    await a_tenant(database_url, "acme", {"git": {"GIT_REPOSITORIES": str(upstream.path)}})
    settings = {
        "database_url": database_url,
        "data_dir": tmp_path / "data",
        "allow_local_repositories": True,
    }

    async def shas() -> list[str]:
        (there,) = await query(database_url, "SELECT to_regclass('git.commit') IS NOT NULL AS yes")
        rows = await query(database_url, "SELECT sha FROM git.commit") if there["yes"] else []
        return [row["sha"] for row in rows]

    async def begun() -> bool:
        return len(await shas()) > 0

    async def ended() -> bool:
        rows = await query(
            database_url,
            "SELECT FROM data_source_run WHERE script = 'commit' AND status = 'COMPLETED'",
        )
        return len(rows) == 1

    async with harvestd_run(**settings) as daemon:
        await wait_until(begun, "the first chunk")
        await daemon.kill()
    at_the_kill = len(await shas())
    async with harvestd_run(**settings) as daemon:
        await wait_until(ended, "the whole history\n" + "\n".join(daemon.lines[-20:]))
        assert await daemon.stop() == 0

    assert 0 < at_the_kill < 4_000, "the kill came too late to prove anything"
    assert sorted(await shas()) == sorted(upstream.reachable())
