"""Adoption: the application made the three tables with Prisma, and keeps using them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg
import pytest

from harvestd.database.migrations import load_migrations, migrate
from harvestd.database.prisma import PRISMA_LINES
from harvestd.errors import AdoptionRefused, SchemaTooOld
from tests.clusters import Cluster, create_database, database_of, drop_database

Connection: TypeAlias = "asyncpg.Connection[Any]"
NAMES = tuple(migration.name for migration in load_migrations())

# What `prisma migrate` writes for the specification's models, and for an application's Tenant.
STATUS = """CREATE TYPE "DataSourceRunStatus" AS ENUM ('RUNNING', 'COMPLETED', 'FAILED');"""
TENANT = """
    CREATE TABLE "tenant" (
        "id" TEXT NOT NULL,
        "name" TEXT NOT NULL,
        "slug" TEXT NOT NULL,
        "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "trial_ends_at" TIMESTAMP(3),
        CONSTRAINT "tenant_pkey" PRIMARY KEY ("id")
    );
    CREATE UNIQUE INDEX "tenant_slug_key" ON "tenant"("slug");"""
CONFIG = """
    CREATE TABLE "tenant_data_source_config" (
        "id" TEXT NOT NULL,
        "tenant_id" TEXT NOT NULL,
        "data_source" TEXT NOT NULL,
        "key" TEXT NOT NULL,
        "value" TEXT NOT NULL,
        "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updated_at" TIMESTAMP(3) NOT NULL,
        CONSTRAINT "tenant_data_source_config_pkey" PRIMARY KEY ("id")
    );
    CREATE UNIQUE INDEX "tenant_data_source_config_tenant_id_data_source_key_key"
        ON "tenant_data_source_config"("tenant_id", "data_source", "key");
    ALTER TABLE "tenant_data_source_config" ADD CONSTRAINT
        "tenant_data_source_config_tenant_id_fkey" FOREIGN KEY ("tenant_id")
        REFERENCES "tenant"("id") ON DELETE CASCADE ON UPDATE CASCADE;"""
RUN = """
    CREATE TABLE "data_source_run" (
        "id" TEXT NOT NULL,
        "tenant_id" TEXT NOT NULL,
        "data_source" TEXT NOT NULL,
        "script" TEXT NOT NULL,
        "status" "DataSourceRunStatus" NOT NULL,
        "started_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "completed_at" TIMESTAMP(3),
        "error" TEXT,
        "last_fetched_data_date" TIMESTAMP(3),
        CONSTRAINT "data_source_run_pkey" PRIMARY KEY ("id")
    );
    CREATE UNIQUE INDEX "data_source_run_tenant_id_data_source_script_key"
        ON "data_source_run"("tenant_id", "data_source", "script");
    CREATE INDEX "data_source_run_tenant_id_idx" ON "data_source_run"("tenant_id");
    CREATE INDEX "data_source_run_data_source_idx" ON "data_source_run"("data_source");
    CREATE INDEX "data_source_run_tenant_id_data_source_idx"
        ON "data_source_run"("tenant_id", "data_source");
    ALTER TABLE "data_source_run" ADD CONSTRAINT "data_source_run_tenant_id_fkey"
        FOREIGN KEY ("tenant_id") REFERENCES "tenant"("id") ON DELETE CASCADE ON UPDATE CASCADE;"""
PRISMA = STATUS + TENANT + CONFIG + RUN
ROWS = """
    INSERT INTO tenant (id, name, slug, created_at, trial_ends_at)
    VALUES ('t1', 'Acme', 'acme', '2025-03-30 02:30:00.123', '2026-01-01 00:00');
    INSERT INTO tenant_data_source_config (id, tenant_id, data_source, key, value, updated_at)
    VALUES ('c1', 't1', 'git', 'GIT_TOKEN', 'secret', '2026-01-01 00:00');
    INSERT INTO data_source_run
        (id, tenant_id, data_source, script, status, started_at, last_fetched_data_date)
    VALUES
        ('r1', 't1', 'git', 'repository.ts', 'COMPLETED', '2026-01-02 03:04', '2026-01-02'),
        ('r2', 't1', 'git', 'commit.ts', 'RUNNING', '2026-01-02 03:04', NULL),
        ('r3', 't1', 'git', 'commit.js', 'FAILED', '2026-01-02 03:04', NULL),
        ('r4', 't1', 'jira', 'issue', 'FAILED', '2026-01-02 03:04', NULL),
        ('r5', 't1', 'jira', 'issue.ts', 'COMPLETED', '2026-01-02 03:04', NULL);
