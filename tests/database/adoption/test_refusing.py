"""Tables that harvestd does not take over: why, and what to do."""

from __future__ import annotations

import asyncpg
import pytest

from harvestd.database.migrations import load_migrations, migrate
from harvestd.errors import AdoptionRefused, SchemaTooOld
from tests.clusters import Cluster, database_of
from tests.database.adoption.tables import PRISMA, ROWS, SHAPE_COLUMNS, Connection

NAMES = tuple(migration.name for migration in load_migrations())


async def test_tables_with_rows_are_adopted_only_when_asked_for(connection: Connection) -> None:
    await connection.execute(PRISMA + ROWS)

    with pytest.raises(SchemaTooOld, match="harvestd migrate"):
        await migrate(connection, explicit=False)

    assert await connection.fetchval("SELECT to_regnamespace('harvestd')") is None
    assert await migrate(connection, explicit=True) == NAMES


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
