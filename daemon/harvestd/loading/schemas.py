"""A data source's schema.sql: run by the source's own role, inspected, finished into the wall.

The file is somebody else's code.  It gets a login that owns the one schema and nothing else,
a password that only this call knows, and one transaction: either all of it is there,
inspected and finished, or none of it.  (What the file would make on an empty schema is to be
compared with what there is; that belongs between running and finishing, in ``_run``.)
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from harvestd.catalog.discover import RESERVED, Source
from harvestd.database.pool import LOST, Database, closing, translate
from harvestd.database.roles import Roles, ensure_source_role, scram_verifier
from harvestd.database.statements import sql
from harvestd.database.step import step
from harvestd.database.transaction import whole_transaction
from harvestd.errors import DatabaseError, SchemaRefused
from harvestd.loading.ddl import DdlStatement, cut_statements, find_line, makes_schema
from harvestd.loading.finishing import FINISHING, Relation, finish_relation, finish_schema
from harvestd.loading.inspection import Finding, inspect_schema
from harvestd.loading.ownership import ensure_schema
from harvestd.loading.writes import quoted
from harvestd.terms import NAME

# Any fixed number will do; "hsch" in ASCII.
LOCK = 0x68736368
STATEMENT_SECONDS = 300
"""One statement of a schema.sql takes no longer: an index on a large table may need minutes."""
LOCK_SECONDS = 5
"""While a statement waits for a table, every load of it waits behind the statement."""
FINDINGS_SHOWN_MAX = 10

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

ENDS_TRANSACTION = frozenset(
    ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE"]
)
WRITES = frozenset(["INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "TRUNCATE", "WITH", "VALUES"])
GUARD_STATES = ("HD001", "HD003")
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
ABOUT_VALUES = ("22", "P0")
"""Classes whose messages say what a row holds: wrong data, and what RAISE or ASSERT was given."""
QUOTED = re.compile(r'"([^"]*)"|(\d+)')
AGAIN = "correct it: it is tried again at the next tick; the tables are as they were"


async def apply_source_schema(
    database: Database, roles: Roles, *, source: str, schema_sql: str
) -> bool:
    """Run ``schema_sql`` for ``source``, inspect the schema and finish its tables.

    Answers True when it ran, False when this content was applied and finished already, for
    these roles and by this version of finishing (one query).  Replicas that ask at once take turns.

    Raises: SchemaRefused, with line and statement as far as known; the old schema stays as it
    was.  DatabaseError (another replica is at it for too long, a right is missing), Unreachable.
    """
    _check_name(source)
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
) -> list[str]:
    """Those of ``sources`` whose schema.sql was not applied and finished as it is, for these roles.

    Writes nothing; ``roles`` None: before the first start made them, so that nothing was.
    """
    return [
        source.name
        for source in sources
        if source.schema_sql is not None
        and not (
            roles and await _is_applied(connection, roles, source.name, _hash(source.schema_sql))
        )
    ]


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
        refused.sqlstate = LOCK_NOT_AVAILABLE
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
    statements = _checked_statements(source, schema_sql)
    try:
        async with whole_transaction(own):
            await own.execute(OUR_SESSION)
            before = await own.fetchval(TRANSACTION_BEFORE)
            await own.execute(f"SET search_path = {quoted(source)}, pg_temp")
            for statement in statements:
                await _run_statement(own, source, statement)
            await own.execute(OUR_SESSION)
            if await own.fetchval(TRANSACTION_AFTER) != before:
                raise _left_transaction(source)
            findings = await inspect_schema(own, roles, source)
            if findings:
                raise _refusal(source, findings, statements)
            await _finish(own, roles, source)
    except (asyncpg.PostgresError, *LOST) as error:
        if isinstance(error.__context__, SchemaRefused):
            raise error.__context__ from None  # a lost connection cannot even roll back
        raise _failed(source, error, None) from None


async def _run_statement(
    own: asyncpg.Connection[Any], source: str, statement: DdlStatement
) -> None:
    try:
        await own.execute(statement.text)
    except (asyncpg.PostgresError, *LOST) as error:
        raise _failed(source, error, statement) from None


async def _finish(own: asyncpg.Connection[Any], roles: Roles, source: str) -> None:
    rows = await own.fetch(sql("list_relations_to_finish"), source)
    await own.execute(";\n".join(finish_schema(roles, source)))
    for row in rows:
        await own.execute(";\n".join(finish_relation(roles, source, Relation(**row))))


def _check_name(source: str) -> None:
    if NAME.fullmatch(source) and source not in RESERVED and not source.startswith("pg_"):
        return
    raise SchemaRefused(
        f"no data source can be called {source!r}",
        why=f"its schema has the same name: {NAME.pattern}, not pg_* and none of "
        + ", ".join(sorted(RESERVED)),
        next_step="rename its folder",
        path=f"{source}/schema.sql",
    )


def _checked_statements(source: str, schema_sql: str) -> tuple[DdlStatement, ...]:
    """The statements to run.  Raises: SchemaRefused for what is no DDL by its first word."""
    unprintable = re.search("[\x00\ud800-\udfff]", schema_sql)
    if unprintable:
        line = 1 + schema_sql.count("\n", 0, unprintable.start())
        raise _refused(source, "it holds a character that PostgreSQL cannot store", line=line)
    kept = []
    for statement in cut_statements(schema_sql):
        if statement.verb in ENDS_TRANSACTION:
            raise _left_transaction(source, statement)
        if statement.verb in WRITES:
            raise _writes(source, statement)
        if not makes_schema(statement, source):
            kept.append(statement)
    return tuple(kept)


def _failed(source: str, error: BaseException, statement: DdlStatement | None) -> SchemaRefused:
    """Our error for the server's: its message, unless it may quote a row; never its detail."""
    sqlstate = str(getattr(error, "sqlstate", None) or "")
    line = statement.line if statement else None
    position = getattr(error, "position", None)
    if statement is not None and position is not None:
        line = statement.line_at(int(position))
    if sqlstate in GUARD_STATES:
        return _writes(source, statement)
    what = type(error).__name__.removesuffix("Error")
    if not isinstance(error, LOST) and _may_be_told(error, statement):
        what = str(getattr(error, "message", None) or what)
    where = f" in: {_begin_of(statement)}" if statement else ""
    why, next_step = f"PostgreSQL refused it ({sqlstate}){where}", AGAIN
    if isinstance(error, LOST):
        why = f"the connection was lost, or took more than {STATEMENT_SECONDS} s{where}"
    elif sqlstate == LOCK_NOT_AVAILABLE:
        why = f"a table was in use for {LOCK_SECONDS} s and more{where}"
        next_step = "nothing to do if it passes: it is tried again at the next tick"
    elif statement is not None and statement.tokens[:2] == ("CREATE", "SCHEMA"):
        next_step = f"leave it out, or write CREATE SCHEMA IF NOT EXISTS {source}: it is there"
    elif sqlstate == QUERY_CANCELED:
        why = f"it took more than {STATEMENT_SECONDS} s, or was cancelled{where}"
    refused = _refused(source, what, why=why, next_step=next_step, line=line)
    refused.in_use = sqlstate == LOCK_NOT_AVAILABLE
    return refused


