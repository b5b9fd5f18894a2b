"""A data source's schema.sql: run by the source's own role, inspected, finished into the wall.

The file is somebody else's code.  It gets a login that owns the one schema and nothing else,
a password that only this call knows, and one transaction: either all of it is there,
inspected and finished, or none of it.  (What the file would make on an empty schema is to be
compared with what there is; that belongs between running and finishing, in ``_run``.)
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from harvestd.catalog.discover import Source
from harvestd.database.pool import LOST, Database, closing, translate
from harvestd.database.roles import Roles, ensure_source_role, scram_verifier
from harvestd.database.statements import sql
from harvestd.database.step import step
from harvestd.database.transaction import whole_transaction
from harvestd.errors import DatabaseError, SchemaRefused
from harvestd.loading.ddl import DdlStatement
from harvestd.loading.finishing import FINISHING, Relation, finish_relation, finish_schema
from harvestd.loading.inspection import inspect_schema
from harvestd.loading.ownership import ensure_schema
from harvestd.loading.refusals import (
    LOCK_SECONDS,
    STATEMENT_SECONDS,
    all_found,
    check_name,
    checked_statements,
    failed,
    left_transaction,
)
from harvestd.loading.writes import quoted

# Any fixed number will do; "hsch" in ASCII.
LOCK = 0x68736368

# RESET ALL goes first: what the file has set must not decide how our statements are read.
OUR_SESSION = f"""
    RESET ALL;
    SET search_path = pg_catalog, pg_temp;
    SET statement_timeout = '{STATEMENT_SECONDS}s';
    SET lock_timeout = '{LOCK_SECONDS}s'
"""
# Two texts, so that no statement prepared before the file ran is used after it: it could have
# put its own in the place of one.
TRANSACTION_BEFORE = "SELECT pg_catalog.pg_current_xact_id()::text AS before"
TRANSACTION_AFTER = "SELECT pg_catalog.pg_current_xact_id()::text AS after"
DDL = frozenset(["ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE"])


async def apply_source_schema(
    database: Database, roles: Roles, *, source: str, schema_sql: str
) -> bool:
    """Run ``schema_sql`` for ``source``, inspect the schema and finish its tables.

    Answers True when it ran, False when this content was applied and finished already, for
    these roles and by this version of finishing (one query).  Replicas that ask at once take turns.

    Raises: SchemaRefused, with line and statement as far as known; the old schema stays as it
    was.  DatabaseError (another replica is at it for too long, a right is missing), Unreachable.
    """
    check_name(source)
    schema_hash = _hash(schema_sql)
    try:
        # Its end also ends the turn.
        async with closing(await database.connect(f"schema of {source}")) as connection:
            if await _is_applied(connection, roles, source, schema_hash):
                return False
            async with _turn(connection, source):
                if await _is_applied(connection, roles, source, schema_hash):
                    return False
                async with _login(database, connection, roles, source) as own:
                    await _run(own, roles, source, schema_sql)
                await step("schema_finished")
                await connection.fetchval(sql("note_source_schema"), source, schema_hash, roles.hex)
                return True
    except (asyncpg.PostgresError, *LOST) as error:
        if isinstance(error.__context__, asyncio.CancelledError):
            raise error.__context__ from None  # cleaning up after it failed
        raise translate(error) from None


async def unapplied_schemas(
    connection: asyncpg.Connection[Any], roles: Roles | None, sources: Iterable[Source]
) -> dict[str, str]:
    """By source, each schema.sql that was not applied and finished as it is, for these roles.

    Writes nothing; ``roles`` None: before the first start made them, so that nothing was.
    """
    return {
        source.name: text
        for source in sources
        if (text := source.schema_sql) is not None
        and not (roles and await _is_applied(connection, roles, source.name, _hash(text)))
    }


async def refuse_unfit_schema(
    connection: asyncpg.Connection[Any], *, source: str, schema_sql: str
) -> None:
    """Raise SchemaRefused for what can be known of the file without running any of it.

    That is what it must not hold, and what the server's own parser does not understand; what
    the tables there are, or the wall, do not admit is known when it runs.
    """
    check_name(source)
    for statement in checked_statements(source, schema_sql):
        if statement.verb not in DDL:
            continue
        # Parsed as a part of a block that returns before it; the file cannot know how it ends.
        end = f"$unrun_{secrets.token_hex(8)}$"
        begin = f"DO {end} BEGIN RETURN; "
        try:
            await connection.execute(f"{begin}{statement.text}\n; END {end}")
        except asyncpg.PostgresError as error:
            raise failed(source, error, statement, sent_before=len(begin)) from None


def _hash(schema_sql: str) -> str:
    return f"{hashlib.sha256(schema_sql.encode()).hexdigest()} {FINISHING}"


async def _is_applied(
    connection: asyncpg.Connection[Any], roles: Roles, source: str, schema_hash: str
) -> bool:
    row = await _stored(connection, source)
    return row is not None and (row["schema_hash"], row["hex"]) == (schema_hash, roles.hex)


async def _stored(connection: asyncpg.Connection[Any], source: str) -> asyncpg.Record | None:
    return await connection.fetchrow(sql("read_source_schema"), source)


@asynccontextmanager
async def _turn(connection: asyncpg.Connection[Any], source: str) -> AsyncIterator[None]:
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
async def _login(
    database: Database, connection: asyncpg.Connection[Any], roles: Roles, source: str
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the source's own role, which nobody can log in as afterwards."""
    role = roles.source(source)
    password = secrets.token_urlsafe(24)
    await ensure_source_role(connection, roles, source, scram_verifier(password))
    try:
        stored = await _stored(connection, source)
        stored_hex = None if stored is None else stored["hex"]
        await ensure_schema(connection, roles, source, stored_hex=stored_hex)
        await _end_backends(connection, role)
        await connection.execute(f"ALTER ROLE {role} LOGIN; ALTER ROLE {role} RESET ALL")
        own = await database.connect(
            f"schema.sql of {source}",
            user=role,
            password=password,
            statement_seconds=STATEMENT_SECONDS + 10,
        )
        async with closing(own):
            yield own
    finally:
        # The file may have changed its own role's password and settings.
        await connection.execute(f"ALTER ROLE {role} NOLOGIN PASSWORD NULL")
        await connection.execute(f"ALTER ROLE {role} RESET ALL")
        await _end_backends(connection, role)


