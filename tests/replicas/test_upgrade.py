"""A rolling upgrade: this version beside a newer one, which brings a migration of its own."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from harvestd import __version__
from harvestd.database.migrations import load_migrations
from tests.builders import a_tenant, query
from tests.daemons import PROBE
from tests.processes import ROOT, environment, harvestd_run, wait_until
from tests.replicas.fleet import LEASE_SECONDS, TICK_SECONDS, are_living, overlaps, probing

pytestmark = pytest.mark.slow

TENANTS = [f"tenant-{number:02d}" for number in range(12)]
NEXT = "9.9.9"


def a_newer_version(folder: Path, *, breaking: bool) -> Path:
    """A copy of this checkout with another version number and one more migration."""
    skipped = shutil.ignore_patterns("__pycache__")
    for part in ("daemon", "sql", "plugins"):
        shutil.copytree(ROOT / part, folder / part, ignore=skipped)
    package = folder / "daemon/harvestd/__init__.py"
    package.write_text(package.read_text().replace(__version__, NEXT))
    number = load_migrations()[-1].number + 1
    (folder / f"sql/migrations/{number:04d}_what_comes_next.sql").write_text(
        f"-- breaking: {'yes' if breaking else 'no'}\n"
        "ALTER TABLE public.data_source_run ADD COLUMN next_idea text;\n"
        "ALTER TABLE harvestd.replica ADD COLUMN next_idea text NOT NULL DEFAULT 'none';\n"
    )
    return folder


async def a_command(root: Path, *words: str, url: str, data_dir: Path) -> tuple[int, str]:
    """A harvestd of that checkout, started to its end: its exit code, and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harvestd", *words),
        env=environment(root=root, database_url=url, data_dir=data_dir, http_address="127.0.0.1:0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def versions_at_work(url: str, *, since: str) -> dict[str, int]:
    """How many attempts each version made since then."""
    rows = await query(
        url,
        "SELECT version, count(*)::int AS n FROM harvestd.run_history"
        " JOIN harvestd.replica USING (replica_id)"
        " WHERE run_history.started_at > $1::text::timestamptz GROUP BY version",
        since,
    )
    return {row["version"]: row["n"] for row in rows}


async def test_an_older_replica_works_beside_a_newer_schema_and_hands_its_tenants_over(
    database_url: str, tmp_path: Path
) -> None:
    newer = a_newer_version(tmp_path / "newer version", breaking=False)
    for tenant_id in TENANTS:
        await a_tenant(database_url, tenant_id, PROBE)
    settings = {
        "database_url": database_url,
        "plugin_dirs": probing(tmp_path / "plugins"),
        "data_dir": tmp_path / "data",
        "lease_seconds": LEASE_SECONDS,
        "interval_seconds": TICK_SECONDS,
        "seats_max": 4,
    }

    async def at_work(*expected: str) -> bool:
        """Whether each of these, and nobody else, made attempts in the last two ticks."""
        (row,) = await query(
            database_url, "SELECT (clock_timestamp() - interval '1 second')::text AS since"
        )
        return set(await versions_at_work(database_url, since=row["since"])) == set(expected)

    async with harvestd_run(**settings) as old:
        await wait_until(lambda: at_work(__version__), "the older version alone")
        async with harvestd_run(root=newer, **settings) as new:
            await new.logged("migration_applied")
            await wait_until(lambda: are_living(database_url, 2), "both")
            await wait_until(lambda: at_work(__version__, NEXT), "both versions")
            assert await old.stop() == 0
            await wait_until(lambda: at_work(NEXT), "the newer version alone")
            troubles = [line for line in old.lines + new.lines if '"level": "error"' in line]
            assert await new.stop() == 0

    rows = await query(database_url, "SELECT status::text, next_idea FROM data_source_run")
    assert {row["status"] for row in rows} <= {"COMPLETED", "PENDING"}
    assert troubles == []
    assert await overlaps(database_url) == []


async def test_an_older_replica_refuses_a_schema_that_breaks_it_and_says_what_to_do(
    database_url: str, tmp_path: Path
) -> None:
    newer = a_newer_version(tmp_path / "newer", breaking=True)
    at: dict[str, Any] = {"url": database_url, "data_dir": tmp_path / "data"}

    code, said = await a_command(newer, "run", "--once", **at)
    assert code == 1
    assert "harvestd migrate" in said  # never by itself: it would break what runs elsewhere

    code, said = await a_command(newer, "migrate", **at)
    assert (code, "what_comes_next" in said) == (0, True), said

    code, said = await a_command(ROOT, "run", **at)
    assert code == 1
    assert "a newer harvestd changed this database" in said
    assert "what_comes_next" in said
    assert "update harvestd here to the version that runs elsewhere" in said
