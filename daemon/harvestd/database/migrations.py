"""Migrations: numbered, forward only, checksummed, each in a transaction of its own.

A migration's file says in its first line whether it breaks a harvestd that does not know it.
One advisory lock lets two replicas that start at once take turns, and whoever is killed in the
middle leaves whole migrations only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import asyncpg

from harvestd import __version__
from harvestd.database import adoption
from harvestd.database.pool import LOST, translate
from harvestd.database.prisma import PRISMA_LINES
from harvestd.database.statements import sql, sql_root
from harvestd.database.transaction import whole_transaction
from harvestd.errors import DatabaseError, SchemaTooNew, SchemaTooOld

OLDEST_SERVER = 150000
"""PostgreSQL 15: NULLS NOT DISTINCT, security_invoker views and CREATE rights on public as here."""
FILE_NAME = re.compile(r"(\d{4})_[a-z_]+\.sql")
HEADER = re.compile(r"-- breaking: (yes|no)\n")
ADOPTION = 2
"""The migration that takes over the application's tables."""
# Any fixed number will do; this one is "harv" in ASCII.
LOCK = 0x68617276
# A migration may wait for another replica's, but not for ever behind a process that hangs.
WAIT_SECONDS = 600.0
# While an ALTER waits for one session, every other one waits behind the ALTER.
LOCK_SECONDS = 5
LOCK_NOT_AVAILABLE = "55P03"

BOOTSTRAP = """
    CREATE SCHEMA IF NOT EXISTS harvestd;
    CREATE SCHEMA IF NOT EXISTS harvestd_api;
    CREATE TABLE IF NOT EXISTS harvestd.schema_migration (
        number     integer     NOT NULL,
        name       text        NOT NULL,
        checksum   text        NOT NULL,
        breaking   boolean     NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        version    text        NOT NULL,
        CONSTRAINT schema_migration_pkey PRIMARY KEY (number)
    );
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration: from a file with its ``text``, or, without it, as the database recorded it."""

    number: int
    name: str
    checksum: str
    breaking: bool
    text: str = ""


def say_nothing(line: str) -> None:
    """The ``report`` of those who do not listen."""


async def migrate(
    connection: asyncpg.Connection[Any],
    *,
    explicit: bool,
    report: Callable[[str], None] = say_nothing,
    known: Sequence[Migration] | None = None,
) -> tuple[str, ...]:
    """Bring the database to the newest schema; answers the names of what was applied here.

    ``explicit``: `harvestd migrate` itself asks.  Otherwise only an empty or older database is
    migrated; a breaking migration, or the adoption of tables that hold rows, is left to it.
    ``known``: the migrations of this harvestd (tests give their own).

    Raises: SchemaTooOld (`harvestd migrate` is needed), SchemaTooNew, AdoptionRefused,
    DatabaseError (a changed file, a missing right, a lock not got), Unreachable.
    """
    known = load_migrations() if known is None else known
    try:
        return await _migrate(connection, known, explicit=explicit, report=report)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None


async def check_schema(
    connection: asyncpg.Connection[Any], *, known: Sequence[Migration] | None = None
) -> None:
    """See that this harvestd can work on the database as it is; writes nothing.

    Raises: SchemaTooNew (it has a breaking migration unknown here), SchemaTooOld (one is
    missing), DatabaseError, Unreachable.
    """
    known = load_migrations() if known is None else known
    try:
        recorded = await _recorded(connection)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    missing = pending(known, recorded)
    if missing:
        raise SchemaTooOld(
            f"the database lacks {len(missing)} migration(s), the first is {missing[0].name}",
            why=f"this is harvestd {__version__}",
            next_step="harvestd migrate",
        )


async def unknown_migrations(connection: asyncpg.Connection[Any]) -> list[str]:
    """The names of those that a newer harvestd applied; raises asyncpg's errors."""
    numbers = {migration.number for migration in load_migrations()}
    recorded = await _recorded(connection)
    return [entry.name for number, entry in recorded.items() if number not in numbers]