"""
SHAPE_COLUMNS = """
    SELECT relation.relname::text AS place, attribute.attname::text AS name,
           format_type(attribute.atttypid, attribute.atttypmod) AS type,
           attribute.attnotnull AS required, attribute.attidentity::text AS identity,
           pg_get_expr(fallback.adbin, fallback.adrelid) AS fallback
    FROM pg_class AS relation
    JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    LEFT JOIN pg_attrdef AS fallback
      ON fallback.adrelid = relation.oid AND fallback.adnum = attribute.attnum
    WHERE relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run')
      AND attribute.attnum > 0 AND NOT attribute.attisdropped"""
SHAPE_OTHERS = """
    SELECT 'index', pg_get_indexdef(indexrelid) FROM pg_index
    JOIN pg_class AS relation ON relation.oid = indrelid
    WHERE relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run')
    UNION ALL
    SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT 'options', relname || ' ' || coalesce(array_to_string(reloptions, ' '), '')
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    UNION ALL
    SELECT 'word', enumlabel FROM pg_enum"""


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


@pytest.fixture
async def adopted(connection: Connection) -> Connection:
    await connection.execute(PRISMA + ROWS)
    await migrate(connection, explicit=True)
    return connection


@pytest.fixture
async def application(server: Cluster, adopted: Connection) -> AsyncIterator[Connection]:
    """The application as it was before: a role with rights on its own tables and no others."""
    database = await adopted.fetchval("SELECT current_database()")
    role = f"web_{database}"
    tables = "tenant, tenant_data_source_config, data_source_run"
    admin = await asyncpg.connect(server.admin_url(database))
    await admin.execute(f"CREATE ROLE {role}; GRANT app TO {role}")
    await admin.execute(f"REVOKE app FROM {role}")
    await admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {tables} TO {role}")
    await admin.execute(f"SET SESSION AUTHORIZATION {role}; SET timezone = 'UTC'")
    yield admin
    await admin.execute("RESET SESSION AUTHORIZATION")
    await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await admin.close()


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


async def test_tables_with_rows_are_adopted_only_when_asked_for(connection: Connection) -> None:
    await connection.execute(PRISMA + ROWS)

    with pytest.raises(SchemaTooOld, match="harvestd migrate"):
        await migrate(connection, explicit=False)

    assert await connection.fetchval("SELECT to_regnamespace('harvestd')") is None
    assert await migrate(connection, explicit=True) == NAMES


async def test_empty_tables_are_adopted_in_passing(connection: Connection) -> None:
    await connection.execute(PRISMA)

    assert await migrate(connection, explicit=False) == NAMES


async def test_tenants_alone_are_adopted_too(connection: Connection) -> None:
    await connection.execute('CREATE TABLE "tenant" ("id" TEXT PRIMARY KEY, "email" TEXT NOT NULL)')
    await connection.execute("INSERT INTO tenant VALUES ('t1', 'a@b.c')")

    await migrate(connection, explicit=True)

    assert await connection.fetchrow("SELECT id, name, email FROM tenant") == ("t1", "", "a@b.c")


@pytest.mark.parametrize(
    ("made", "what", "next_step"),
    [
        pytest.param(
            PRISMA.replace('"tenant"', '"Tenant"'),
            'public."Tenant" is not called tenant',
            "RENAME TO tenant",
            id="the tenant table has another name",
        ),
        pytest.param(
            PRISMA.replace('"tenant"', '"customer"'),
            'public."customer", not public.tenant',
            "RENAME TO tenant",
            id="the tenant table is found by the foreign key",
        ),
        pytest.param(
            PRISMA.replace('"data_source_run"', '"DataSourceRun"'),
            '"DataSourceRun"',
            "RENAME TO data_source_run",
            id="a table has Prisma's own spelling",
        ),
        pytest.param(
            PRISMA + "CREATE VIEW late AS SELECT script, completed_at FROM data_source_run;",
            "the view public.late depends on public.data_source_run.completed_at",
            "drop the view",
            id="a view depends on a time",
        ),
        pytest.param(
            PRISMA + 'ALTER TABLE data_source_run DROP COLUMN "error";',
            "public.data_source_run has no column error",
            "ADD COLUMN error text",
            id="a column is missing",
        ),
        pytest.param(
            PRISMA.replace('"tenant_id"', '"tenantId"'),
            "public.tenant_data_source_config has no column tenant_id",
            '@map("tenant_id")',
            id="columns have Prisma's own spelling",
        ),
        pytest.param(
            PRISMA.replace('"id" TEXT', '"id" UUID').replace(
                '"tenant_id" TEXT', '"tenant_id" UUID'
            ),
            "public.tenant.id is of type uuid, not text",
            "TYPE text",
            id="ids are uuids",
        ),
        pytest.param(
            PRISMA.replace('"id" TEXT', '"id" INTEGER').replace(
                '"tenant_id" TEXT', '"tenant_id" INTEGER'
            ),
            "public.tenant.id is of type integer, not text",
            "TYPE text",
            id="ids are integers",
        ),
        pytest.param(
            PRISMA.replace('"status" "DataSourceRunStatus"', '"status" TEXT'),
            'is of type text, not "DataSourceRunStatus"',
            "TYPE",
            id="the status is text",
        ),
        pytest.param(
            PRISMA + "ALTER TABLE data_source_run ADD COLUMN shard integer NOT NULL;",
            "public.data_source_run.shard is NOT NULL and has no default",
            "SET DEFAULT",
            id="runs need more than we know",
        ),
        pytest.param(
            "CREATE VIEW tenant AS SELECT '1'::text AS id, ''::text AS name;",
            "public.tenant is not an ordinary table",
            "ordinary table",
            id="the tenants are a view",
        ),
        pytest.param(
            PRISMA
            + "DROP INDEX data_source_run_tenant_id_data_source_script_key;"
            + ROWS
            + "INSERT INTO data_source_run (id, tenant_id, data_source, script, status)"
            " VALUES ('r8', 't1', 'secret', 'twin', 'FAILED'), ('r9', 't1', 'secret', 'twin',"
            " 'FAILED');",
            "data_source_run_tenant_id_data_source_script_key",
            "remove what is named",
            id="rows are there twice",
        ),
        pytest.param(
            PRISMA + "ALTER TABLE data_source_run ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY fresh ON data_source_run USING (started_at > '2020-01-01');",
            "policy fresh on table",
            "remove what is named",
            id="a policy depends on a time",
        ),
    ],
)
async def test_adoption_is_refused_with_the_name_and_the_next_step_when(
    made: str, what: str, next_step: str, connection: Connection
) -> None:
    await connection.execute(made)
    before = await connection.fetch(SHAPE_COLUMNS)

    with pytest.raises(AdoptionRefused) as raised:
        await migrate(connection, explicit=True)

    assert what in raised.value.what
    assert next_step in raised.value.next_step
    assert "secret" not in str(raised.value)
    assert await connection.fetch(SHAPE_COLUMNS) == before


async def test_tables_of_another_owner_are_refused(
    server: Cluster, empty_database: str, connection: Connection
) -> None:
    admin = await asyncpg.connect(server.admin_url(database_of(empty_database)))
    await admin.execute(PRISMA)
    try:
        with pytest.raises(AdoptionRefused, match="app may not alter") as raised:
            await migrate(connection, explicit=True)
    finally:
        await admin.close()

    assert 'GRANT "postgres" TO "app"' in raised.value.next_step


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
