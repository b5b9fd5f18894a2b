"""An application's own database, made with Prisma, from its tables to collected rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import asyncpg

from harvestd.database.migrations import migrate
from harvestd.database.pool import closing
from tests.builders import a_tenant, query
from tests.daemons import SIMPLE, cycle, running_app
from tests.database.adoption.tables import PRISMA

THREE_DAYS_AGO = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
    days=3
)


async def adopt(url: str) -> None:
    """Prisma's tables with a tenant that collected until three days ago; then `migrate`."""
    async with closing(await asyncpg.connect(url)) as connection:
        await connection.execute(PRISMA)
        await connection.execute(
            "INSERT INTO tenant (id, name, slug) VALUES ('acme', 'Acme', 'acme');"
            "INSERT INTO tenant_data_source_config (id, tenant_id, data_source, key, value,"
            " updated_at) VALUES ('c1', 'acme', 'probe', 'KEY', 'value', now())"
        )
        await connection.execute(
            "INSERT INTO data_source_run (id, tenant_id, data_source, script, status,"
            " completed_at, last_fetched_data_date)"
            " VALUES ('r1', 'acme', 'probe', 'main.ts', 'COMPLETED', $1, $1)",
            THREE_DAYS_AGO.replace(tzinfo=None),
        )
        await migrate(connection, explicit=True)


async def windows(url: str) -> list[tuple[datetime, datetime]]:
    rows = await query(url, "SELECT from_at, to_at FROM probe.event ORDER BY from_at, to_at")
    return [(row["from_at"], row["to_at"]) for row in rows]


async def test_collecting_goes_on_where_the_application_had_come(
    empty_database: str, tmp_path: Path
) -> None:
    await adopt(empty_database)
    async with running_app(empty_database, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app, forced=False)
    collected = await windows(empty_database)
    assert collected[0][0] == THREE_DAYS_AGO
    assert all(a[1] == b[0] for a, b in pairwise(collected))
    (run,) = await query(empty_database, "SELECT id, script FROM data_source_run")
    assert (run["id"], run["script"]) == ("r1", "main")


async def test_a_date_set_by_hand_is_where_collecting_goes_on(
    empty_database: str, tmp_path: Path
) -> None:
    await adopt(empty_database)
    async with running_app(empty_database, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app, forced=False)
        earlier = THREE_DAYS_AGO - timedelta(days=2)
        await query(
            empty_database, "UPDATE data_source_run SET last_fetched_data_date = $1", earlier
        )
        await cycle(app, forced=False)
        (run,) = await query(
            empty_database, "SELECT origin, last_fetched_data_date AS reached FROM data_source_run"
        )
    first_after = min(start for start, _ in await windows(empty_database))
    assert first_after == earlier
    assert run["reached"] > THREE_DAYS_AGO


async def test_a_run_row_that_the_application_inserts_is_adopted_within_two_ticks(
    empty_database: str, tmp_path: Path
) -> None:
    await adopt(empty_database)
    plugins = {"probe/main.py": SIMPLE, "probe/other.py": SIMPLE}
    async with running_app(empty_database, tmp_path, plugins) as app:
        await cycle(app)
        await query(empty_database, "DELETE FROM data_source_run WHERE script = 'other'")
        await query(
            empty_database,
            "INSERT INTO data_source_run (id, tenant_id, data_source, script, status,"
            " last_fetched_data_date) VALUES ('r2', 'acme', 'probe', 'other', 'RUNNING', $1)",
            THREE_DAYS_AGO,
        )
        before = await query(empty_database, "SELECT count(*) AS n FROM probe.event")
        await cycle(app, forced=False)
        await cycle(app, forced=False)
        after = await query(empty_database, "SELECT count(*) AS n FROM probe.event")
        (run,) = await query(
            empty_database,
            "SELECT status::text, covered FROM data_source_run WHERE script = 'other'",
        )
    assert run["status"] == "COMPLETED"
    assert run["covered"][0].upper > THREE_DAYS_AGO
    assert after[0]["n"] > before[0]["n"]


async def test_reader_members_see_every_tenants_rows_and_strangers_see_none(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, {"probe": {"KEY": "value"}})
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        reader = app.schemas.roles.reader
    seen = "SELECT count(DISTINCT tenant_id) AS n FROM probe.event"
    (as_daemon,) = await query(database_url, seen)
    async with closing(await asyncpg.connect(database_url)) as connection:
        await connection.execute(f"GRANT {reader} TO CURRENT_USER")
        await connection.execute(f"SET ROLE {reader}")
        as_reader = await connection.fetchval(seen)
    assert (as_daemon["n"], as_reader) == (2, 2)