def _may_be_told(error: BaseException, statement: DdlStatement | None) -> bool:
    """Whether the server's message is about the file, and quotes nothing that was computed.

    The owner of the tables can read them, and RAISE takes any class and text; so a message is
    told that points into the file, or that names only what stands there.
    """
    sqlstate, message, context, position = (
        str(getattr(error, name, None) or "")
        for name in ("sqlstate", "message", "context", "position")
    )
    if context:  # it comes from inside a DO, or from SQL that was put together there
        return False
    if position:
        return True
    if sqlstate.startswith(ABOUT_VALUES):
        return False
    text = None if statement is None else statement.text.lower()
    return text is None or all(
        word.lower() in text for found in QUOTED.findall(message) for word in found
    )


def _left_transaction(source: str, statement: DdlStatement | None = None) -> SchemaRefused:
    return _refused(
        source,
        "it begins or ends a transaction"
        + (f": {_begin_of(statement)}" if statement is not None else ""),
        why="the file runs in one transaction, with its inspection: all of it or nothing",
        next_step="leave BEGIN, COMMIT, ROLLBACK, SAVEPOINT and PREPARE out",
        line=None if statement is None else statement.line,
    )


def _writes(source: str, statement: DdlStatement | None) -> SchemaRefused:
    return _refused(
        source,
        "it writes rows" + (f": {_begin_of(statement)}" if statement is not None else ""),
        why="schema.sql is DDL only, since rows belong to tenants",
        next_step="give a new column its value by DEFAULT; write rows in a script",
        line=None if statement is None else statement.line,
    )


def _refusal(
    source: str, findings: Sequence[Finding], statements: Sequence[DdlStatement]
) -> SchemaRefused:
    """One error for all that was found; its line is that of the first one found in the file."""
    shown = findings[:FINDINGS_SHOWN_MAX]
    lines = [find_line(statements, finding.words) for finding in shown]
    what = [
        finding.what + (f" (line {line})" if line is not None else "")
        for finding, line in zip(shown, lines, strict=True)
    ]
    more = len(findings) - len(shown)
    return _refused(
        source,
        "; ".join(what) + (f"; and {more} more" if more else ""),
        why="all tenants' rows lie in the same tables, and the server must hold them apart",
        next_step="; ".join(dict.fromkeys(finding.mend for finding in shown)),
        line=next((line for line in lines if line is not None), None),
    )


def _refused(
    source: str, what: str, *, why: str = "", next_step: str = AGAIN, line: int | None = None
) -> SchemaRefused:
    path = f"{source}/schema.sql"
    return SchemaRefused(what, why=why, next_step=next_step, path=path, line=line)


def _begin_of(statement: DdlStatement) -> str:
    """The statement's beginning on one line, enough to find it by."""
    text = " ".join(statement.text.split())
    return text if len(text) <= 80 else text[:77] + "..."
