"""Connections of the daemon's own, and the one place where asyncpg's errors become ours.

There is no pool of interchangeable connections: each duty (claims, records,
heartbeat, bindings, planning) has a `Line` of its own, so that none of them
can starve another.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg

from harvestd.database.entry import explain_entry
from harvestd.database.statements import load_statements
from harvestd.errors import DatabaseError, Unreachable

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 2.0
STATEMENT_SECONDS = 60.0
"""No statement of the daemon's own takes longer; a stalled connection is given up then."""

# A server that lost its client ends the session by itself (research: relsec 1.2, 1.4).
SESSION = {
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "10s",
    "timezone": "UTC",
    "search_path": "pg_catalog, pg_temp",
}

# asyncpg reports a lost connection through any of these (research: skeleton B.17, deploy 9).
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncio.TimeoutError,
)
DENIED = re.compile(r"(permission denied for|must be (owner|superuser|member|able) ).{1,200}")


def is_lost(error: BaseException) -> bool:
    """Whether ``error`` means that the connection, not the statement, is at fault."""
    return isinstance(error, LOST)


def translate(error: BaseException) -> DatabaseError:
    """Our error for asyncpg's, reduced to codes and names: its texts quote values and rows."""
    if isinstance(error, DatabaseError):
        return error
    ours = _translated(error)
    ours.sqlstate = getattr(error, "sqlstate", None)
    return ours


def _translated(error: BaseException) -> DatabaseError:
    kind = type(error).__name__.removesuffix("Error")
    if is_lost(error):
        return Unreachable(
            f"PostgreSQL cannot be reached: the connection was lost ({kind})",
            why="nothing is known about the statement that was under way",
            next_step="see whether the server runs, and its log; then try again",
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        denied = error.message or ""
        return DatabaseError(
            "PostgreSQL refused a statement: this role may not do it",
            # Only the server's own words: a trigger may say anything under this code.
            why=denied if DENIED.fullmatch(denied) else "insufficient privilege (42501)",
            next_step="GRANT it that right, or use the role that ran harvestd migrate",
        )
    sqlstate = getattr(error, "sqlstate", None)
    names = [
        f"{label} {value}"
        for label in ("schema_name", "table_name", "column_name", "constraint_name")
        if (value := getattr(error, label, None))
    ]
    return DatabaseError(
        f"PostgreSQL refused a statement: {kind}" + (f" ({sqlstate})" if sqlstate else ""),
        why=", ".join(names).replace("_name", ""),
        next_step=NEXT_STEPS.get(sqlstate or "", LOOK_IT_UP),
    )


NEXT_STEPS = {
    "53100": "free space where PostgreSQL keeps its data; runs go on by themselves",
    "53200": "give PostgreSQL more memory, or lower its work_mem; runs go on by themselves",
    "53300": "raise max_connections of PostgreSQL, or lower HARVESTD_SEATS_MAX",
    "55P03": "try again: another session holds what it needs; pg_stat_activity shows whose",
}
LOOK_IT_UP = (
    "the code is in PostgreSQL's appendix A; values are left out here on purpose, and a server of "
    "your own has the full text in its log"
)


class Database:
    """Where the database is, and how to open connections to it; as a block it closes its lines.

    ``statements`` may hold planted mutants (tests, torture).
    """

    def __init__(self, url: str, statements: Mapping[str, str] | None = None) -> None:
        self._url = url
        self.statements = statements or load_statements()
        self._lines: list[Line] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(
        self,
        purpose: str,
        *,
        user: str | None = None,
        password: str | None = None,
        statement_seconds: float | None = STATEMENT_SECONDS,
    ) -> asyncpg.Connection[Any]:
        """A new connection, shown as ``harvestd: purpose`` in pg_stat_activity.

        ``statement_seconds`` bounds each call; None for plugin SQL, whose run has its own limit.

        Raises: Unreachable, EntryRefused (wrong password, no such database), AddressRefused (a
        URL that cannot be one), DatabaseError.
        """
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(
                self._url,
                user=user,
                password=password,
                timeout=CONNECT_SECONDS,
                command_timeout=statement_seconds,
                server_settings={**SESSION, "application_name": f"harvestd: {purpose}"[:63]},
            )
        except (asyncpg.PostgresError, *LOST, ValueError) as error:
            known = explain_entry(error, self._url, user, lost=is_lost(error))
            raise known or translate(error) from None
        return connection

    def line(self, purpose: str) -> Line:
        """A connection for one duty of the daemon."""
        line = Line(self, purpose)
        self._lines.append(line)
        return line

    async def close(self) -> None:
        """End every line's connection; one that is used again opens a new one."""
        for line in self._lines:
            await line.close()


class Line:
    """One connection for one duty: opened at first use, reopened when lost, one call at a time.

    A ``statement`` is the name of a file below sql/queries.
    """

    def __init__(self, database: Database, purpose: str) -> None:
        self._database = database
        self._purpose = purpose
        self._connection: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of ``statement``.  Raises: Unreachable, DatabaseError."""
        async with self.connection() as connection:
            return await connection.fetch(self.sql(statement), *arguments)

    async def fetchrow(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of ``statement``, or None.  Raises: Unreachable, DatabaseError."""
        async with self.connection() as connection:
            return await connection.fetchrow(self.sql(statement), *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row, or None.  Raises: Unreachable, DatabaseError."""
        async with self.connection() as connection:
            return await connection.fetchval(self.sql(statement), *arguments)

    def sql(self, statement: str) -> str:
        """Its text, to be sent over ``connection()``."""
        return self._database.statements[statement]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """The connection itself, for this duty alone until the block ends.

        Raises: Unreachable, DatabaseError.  A lost connection is dropped, never reused.
        """
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._database.connect(self._purpose)
            connection = self._connection
            try:
                yield connection
            except (asyncpg.PostgresError, *LOST) as error:
                if is_lost(error):
                    self._drop()
                raise translate(error) from None
            except asyncio.CancelledError:
                # What the server made of a cancelled statement is unknown: start afresh.
                self._drop()
                raise

    async def close(self) -> None:
        """End the connection; a later call opens a new one."""
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                async with closing(connection):
                    pass

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


@asynccontextmanager
async def closing(connection: asyncpg.Connection[Any]) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The connection for the length of the block; then it is ended, politely or else at once."""
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=CLOSE_SECONDS)
        except (asyncpg.PostgresError, *LOST):
            connection.terminate()