@cache
def load_migrations() -> tuple[Migration, ...]:
    """The migrations of this harvestd, by number.

    Raises: ValueError for a file without a header, or a number that is missing or taken.
    """
    found: list[Migration] = []
    for path in sorted((sql_root() / "migrations").glob("*.sql")):
        # Whatever git made of the line ends, the checksum is of the same text.
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        name, header = FILE_NAME.fullmatch(path.name), HEADER.match(text)
        if name is None or header is None or int(name[1]) != len(found) + 1:
            raise ValueError(f"{path.name}: must be NNNN_words.sql, the next number, with a header")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        breaking = header[1] == "yes"
        found.append(Migration(int(name[1]), path.stem, checksum, breaking, text))
    return tuple(found)


def pending(known: Sequence[Migration], recorded: Mapping[int, Migration]) -> tuple[Migration, ...]:
    """What is still to be applied, in order.

    Raises: SchemaTooNew (a breaking migration unknown here), DatabaseError (a file changed
    after it was applied, or one lies before others that were applied).
    """
    numbers = {migration.number for migration in known}
    for stranger in (entry for number, entry in recorded.items() if number not in numbers):
        if stranger.breaking:
            raise SchemaTooNew(
                f"a newer harvestd changed this database: {stranger.name}",
                why=f"that migration breaks what harvestd {__version__} does",
                next_step="update harvestd here to the version that runs elsewhere",
            )
    for migration in known:
        applied = recorded.get(migration.number)
        if applied is not None and applied.checksum != migration.checksum:
            raise DatabaseError(
                f"the migration {migration.name} was changed after it was applied",
                why=f"the database has it as {applied.name} with checksum "
                f"{applied.checksum[:12]}, the file has {migration.checksum[:12]}",
                next_step="restore the file as released; a change needs a migration of its own",
            )
    missing = tuple(migration for migration in known if migration.number not in recorded)
    if missing and recorded and missing[0].number < max(recorded):
        raise DatabaseError(
            f"the migration {missing[0].name} lies before others that were applied",
            why="migrations go forward only",
            next_step="give its file the next free number",
        )
    return missing


async def _migrate(
    connection: asyncpg.Connection[Any],
    known: Sequence[Migration],
    *,
    explicit: bool,
    report: Callable[[str], None],
) -> tuple[str, ...]:
    async with _locked(connection):  # so that no other replica is half-way while we look
        missing, adopted = await look(connection, known, explicit=explicit)
    applied = [
        migration.name for migration in missing if await _apply(connection, migration, report)
    ]
    if adopted and applied:
        await _report_adoption(connection, adopted, report)
    return tuple(applied)


async def look(
    connection: asyncpg.Connection[Any], known: Sequence[Migration], *, explicit: bool
) -> tuple[tuple[Migration, ...], tuple[str, ...]]:
    """What is to be applied, and the application's tables to be taken over by it; only reads."""
    seen = await _see(connection)
    refuse_old_server(seen["version_num"])
    recorded = await _recorded(connection, seen)
    missing = pending(known, recorded)
    adopted: tuple[str, ...] = ()
    if any(migration.number == ADOPTION for migration in missing):
        adopted = await adoption.refuse_unfit(connection, seen["role"])
        _refuse_missing_rights(seen, creates=len(adopted) < len(adoption.TABLES))
    if not explicit:
        await _refuse_unasked(connection, missing, adopted, anew=not recorded)
    return missing, adopted


def refuse_old_server(version_num: int) -> None:
    """Raise DatabaseError for a PostgreSQL older than 15; ``version_num`` as in 150004."""
    if version_num < OLDEST_SERVER:
        raise DatabaseError(
            f"PostgreSQL {version_num // 10000} is too old",
            why="harvestd needs PostgreSQL 15 or newer",
            next_step="upgrade the server, or unset HARVESTD_DATABASE_URL for the embedded one",
        )


async def _see(connection: asyncpg.Connection[Any]) -> Mapping[str, Any]:
    [row] = await connection.fetch(sql("see_database"))
    return dict(row)


