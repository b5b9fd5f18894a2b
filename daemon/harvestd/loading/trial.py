"""A trial: a script's ``db`` on the real database, in one transaction that nobody can commit.

    SET ROLE exec → BEGIN → a run row and its binding → run() in savepoints → a look → ROLLBACK

All of it is one session's open transaction, so whatever ends the process leaves nothing behind.
The session is the daemon's own login in the role of plugin SQL.  Policies and rights are those
of a seat, but what the server asks the *login* about is not: the guard of the tables (fence, own
schema) lets it pass, and SQL that says RESET ROLE gets the daemon's rights.  So a trial is for
scripts whose author is at the keyboard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import asyncpg

from harvestd.database.pool import LOST, Database, translate
from harvestd.database.roles import LOCK as ROLES_LOCK
from harvestd.database.roles import Roles, membership, membership_has_options
from harvestd.database.statements import sql
from harvestd.errors import RunError
from harvestd.loading.facade import Db
from harvestd.loading.fenced import Fenced
from harvestd.loading.seats import Binding, Seat
from harvestd.loading.shapes import Shapes
from harvestd.loading.writes import FRAMEWORK_COLUMNS, TENANT_ID, quoted
from harvestd.terms import RunKey, Window

# A COMMIT, whoever sends it, fails: the server finds two equal keys and rolls back.
NEVER_COMMITS = """
    CREATE TEMPORARY TABLE harvestd_trial (
        n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO pg_temp.harvestd_trial VALUES (1), (1);
"""


@dataclass(frozen=True, slots=True)
class TableTried:
    """What a trial wrote into one table, and the first of those rows."""

    schema: str
    name: str
    inserted: int
    updated: int
    deleted: int
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a trial would have left; ``ended``: the script's own SQL ended the transaction."""

    tables: tuple[TableTried, ...] = ()
    checkpoint: datetime | None = None
    bookmarks: tuple[str, ...] = ()
    ended: bool = False


class Trial:
    """The seat of a trial, with one place: what `Seats` is to a run."""

    def __init__(
        self, connection: asyncpg.Connection[Any], shapes: Shapes, roles: Roles, binding: Binding
    ) -> None:
        self._connection = connection
        self._roles = roles
        self._binding = binding
        self._seat = Seat("trial", connection, 0, uuid4())
        self._fenced = Fenced(self, binding)
        self.db = Db(self._fenced, shapes)
        """What run() receives."""

    @asynccontextmanager
    async def bound(self, binding: Binding) -> AsyncIterator[Seat]:
        """The session, in a savepoint: what a real run would commit, or roll back, by itself.

        Raises: RunError, when the script's own SQL has ended the transaction.
        """
        if not self._connection.is_in_transaction():
            raise RunError(
                "the trial's transaction is over; nothing was kept",
                why="SQL of the script said COMMIT or ROLLBACK, which a real run refuses to keep",
                next_step="leave transactions to db.transaction()",
            )
        try:
            async with self._connection.transaction():
                yield self._seat
        except BaseException:
            self._seat.forget_search_path()  # it was rolled back with the rest
            raise

    async def take_away(self, seat: Seat, *, reason: str) -> None:
        """End the session: a task that outlived run() holds it."""
        self._connection.terminate()

    async def end(self) -> None:
        """From now on every call of the script is refused."""
        await self._fenced.end()

    async def see(self, *, rows_max: int) -> Seen:
        """What there would be, had it been committed: also what was written before a failure."""
        connection = self._connection
        if connection.is_closed() or not connection.is_in_transaction():
            return Seen(ended=True)
        key = self._binding.key
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL ROLE {self._roles.exec}")
                counted = await connection.fetch(sql("count_trial_rows"))
                tables = [await self._sample(row, rows_max) for row in counted]
                await connection.execute("SET LOCAL ROLE NONE")
                row = await connection.fetchrow(
                    sql("see_trial"),
                    self._binding.run_no,
                    key.tenant_id,
                    key.source,
                    key.script,
                )
        except (asyncpg.PostgresError, *LOST) as error:
            raise translate(error) from None
        assert row is not None
        return Seen(tuple(tables), row["checkpoint"], tuple(row["bookmarks"]))

    async def _sample(self, counted: asyncpg.Record, rows_max: int) -> TableTried:
        place = f"{quoted(counted['schema'])}.{quoted(counted['name'])}"
        # age: 0 for our own transaction, below it for our savepoints; ctid: as they were written.
        statement = await self._connection.prepare(
            f"SELECT * FROM {place}"  # noqa: S608 - names of the catalog, quoted
            " WHERE pg_catalog.age(xmin) <= 0 ORDER BY ctid LIMIT $1"
        )
        rows = await statement.fetch(rows_max)
        names = [one.name for one in statement.get_attributes()]
        shown = [name for name in names if name not in (TENANT_ID, *FRAMEWORK_COLUMNS)]
        return TableTried(
            **dict(counted),
            columns=tuple(shown),
            rows=tuple(tuple(row[name] for name in shown) for row in rows),
        )


@asynccontextmanager
async def trial(
    database: Database, roles: Roles, key: RunKey, window: Window, *, checkpoints: bool
) -> AsyncIterator[Trial]:
    """A trial of ``key`` over ``window``, rolled back when the block ends, however it ends.

    ``checkpoints``: False for a snapshot script.  Raises: Unreachable, DatabaseError.
    """
    connection = await database.connect("try", statement_seconds=None)
    try:
        try:
            await _admit(connection, roles)
            await connection.execute("SET idle_in_transaction_session_timeout = 0")
            # For the session: after a COMMIT that failed, the script's SQL is still nobody's.
            await connection.execute(f"SET ROLE {roles.exec}")
            outer = connection.transaction()
            await outer.start()
            binding = await _bind(connection, roles, key, window, checkpoints=checkpoints)
        except (asyncpg.PostgresError, *LOST) as error:
            raise translate(error) from None
        made = Trial(connection, Shapes(database), roles, binding)
        yield made
        await made.end()
        if connection.is_in_transaction():
            await asyncio.wait_for(connection.execute("ROLLBACK"), timeout=10)
    finally:
        connection.terminate()  # and with it, if not before, the transaction


async def _admit(connection: asyncpg.Connection[Any], roles: Roles) -> None:
    """Let the daemon's login become the role of plugin SQL, whose rights it has anyway.

    Committed, once ever: held in the trial's transaction it would keep replicas from making seats.
    """
    admitted = await connection.fetchval(
        "SELECT pg_catalog.pg_has_role(session_user, $1::text::name, $2)",
        roles.exec,
        "SET" if membership_has_options(connection) else "MEMBER",
    )
    if not admitted:
        options = membership(connection, inherit=False, set_=True)
        async with connection.transaction():
            await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", ROLES_LOCK)
            await connection.execute(f"GRANT {roles.exec} TO SESSION_USER{options}")


async def _bind(
    connection: asyncpg.Connection[Any],
    roles: Roles,
    key: RunKey,
    window: Window,
    *,
    checkpoints: bool,
) -> Binding:
    await connection.execute("SET LOCAL ROLE NONE")
    row = await connection.fetchrow(
        sql("begin_trial"),
        key.tenant_id,
        key.source,
        key.script,
        f"trial {uuid4()}",
        window.start,
        window.end,
        checkpoints,
    )
    assert row is not None
    await connection.execute(NEVER_COMMITS)
    await connection.execute(f"SET LOCAL ROLE {roles.exec}")
    return Binding(
        key=key,
        run_no=row["run_no"],
        fence=row["fence"],
        handed_from=window.start if checkpoints else None,
        covers=window if checkpoints else None,
    )


def foreign_tables(tables: Sequence[TableTried], source: str) -> list[str]:
    """Tables of other data sources that were written: a real run is refused there."""
    return [f"{one.schema}.{one.name}" for one in tables if one.schema != source]