async def _end_backends(connection: asyncpg.Connection[Any], role: str) -> None:
    await connection.fetchval(sql("end_source_backends"), role)


async def _run(own: asyncpg.Connection[Any], roles: Roles, source: str, schema_sql: str) -> None:
    """The one transaction: run, inspect, finish."""
    statements = checked_statements(source, schema_sql)
    try:
        async with whole_transaction(own):
            await own.execute(OUR_SESSION)
            before = await own.fetchval(TRANSACTION_BEFORE)
            await own.execute(f"SET search_path = {quoted(source)}, pg_temp")
            for statement in statements:
                await _run_statement(own, source, statement)
            await own.execute(OUR_SESSION)
            if await own.fetchval(TRANSACTION_AFTER) != before:
                raise left_transaction(source)
            findings = await inspect_schema(own, roles, source)
            if findings:
                raise all_found(source, findings, statements)
            await _finish(own, roles, source)
    except (asyncpg.PostgresError, *LOST) as error:
        if isinstance(error.__context__, SchemaRefused):
            raise error.__context__ from None  # a lost connection cannot even roll back
        raise failed(source, error, None) from None


async def _run_statement(
    own: asyncpg.Connection[Any], source: str, statement: DdlStatement
) -> None:
    try:
        await own.execute(statement.text)
    except (asyncpg.PostgresError, *LOST) as error:
        raise failed(source, error, statement) from None


async def _finish(own: asyncpg.Connection[Any], roles: Roles, source: str) -> None:
    rows = await own.fetch(sql("list_relations_to_finish"), source)
    await own.execute(";\n".join(finish_schema(roles, source)))
    for row in rows:
        await own.execute(";\n".join(finish_relation(roles, source, Relation(**row))))