async def _recorded(
    connection: asyncpg.Connection[Any], seen: Mapping[str, Any] | None = None
) -> dict[int, Migration]:
    """What was applied, by number."""
    seen = seen or await _see(connection)
    if not seen["has_migrations"]:
        return {}
    rows = await connection.fetch(sql("list_migrations"))
    return {row["number"]: Migration(**dict(row)) for row in rows}


def _refuse_missing_rights(seen: Mapping[str, Any], *, creates: bool) -> None:
    role = seen["role"]
    if not seen["may_create_schema"] and not seen["has_schema"]:
        raise DatabaseError(
            f"the role {role} may not create schemas in this database",
            why="harvestd keeps its own tables in the schema harvestd",
            next_step=f'the owner of the database runs: GRANT CREATE ON DATABASE ... TO "{role}"',
        )
    if creates and not seen["may_create_tables"]:
        raise DatabaseError(
            f"the role {role} may not create tables in the schema public",
            why="the tables that the specification names are there",
            next_step=f'the owner of the database runs: GRANT CREATE ON SCHEMA public TO "{role}"',
        )


async def _refuse_unasked(
    connection: asyncpg.Connection[Any],
    missing: Sequence[Migration],
    adopted: tuple[str, ...],
    *,
    anew: bool,
) -> None:
    """Raise SchemaTooOld for what only `harvestd migrate` may do."""
    if adopted and await adoption.holds_rows(connection, adopted):
        raise SchemaTooOld(
            f"the application's tables hold rows: {', '.join(adopted)}",
            why="harvestd would add columns and triggers to them and change their times to "
            "timestamptz, which is not done in passing",
            next_step="harvestd migrate",
        )
    breaking = [migration.name for migration in missing if migration.breaking]
    if breaking and not anew:
        raise SchemaTooOld(
            f"the next migration breaks older replicas: {breaking[0]}",
            why="it is applied only when asked for, after the older replicas were stopped",
            next_step="harvestd migrate",
        )


@asynccontextmanager
async def _locked(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """A transaction in which no other replica migrates."""
    async with whole_transaction(connection):
        # Waiting for another replica may take as long as its migration does.
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=WAIT_SECONDS)
        # With this path the server spells names in full, whatever the caller's own is.
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        yield


async def _apply(
    connection: asyncpg.Connection[Any], migration: Migration, report: Callable[[str], None]
) -> bool:
    """Apply one migration, unless another replica did so meanwhile; whether it was done here."""
    try:
        async with _locked(connection):
            recorded = await _recorded(connection)
            if migration.number in recorded:
                return False
            if not recorded:
                await connection.execute(BOOTSTRAP)
            await connection.execute(migration.text, timeout=WAIT_SECONDS)
            await connection.fetchval(
                sql("note_migration"),
                migration.number,
                migration.name,
                migration.checksum,
                migration.breaking,
                __version__,
            )
    except asyncpg.PostgresError as error:
        raise _explain(error, migration) from None
    report(f"applied {migration.name}")
    return True


def _explain(error: asyncpg.PostgresError, migration: Migration) -> DatabaseError:
    refused = adoption.refused_by_server(error) if migration.number == ADOPTION else None
    if refused is not None:
        return refused
    if error.sqlstate != LOCK_NOT_AVAILABLE:
        plain = translate(error)
        plain.why = f"in the migration {migration.name}; {plain.why}".rstrip("; ")
        return plain
    busy = DatabaseError(
        f"{migration.name} could not lock a table of the application in time",
        why="some session has been using it in one transaction for seconds; waiting longer would "
        "have made every other session wait behind harvestd",
        next_step="run harvestd migrate again, at a quieter moment if it recurs",
    )
    busy.sqlstate = error.sqlstate
    return busy


async def _report_adoption(
    connection: asyncpg.Connection[Any], adopted: tuple[str, ...], report: Callable[[str], None]
) -> None:
    report(f"took over {', '.join(adopted)}; rows and progress are kept")
    kept = await connection.fetch(sql("list_scripts_not_renamed"))
    for row in kept:
        report(
            f"{row['tenant_id']}/{row['data_source']}: the script {row['script']!r} keeps its "
            "name, since another row has the same one without the ending"
        )
    report(PRISMA_LINES)
