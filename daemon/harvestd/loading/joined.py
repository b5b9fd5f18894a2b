"""What an open transaction of a run hands out: to calls of `db` that join it, and to its author."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Protocol

import asyncpg

from harvestd.errors import RunError
from harvestd.loading.arguments import as_sent, check_for_many
from harvestd.loading.seats import Seat


class Owner(Protocol):
    """The run that a transaction belongs to."""

    @property
    def source(self) -> str:
        """Its data source."""
        ...

    def translated(self) -> AbstractContextManager[None]:
        """Within it the driver's errors become ours."""
        ...


class Transaction:
    """An open transaction of one run: its seat, and the lock by which calls take turns."""

    def __init__(self, owner: Owner, seat: Seat) -> None:
        self.owner = owner
        self.seat = seat
        self.turn = asyncio.Lock()
        self.ended = False

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Seat]:
        """The seat for one call, which takes turns with others of the same transaction."""
        async with self.turn:
            if self.ended:
                raise outlived()
            with self.owner.translated():
                yield self.seat


class RawConnection:
    """The connection inside ``db.transaction()``, for SQL of the author's own.

    As asyncpg's: ``execute``, ``executemany``, ``fetch``, ``fetchrow``, ``fetchval``.  The
    server holds it to the run's tenant, schema and fence.  It ends with the block.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def execute(self, query: str, *arguments: object) -> str:
        """Run a statement; the server's command tag."""
        async with self._transaction.call() as seat:
            sent = await as_sent(seat, self._transaction.owner.source, query, arguments)
            return await seat.connection.execute(query, *sent)

    async def executemany(self, query: str, arguments: Any) -> None:
        """Run a statement once for each tuple of arguments."""
        async with self._transaction.call() as seat:
            check = await check_for_many(seat, self._transaction.owner.source, query)
            await seat.connection.executemany(query, (check(tuple(one)) for one in arguments))

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows."""
        async with self._transaction.call() as seat:
            sent = await as_sent(seat, self._transaction.owner.source, query, arguments)
            return await seat.connection.fetch(query, *sent)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self._transaction.call() as seat:
            sent = await as_sent(seat, self._transaction.owner.source, query, arguments)
            return await seat.connection.fetchrow(query, *sent)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self._transaction.call() as seat:
            sent = await as_sent(seat, self._transaction.owner.source, query, arguments)
            return await seat.connection.fetchval(query, *sent)


def outlived() -> RunError:
    """The error of a call that came after its transaction."""
    return RunError(
        "db was used after its transaction had ended",
        why="a task started inside db.transaction() outlived the block",
        next_step="await everything started inside the block before it ends",
    )
