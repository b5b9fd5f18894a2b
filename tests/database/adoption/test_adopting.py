"""Adoption: the application made the three tables with Prisma, and keeps using them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from harvestd.database.migrations import load_migrations, migrate
from harvestd.database.prisma import PRISMA_LINES
from tests.clusters import Cluster, create_database, drop_database
from tests.database.adoption.tables import PRISMA, ROWS, SHAPE_COLUMNS, SHAPE_OTHERS, Connection

NAMES = tuple(migration.name for migration in load_migrations())


async def test_rows_and_progress_are_kept(adopted: Connection) -> None:
    tenant = await adopted.fetchrow("SELECT * FROM tenant")
    config = await adopted.fetchrow("SELECT * FROM tenant_data_source_config")
    run = await adopted.fetchrow("SELECT * FROM data_source_run WHERE id = 'r1'")
    assert tenant is not None and config is not None and run is not None
    assert (tenant["id"], tenant["name"], tenant["slug"]) == ("t1", "Acme", "acme")
    assert (config["id"], config["value"]) == ("c1", "secret")
    assert run["last_fetched_data_date"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert run["status"] == "COMPLETED"
    assert run["origin"] is None
    assert run["fence"] == 0


async def test_times_without_a_zone_were_utc(adopted: Connection) -> None:
    created = await adopted.fetchval("SELECT created_at FROM tenant")
    started = await adopted.fetchval("SELECT started_at FROM data_source_run WHERE id = 'r1'")

    assert created == datetime(2025, 3, 30, 2, 30, 0, 123000, tzinfo=UTC)
    assert started == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


async def test_what_is_the_applications_own_is_left_alone(adopted: Connection) -> None:
    kind = await adopted.fetchval(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'tenant'::regclass AND attname = 'trial_ends_at'"
    )
    assert kind == "timestamp(3) without time zone"


async def test_changing_the_times_rewrites_no_table(connection: Connection) -> None:
    await connection.execute(PRISMA + ROWS)
    files = (
        "SELECT relname::text, relfilenode FROM pg_class WHERE relkind = 'r'"
        " AND relname IN ('tenant', 'tenant_data_source_config') ORDER BY 1"
    )
    before = await connection.fetch(files)

    await migrate(connection, explicit=True)

    # data_source_run is rewritten, for the numbers of run_no: one row a script and tenant
    assert await connection.fetch(files) == before


async def test_scripts_lose_the_ending_where_the_name_is_free(connection: Connection) -> None:
    said: list[str] = []
    await connection.execute(PRISMA + ROWS)
    await migrate(connection, explicit=True, report=said.append)

    rows = await connection.fetch("SELECT id, script FROM data_source_run ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("r1", "repository"),
        ("r2", "commit.ts"),
        ("r3", "commit.js"),
        ("r4", "issue"),
        ("r5", "issue.ts"),
    ]
    told = [line for line in said if "keeps its name" in line]
    assert len(told) == 3
    assert "'commit.ts'" in "".join(told)


async def test_the_owner_is_told_what_prisma_needs(connection: Connection) -> None:
    said: list[str] = []
    await connection.execute(PRISMA + ROWS)
    await migrate(connection, explicit=True, report=said.append)

    assert PRISMA_LINES in said
    columns = await connection.fetch(
        "SELECT column_name::text FROM information_schema.columns"
        " WHERE table_name = 'data_source_run' AND ordinal_position > 9"
    )
    unsaid = [
        row[0]
        for row in columns
        if row[0] not in PRISMA_LINES and f'@map("{row[0]}")' not in PRISMA_LINES
    ]
    assert unsaid == []
    assert "SET timezone = 'UTC'" in PRISMA_LINES


async def test_nothing_is_said_of_prisma_on_a_fresh_database(connection: Connection) -> None:
    said: list[str] = []
    await migrate(connection, explicit=True, report=said.append)

    assert PRISMA_LINES not in said


async def test_a_fresh_database_has_the_shape_of_an_adopted_one(
    server: Cluster, connection: Connection
) -> None:
    await connection.execute(PRISMA + ROWS)
    await migrate(connection, explicit=True)
    name = await create_database(server)
    fresh = await asyncpg.connect(server.url(name))
    try:
        await migrate(fresh, explicit=True)
        adopted_columns = {tuple(row) for row in await connection.fetch(SHAPE_COLUMNS)}
        fresh_columns = {tuple(row) for row in await fresh.fetch(SHAPE_COLUMNS)}
        adopted_others = {tuple(row) for row in await connection.fetch(SHAPE_OTHERS)}
        fresh_others = {tuple(row) for row in await fresh.fetch(SHAPE_OTHERS)}
    finally:
        await fresh.close()
        await drop_database(server, name)

    assert fresh_columns - adopted_columns == set()
    assert {row[1] for row in adopted_columns - fresh_columns} == {"slug", "trial_ends_at"}
    assert fresh_others - adopted_others == set()
    assert adopted_others - fresh_others == {
        ("index", "CREATE UNIQUE INDEX tenant_slug_key ON public.tenant USING btree (slug)"),
        (
            "constraint",
            "data_source_run FOREIGN KEY (tenant_id) REFERENCES tenant(id)"
            " ON UPDATE CASCADE ON DELETE CASCADE",
        ),
    }


async def test_the_applications_statements_go_on_working(application: Connection) -> None:
    await application.execute(
        "INSERT INTO tenant (id, name, slug) VALUES ('t2', 'Bolt', 'bolt');"
        "INSERT INTO tenant_data_source_config"
        " (id, tenant_id, data_source, key, value, created_at, updated_at)"
        " VALUES ('c2', 't2', 'git', 'K', 'v', now(), now())"
        " ON CONFLICT (tenant_id, data_source, key) DO UPDATE SET value = excluded.value;"
        "UPDATE tenant_data_source_config SET value = 'w', updated_at = now() WHERE id = 'c2'"
    )
    upsert = (
        "INSERT INTO data_source_run (id, tenant_id, data_source, script, status, started_at)"
        " VALUES ($1, 't2', 'git', 'repository', 'RUNNING', now())"
        " ON CONFLICT (tenant_id, data_source, script)"
        " DO UPDATE SET status = 'RUNNING', started_at = now(), error = NULL RETURNING id"
    )
    assert await application.fetchval(upsert, "r9") == "r9"
    assert await application.fetchval(upsert, "r10") == "r9"
    done = await application.fetchrow(
        "UPDATE data_source_run SET status = 'COMPLETED', completed_at = now(),"
        " last_fetched_data_date = '2026-02-01 00:00:00.000' WHERE id = 'r9' RETURNING *"
    )
    assert done is not None
    assert (done["status"], done["last_fetched_data_date"]) == (
        "COMPLETED",
        datetime(2026, 2, 1, tzinfo=UTC),
    )
    await application.execute("DELETE FROM tenant WHERE id = 't2'")
    assert await application.fetchval("SELECT count(*) FROM data_source_run") == 5
    await application.execute("TRUNCATE tenant CASCADE")


async def test_the_application_sees_nothing_of_harvestds_own(application: Connection) -> None:
    for attempt in ("SELECT * FROM harvestd.config_change", "SELECT harvestd_api.tenant()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(attempt)


async def test_changes_of_the_configuration_are_noted(
    application: Connection, adopted: Connection
) -> None:
    async def noted() -> set[str | None]:
        rows = await adopted.fetch("DELETE FROM harvestd.config_change RETURNING tenant_id")
        return {row["tenant_id"] for row in rows}

    await application.execute("INSERT INTO tenant (id, name, slug) VALUES ('t2', 'Bolt', 'bolt')")
    assert await noted() == {"t2"}
    await application.execute("UPDATE tenant_data_source_config SET tenant_id = 't2'")
    assert await noted() == {"t1", "t2"}
    await application.execute("UPDATE tenant SET name = 'x' WHERE id = 'nobody'")
    assert await noted() == set()
    await application.execute("DELETE FROM tenant WHERE id = 't2'")
    assert await noted() == {"t2"}
    await application.execute("TRUNCATE tenant_data_source_config")
    assert await noted() == {None}


async def test_empty_tables_are_adopted_in_passing(connection: Connection) -> None:
    await connection.execute(PRISMA)

    assert await migrate(connection, explicit=False) == NAMES


async def test_tenants_alone_are_adopted_too(connection: Connection) -> None:
    await connection.execute('CREATE TABLE "tenant" ("id" TEXT PRIMARY KEY, "email" TEXT NOT NULL)')
    await connection.execute("INSERT INTO tenant VALUES ('t1', 'a@b.c')")

    await migrate(connection, explicit=True)

    assert await connection.fetchrow("SELECT id, name, email FROM tenant") == ("t1", "", "a@b.c")


async def test_an_adoption_takes_turns_with_the_application(
    empty_database: str, connection: Connection
) -> None:
    """A transaction of the application that is under way ends first; nothing is lost."""
    await connection.execute(PRISMA + ROWS)
    writer = await asyncpg.connect(empty_database)
    first = asyncio.Event()
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("INSERT INTO tenant (id, name, slug) VALUES ('t2', 'Bolt', 'bolt')")
    task = asyncio.create_task(migrate(connection, explicit=True, report=lambda line: first.set()))
    await asyncio.wait_for(first.wait(), 30)
    await transaction.commit()
    await writer.close()

    assert await task == NAMES
    assert await connection.fetchval("SELECT count(*) FROM tenant") == 2
