"""The tables of an application, before harvestd takes them over and afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from harvestd.database.migrations import migrate
from tests.clusters import Cluster
from tests.database.adoption.tables import PRISMA, ROWS, Connection


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
