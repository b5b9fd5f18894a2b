"""Real tables for the tests of loading, and upserts into them without the wall."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from harvestd.database.pool import closing
from harvestd.database.statements import sql
from harvestd.loading.columns import Column
from harvestd.loading.rows import Row
from harvestd.loading.writes import TableShape, arrays_for, upsert_statement

Connection: TypeAlias = "asyncpg.Connection[Any]"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection with the search path that harvestd uses, and the schema ``probe``."""
    settings = {
        "search_path": "pg_catalog, pg_temp",
        # What a plugin may have set on its seat: no value is read in another way for it.
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "America/St_Johns",
    }
    async with closing(await asyncpg.connect(url, server_settings=settings)) as connection:
        await connection.execute("CREATE SCHEMA probe")
        yield connection


async def shape_of(connection: Connection, table: str) -> TableShape:
    """The shape of ``probe.table`` from the catalog."""
    columns = await connection.fetch(sql("read_table_shape"), "probe", table)
    keys = await connection.fetch(sql("read_unique_keys"), "probe", table)
    return TableShape(
        "probe",
        table,
        {row["name"]: Column(**dict(row)) for row in columns},
        tuple(tuple(row["columns"]) for row in keys),
    )


async def upsert(
    connection: Connection,
    shape: TableShape,
    rows: Sequence[Row],
    *,
    key: Sequence[str] = ("id",),
    tenant_id: str = "acme",
) -> tuple[int, int]:
    """Upsert one batch; answers (inserted, updated)."""
    inserted = updated = 0
    for group in arrays_for(shape, key, rows):
        statement = upsert_statement(shape, group.columns, key)
        row = await connection.fetchrow(statement, tenant_id, *group.arrays)
        assert row is not None
        inserted, updated = inserted + row["inserted"], updated + row["updated"]
    return inserted, updated
