"""The login that a data source's schema.sql runs on: one at a time, and nobody's afterwards."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from harvestd.database.logins import (
    close_source_role,
    drop_source_role,
    ensure_source_role,
    open_source_role,
    scram_verifier,
)
from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.database.statements import sql
from harvestd.errors import DatabaseError
from harvestd.loading.ownership import ensure_schema
from harvestd.loading.refusals import STATEMENT_SECONDS
from harvestd.loading.writes import quoted

# Any fixed number will do; "hsch" in ASCII.
LOCK = 0x68736368

Connect: TypeAlias = Callable[[], Awaitable["asyncpg.Connection[Any]"]]


async def stored_schema(connection: asyncpg.Connection[Any], source: str) -> asyncpg.Record | None:
    """What was applied last: schema_hash, hex; None when nothing ever was."""
    return await connection.fetchrow(sql("read_source_schema"), source)


@asynccontextmanager
async def source_turn(connection: asyncpg.Connection[Any], source: str) -> AsyncIterator[None]:
    """The source's advisory lock, held by the session: roles are committed on the way."""
    try:
        await connection.execute("SELECT pg_advisory_lock($1, hashtext($2))", LOCK, source)
    except asyncpg.LockNotAvailableError:
        refused = DatabaseError(
            f"another replica is applying the schema of {source}",
            why="it has been for ten seconds and more; replicas take turns",
            next_step="nothing to do: this replica looks again at its next tick",
        )
        refused.sqlstate = asyncpg.LockNotAvailableError.sqlstate
        raise refused from None
    yield


@asynccontextmanager
async def source_login(
    database: Database,
    connection: asyncpg.Connection[Any],
    roles: Roles,
    source: str,
    *,
    stays: bool = True,
) -> AsyncIterator[Connect]:
    """Makes connections of the source's own role, which nobody can log in as afterwards.

    Unless it ``stays``, a schema that was made for it is gone again afterwards, with the role.
    """
    role = roles.source(source)
    made = False
    password = secrets.token_urlsafe(24)

    async def connect() -> asyncpg.Connection[Any]:
        # The file may have changed its own role's settings.
        await open_source_role(connection, roles, source)
        return await database.connect(
            f"schema.sql of {source}",
            user=role,
            password=password,
            statement_seconds=STATEMENT_SECONDS + 10,
        )

    await ensure_source_role(connection, roles, source, scram_verifier(password))
    try:
        stored = await stored_schema(connection, source)
        stored_hex = None if stored is None else stored["hex"]
        made = await ensure_schema(connection, roles, source, stored_hex=stored_hex)
        await _end_backends(connection, role)
        yield connect
    finally:
        # The file may have changed its own role's password and settings.
        await close_source_role(connection, roles, source)
        await _end_backends(connection, role)
        if made and not stays:
            await connection.execute(f"DROP SCHEMA {quoted(source)}")
            await drop_source_role(connection, roles, source)


async def _end_backends(connection: asyncpg.Connection[Any], role: str) -> None:
    await connection.fetchval(sql("end_source_backends"), role)
