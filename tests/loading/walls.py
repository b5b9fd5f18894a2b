"""A database with its wall, and the schema.sql files that become a part of it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles, ensure_roles
from harvestd.errors import SchemaRefused
from harvestd.loading.schemas import apply_source_schema

Connection: TypeAlias = "asyncpg.Connection[Any]"
GOOD = """
-- What the shop keeps.
CREATE SCHEMA IF NOT EXISTS shop;

DO $$ BEGIN
    CREATE TYPE shop.mood AS ENUM ('calm', 'cross');
    CREATE DOMAIN shop.cents AS bigint CHECK (VALUE >= 0);
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
CREATE TABLE IF NOT EXISTS customer (
    tenant_id text NOT NULL,
    id        bigint NOT NULL,
    name      text NOT NULL,
    mood      shop.mood,
    shout     text GENERATED ALWAYS AS (upper(name)) STORED,
    CONSTRAINT customer_pkey PRIMARY KEY (tenant_id, id)
);
CREATE TABLE IF NOT EXISTS shop.purchase (
    tenant_id   text,
    row_no      bigint GENERATED ALWAYS AS IDENTITY,
    id          text NOT NULL,
    customer_id bigint,
    price       shop.cents DEFAULT 0,
    UNIQUE (tenant_id, id) INCLUDE (price),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES shop.customer (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS purchase_customer ON shop.purchase (tenant_id, customer_id);
CREATE TABLE IF NOT EXISTS shop.visit (
    tenant_id text,
    visit_no  bigserial,
    seen_at   timestamptz DEFAULT now()
);
CREATE OR REPLACE VIEW shop.buyer WITH (security_invoker) AS
    SELECT customer.name, purchase.price
    FROM shop.customer JOIN shop.purchase
      ON purchase.tenant_id = customer.tenant_id AND purchase.customer_id = customer.id;
"""
TABLE = "CREATE TABLE shop.t (tenant_id text, id int, PRIMARY KEY (tenant_id, id));\n"
ONE_TABLE = (
    "CREATE TABLE IF NOT EXISTS shop.a (tenant_id text, id int, PRIMARY KEY (tenant_id, id))"
)


@dataclass(frozen=True, slots=True)
class Wall:
    """A database as the daemon finds it, and the daemon's own connection to it."""

    database: Database
    roles: Roles
    daemon: Connection
    url: str

    async def apply(self, sql: str, source: str = "shop") -> bool:
        return await apply_source_schema(self.database, self.roles, source=source, schema_sql=sql)

    async def refusal(self, sql: str, source: str = "shop") -> SchemaRefused:
        with pytest.raises(SchemaRefused) as refused:
            await self.apply(sql, source)
        return refused.value

    async def tables(self, schema: str = "shop") -> list[str]:
        rows = await self.daemon.fetch(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema
        )
        return [row[0] for row in rows]


@asynccontextmanager
async def wall_at(url: str) -> AsyncIterator[Wall]:
    async with closing(await asyncpg.connect(url)) as connection:
        yield Wall(Database(url), await ensure_roles(connection), connection, url)


@asynccontextmanager
async def a_login(wall: Wall, *, member_of: str | None = None) -> AsyncIterator[Connection]:
    """A fresh login of the customer's."""
    name, password = f"login_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    await wall.daemon.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        if member_of:
            await wall.daemon.execute(f"GRANT {member_of} TO {name}")
        connection = await wall.database.connect("customer", user=name, password=password)
        yield connection
        await connection.close()
    finally:
        await wall.daemon.execute(f"DROP ROLE {name}")


async def bind(wall: Wall, seat: Connection, tenant_id: str, source: str = "shop") -> int:
    """Bind the seat's backend to a run of the tenant; answers its run_no."""
    replica = uuid4()
    run_no = await wall.daemon.fetchval(
        "INSERT INTO public.data_source_run"
        " (tenant_id, data_source, script, status, fence, replica_id)"
        " VALUES ($1, $2, 'order', 'RUNNING', 1, $3) RETURNING run_no",
        tenant_id,
        source,
        replica,
    )
    bound = await wall.daemon.execute(
        "INSERT INTO harvestd.binding (pid, seat, backend_start, run_no, fence, replica_id,"
        " tenant_id, data_source, script)"
        " SELECT pid, usename, backend_start, $2, 1, $3, $4, $5, 'order'"
        " FROM pg_stat_get_activity($1) JOIN pg_user USING (usesysid)",
        seat.get_server_pid(),
        run_no,
        replica,
        tenant_id,
        source,
    )
    assert bound == "INSERT 0 1"
    return int(run_no)


async def fill(wall: Wall) -> None:
    for tenant in ("acme", "bolt"):
        await wall.daemon.execute(
            "INSERT INTO shop.customer (tenant_id, id, name) VALUES ($1, 1, $1)", tenant
        )
        await wall.daemon.execute(
            "INSERT INTO shop.purchase (tenant_id, id, customer_id) VALUES ($1, 'p', 1)", tenant
        )
