"""A data source's schema.sql: run by the source's own role, inspected, finished into the wall.

The file is somebody else's code.  It gets a login that owns the one schema and nothing else,
a password that only this call knows, and one transaction: either all of it is there,
inspected, compared with what the file makes on an empty schema, and finished, or none of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg

from harvestd.catalog.discover import Source
from harvestd.database.pool import LOST, Database, closing, translate
from harvestd.database.roles import Roles
from harvestd.database.statements import sql
from harvestd.database.step import step
from harvestd.errors import SchemaRefused
from harvestd.loading.comparison import changes, compare_applied, compare_schema
from harvestd.loading.ddl import DdlStatement
from harvestd.loading.described import describe_schema
from harvestd.loading.finishing import FINISHING, finish_relation, finish_schema
from harvestd.loading.inspection import inspect_schema, list_relations
from harvestd.loading.refusals import (
    all_found,
    altered,
    check_name,
    checked_statements,
    differs,
    failed,
)
from harvestd.loading.running import OnEmpty, file_transaction, run_file, run_on_empty
from harvestd.loading.source_login import Connect, source_login, source_turn, stored_schema
from harvestd.observing.logs import get_logger

log = get_logger()

File: TypeAlias = Sequence[DdlStatement]
DDL = frozenset(["ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE"])

PREVIEW_SECONDS = 10.0
"""How long a preview may keep writers waiting for a table that it alters."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What the next apply of a schema.sql would do.

    ``applied``: nothing, it was applied as it is.  ``changes``: what it would make, alter and drop,
    a line each.  ``kept``: what stays though the file has it no more.  ``unfinished``: it takes
    longer than a preview may, so nothing else is known.  ``altered``: of one that was applied, what
    somebody changed since.
    """

    applied: bool = False
    altered: SchemaRefused | None = None
    changes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    refused: SchemaRefused | None = None
    unfinished: bool = False


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
    with _translated():
        # Its end also ends the turn.
        async with closing(await database.connect(f"schema of {source}")) as connection:
            if await _is_applied(connection, roles, source, schema_hash):
                return False
            async with source_turn(connection, source):
                if await _is_applied(connection, roles, source, schema_hash):
                    return False
                file = checked_statements(source, schema_sql)
                async with source_login(database, connection, roles, source) as connect:
                    on_empty = await _describe(connection, connect, source, file)
                    async with (
                        closing(await connect()) as own,
                        file_transaction(own, source, keep=True),
                    ):
                        kept = await _run_and_look(own, roles, source, file, on_empty)
                        await _finish(own, roles, source)
                await step("schema_finished")
                await connection.fetchval(sql("note_source_schema"), source, schema_hash, roles.hex)
    _tell(source, on_empty, kept)
    return True


async def preview_schema(
    database: Database, roles: Roles, *, source: str, schema_sql: str
) -> Preview:
    """What the next apply of ``schema_sql`` would do, or why it would be refused.

    The file runs on the tables there are, is rolled back, and gets ``PREVIEW_SECONDS`` for all
    of it, since whatever it locks waits as long.  Only a clone's schema is taken over for good.

    Raises: DatabaseError (another replica is at it for too long, a right is missing), Unreachable.
    """
    with _translated():
        try:
            check_name(source)
            file = checked_statements(source, schema_sql)
            async with closing(await database.connect(f"preview of {source}")) as connection:
                applied = await _is_applied(connection, roles, source, _hash(schema_sql))
                async with (
                    source_turn(connection, source),
                    source_login(database, connection, roles, source, stays=False) as connect,
                ):
                    if applied:
                        altered = await _altered(connect, source, file)
                        return Preview(applied=True, altered=altered)
                    on_empty = await _describe(connection, connect, source, file)
                    return await _preview(connect, roles, source, file, on_empty)
        except SchemaRefused as refused:
            return Preview(refused=refused)


async def _altered(connect: Connect, source: str, file: File) -> SchemaRefused | None:
    """What differs from the file though it was applied; only the catalog's rows are locked."""
    async with closing(await connect()) as own:
        on_empty = await run_on_empty(own, source, file)
    if on_empty.described is None:
        return on_empty.refused
    async with closing(await connect()) as own, file_transaction(own, source, keep=False):
        found = await compare_applied(own, source=source, expected=on_empty.described)
    return altered(source, found, file) if found else None


async def _preview(
    connect: Connect, roles: Roles, source: str, file: File, on_empty: OnEmpty
) -> Preview:
    try:
        async with (
            closing(await connect()) as own,
            asyncio.timeout(PREVIEW_SECONDS),
            file_transaction(own, source, keep=False),
        ):
            before = await describe_schema(own, source)
            kept = await _run_and_look(own, roles, source, file, on_empty)
            after = await describe_schema(own, source)
    except TimeoutError:
        return Preview(unfinished=True)
    return Preview(changes=tuple(changes(before, after)), kept=kept)


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
    row = await stored_schema(connection, source)
    return row is not None and (row["schema_hash"], row["hex"]) == (schema_hash, roles.hex)


async def _describe(
    connection: asyncpg.Connection[Any], connect: Connect, source: str, file: File
) -> OnEmpty:
    """What the file says there should be; nothing where nothing is there to differ."""
    if await connection.fetchval(sql("is_schema_empty"), source):
        return OnEmpty()
    async with closing(await connect()) as own:
        return await run_on_empty(own, source, file)


async def _run_and_look(
    own: asyncpg.Connection[Any], roles: Roles, source: str, file: File, on_empty: OnEmpty
) -> tuple[str, ...]:
    """Run, inspect, compare; answers what stays though the file has it no more."""
    await run_file(own, source, file)
    findings = await inspect_schema(own, roles, source)
    if findings:
        raise all_found(source, findings, file)
    if on_empty.refused is not None:
        raise on_empty.refused
    if on_empty.described is None:
        return ()
    compared = await compare_schema(own, source=source, expected=on_empty.described)
    if compared.differences:
        raise differs(source, compared.differences, file)
    return compared.kept


async def _finish(own: asyncpg.Connection[Any], roles: Roles, source: str) -> None:
    relations = await list_relations(own, source)
    await own.execute(";\n".join(finish_schema(roles, source)))
    for relation in relations:
        await own.execute(";\n".join(finish_relation(roles, source, relation)))


def _tell(source: str, on_empty: OnEmpty, kept: Sequence[str]) -> None:
    if kept:
        log.warning("schema_leftovers_kept", source=source, what="; ".join(kept))
    if on_empty.unknown is not None:
        log.warning("schema_not_compared", source=source, what=on_empty.unknown)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, *LOST) as error:
        if isinstance(error.__context__, asyncio.CancelledError):
            raise error.__context__ from None  # cleaning up after it failed
        raise translate(error) from None
