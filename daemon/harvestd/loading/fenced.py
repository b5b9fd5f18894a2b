"""One run's way to its seat: calls take turns, and those inside a transaction join it.

The fence itself is the server's: every data table has a trigger that compares
it, whatever SQL is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import asyncpg

from harvestd.database.pool import LOST, translate
from harvestd.errors import LeaseLost, RunError, WindowRefused, WriteRefused
from harvestd.loading.seats import Binding, Seat


class SeatGiver(Protocol):
    """Whoever gives a run its seat: the replica's `Seats`, or a trial's one session."""

    def bound(self, binding: Binding) -> AbstractAsyncContextManager[Seat]:
        """A seat bound to ``binding`` until the block ends."""
        ...

    async def take_away(self, seat: Seat, *, reason: str) -> None:
        """End a seat that somebody goes on holding."""
        ...


class Transaction:
    """An open transaction of one run: its seat, and the lock by which calls take turns."""

    def __init__(self, owner: Fenced, seat: Seat) -> None:
        self.owner = owner
        self.seat = seat
        self.turn = asyncio.Lock()
        self.ended = False

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Seat]:
        """The seat for one call, which takes turns with others of the same transaction."""
        async with self.turn:
            if self.ended:
                raise _outlived()
            with self.owner.translated():
                yield self.seat


# Inherited by gathered tasks, which therefore join the transaction instead of waiting for it.
_current: ContextVar[Transaction | None] = ContextVar("harvestd_transaction", default=None)


class Fenced:
    """The connection of one run for one window.  It refuses everything once it has ended."""

    def __init__(self, seats: SeatGiver, binding: Binding) -> None:
        self._seats = seats
        self._binding = binding
        self._turn = asyncio.Lock()
        self._ended = False
        self.used = False
        """Whether anything was asked of the database."""
        self._held: tuple[Seat, asyncio.Task[object] | None] | None = None

    @property
    def binding(self) -> Binding:
        """The run and the window that everything here is for."""
        return self._binding

    @property
    def source(self) -> str:
        """The data source whose schema the run may write."""
        return self._binding.key.source

    @property
    def tenant_id(self) -> str:
        """The tenant whose rows the run sees."""
        return self._binding.key.tenant_id

    @asynccontextmanager
    async def seat(self) -> AsyncIterator[Seat]:
        """The run's seat for one call: the open transaction's, or one of its own.

        Raises: LeaseLost, WindowRefused, WriteRefused, Unreachable, DatabaseError; never the
        driver's own errors, whose texts quote rows.
        """
        self._refuse_after_end()
        if (transaction := self._joined()) is not None:
            async with transaction.call() as seat:
                yield seat
        else:
            with self.translated():
                async with self._turn, self._holding() as seat:
                    yield seat

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[RawConnection]:
        """One transaction on the server; everything inside commits together or not at all."""
        self._refuse_after_end()
        if self._joined() is not None:
            raise WriteRefused(
                "a transaction is already open in this run",
                why="db.transaction() does not nest",
                next_step="make the calls inside the outer block: they join it",
            )
        from_inside: BaseException | None = None
        try:
            async with self._turn, self._holding() as seat:
                transaction = Transaction(self, seat)
                try:
                    async with seat.connection.transaction():
                        token = _current.set(transaction)
                        try:
                            yield RawConnection(transaction)
                            async with transaction.turn:
                                transaction.ended = True
                        except BaseException as error:
                            from_inside = error
                            raise
                        finally:
                            # After an error nothing is waited for: a call may be under way.
                            transaction.ended = True
                            _current.reset(token)
                except BaseException:
                    seat.forget_search_path()  # it rolls back with the rest
                    raise
        except (asyncpg.PostgresError, *LOST) as error:
            if error is from_inside:
                raise  # the script's own, perhaps its upstream's ConnectionError: none of ours
            raise self._ours(error) from None

    async def end(self) -> None:
        """From now on every call is refused: the run, or this window of it, is over.

        A task that outlived run() may hold the seat, and in its transaction the run's row: its
        backend is ended before this returns, so that the end can be recorded.
        """
        self._ended = True
        if self._held is not None:
            seat, task = self._held
            await self._seats.take_away(seat, reason="run() has ended")
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[Seat]:
        async with self._seats.bound(self._binding) as seat:
            self._refuse_after_end()
            self.used = True
            self._held = (seat, asyncio.current_task())
            try:
                yield seat
            finally:
                self._held = None

    def _joined(self) -> Transaction | None:
        transaction = _current.get()
        if transaction is None or transaction.owner is not self:
            return None
        if transaction.ended:
            raise _outlived()
        return transaction

    def _refuse_after_end(self) -> None:
        if self._ended:
            raise RunError(
                "db was used after its run() had ended",
                why="a task that run() started outlived it",
                next_step="await everything that run() starts before it returns",
            )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The driver's errors as ours; only around calls of the driver itself."""
        try:
            yield
        except (asyncpg.PostgresError, *LOST) as error:
            raise self._ours(error) from None

    def _ours(self, error: BaseException) -> Exception:
        sqlstate = getattr(error, "sqlstate", None)
        message = str(getattr(error, "message", ""))
        if sqlstate == "HD001":
            return LeaseLost(str(self._binding.key))
        if sqlstate == "HD002":
            return WindowRefused(
                message,
                why="a checkpoint lies in its window: start < date <= end, and never goes back",
                next_step="checkpoint the newest date that is wholly loaded, or leave it out",
            )
        if sqlstate == "HD003":
            return WriteRefused(message, why="each script writes to its own data source's schema")
        translated = translate(error)
        if sqlstate == "42501":
            translated.next_step = (
                "no GRANT is missing: a script reads its tenant's rows, and writes tables of its "
                "own data source by INSERT and UPDATE, db.upsert, db.copy and db.sweep"
            )
        if sqlstate is not None and sqlstate.startswith("42"):
            # Syntax and names of the plugin's own SQL: it quotes no row.
            translated.what += f": {message}"
        return translated


class RawConnection:
    """The connection inside ``db.transaction()``, for SQL of the author's own.

    As asyncpg's: ``execute``, ``executemany``, ``fetch``, ``fetchrow``, ``fetchval``.  The
    server holds it to the run's tenant, schema and fence.  It ends with the block.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def execute(self, query: str, *arguments: object) -> str:
        """Run a statement; the server's command tag."""
        async with self._connection() as connection:
            return await connection.execute(query, *arguments)

    async def executemany(self, query: str, arguments: Any) -> None:
        """Run a statement once for each tuple of arguments."""
        async with self._connection() as connection:
            await connection.executemany(query, arguments)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows."""
        async with self._connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self._connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self._connection() as connection:
            return await connection.fetchval(query, *arguments)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        async with self._transaction.call() as seat:
            await seat.admit_plugin_sql(self._transaction.owner.source)
            yield seat.connection


def _outlived() -> RunError:
    return RunError(
        "db was used after its transaction had ended",
        why="a task started inside db.transaction() outlived the block",
        next_step="await everything started inside the block before it ends",
    )
