"""One run's way to its seat: calls take turns, and those inside a transaction join it.

The fence itself is the server's: every data table has a trigger that compares
it, whatever SQL is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from contextvars import ContextVar
from itertools import count
from typing import Protocol

import asyncpg

from harvestd.database.pool import LOST, translate
from harvestd.database.step import step
from harvestd.errors import DatabaseError, LeaseLost, RunError, WriteRefused
from harvestd.loading.arguments import as_sent, checked_query, refused_argument
from harvestd.loading.covering import OUTSIDE_WINDOW, window_refused
from harvestd.loading.joined import RawConnection, Transaction, outlived
from harvestd.loading.rows import BATCH_ROWS_MAX
from harvestd.loading.seats import Binding, Seat

PAGE_ROWS = 512
"""Of a stream, at most: more would only take memory, a page is a round trip of some 100 µs."""
PAGE_ROWS_FIRST = 8
PAGE_BYTES = 1 << 20
SCALAR_BYTES = 16
CURSOR_NUMBERS = count(1)


class SeatGiver(Protocol):
    """Whoever gives a run its seat: the replica's `Seats`, or a trial's one session."""

    def bound(self, binding: Binding) -> AbstractAsyncContextManager[Seat]:
        """A seat bound to ``binding`` until the block ends."""
        ...

    async def take_away(self, seat: Seat, *, reason: str) -> None:
        """End a seat that somebody goes on holding."""
        ...


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
        self._kept: tuple[Seat, AsyncExitStack] | None = None
        self._keepers = 0

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
                            await step("commit")
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

    @asynccontextmanager
    async def cursor(self, query: str, *arguments: object) -> AsyncIterator[Cursor]:
        """A cursor over the rows of ``query``, on a seat that the run keeps until the block ends.

        Other calls of the run use that seat between its pages, nobody else does.  Inside a
        transaction it belongs to that, outside it stays what it was whatever is committed
        meanwhile.  Raises: as `seat`.
        """
        checked_query(query)
        inside = self._joined() is not None
        cursor = Cursor(self)
        if not inside:
            await self._keep()
        try:
            hold = "" if inside else "WITH HOLD "
            declared = f"DECLARE {cursor.name} NO SCROLL CURSOR {hold}FOR {query}"
            async with self.seat() as seat:
                sent = await as_sent(seat, self.source, declared, arguments)
                # fetch: what execute sends without arguments may be several statements.
                await seat.connection.fetch(declared, *sent)
            yield cursor
        finally:
            # With the run, its transaction or its backend the cursor has ended too.
            with suppress(RunError, DatabaseError, LeaseLost):
                async with self.seat() as seat:
                    await seat.connection.execute(f"CLOSE {cursor.name}")
            if not inside:
                await self._leave()

    async def _keep(self) -> None:
        """Have one seat for all calls, until as many have left."""
        self._refuse_after_end()
        with self.translated():
            async with self._turn:
                if self._kept is None:
                    stack = AsyncExitStack()
                    seat = await stack.enter_async_context(self._seats.bound(self._binding))
                    self._kept = (seat, stack)
                self._keepers += 1

    async def _leave(self) -> None:
        self._keepers -= 1
        if not self._turn.locked():  # else the call that has the turn lets go of it, at its end
            async with self._turn:
                await self._let_go()

    async def _let_go(self) -> None:
        """Give the kept seat back, unless somebody still keeps it; in one's turn."""
        if self._keepers == 0 and self._kept is not None:
            (_, stack), self._kept = self._kept, None
            await stack.aclose()

    async def end(self) -> None:
        """From now on every call is refused: the run, or this window of it, is over.

        A task that outlived run() may hold the seat, and in its transaction the run's row: its
        backend is ended before this returns, so that the end can be recorded.
        """
        self._ended = True
        if self._kept is not None:
            await self._seats.take_away(self._kept[0], reason="run() left a stream open")
        if self._held is not None:
            seat, task = self._held
            await self._seats.take_away(seat, reason="run() has ended")
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[Seat]:
        try:
            async with self._seat_of_this_call() as seat:
                self._refuse_after_end()
                self.used = True
                self._held = (seat, asyncio.current_task())
                try:
                    yield seat
                finally:
                    self._held = None
        finally:
            await self._let_go()

    @asynccontextmanager
    async def _seat_of_this_call(self) -> AsyncIterator[Seat]:
        if self._kept is None or self._kept[0].connection.is_closed():
            # A stream that is open has ended with its backend; other calls go on on a new one.
            async with self._seats.bound(self._binding) as seat:
                yield seat
            return
        seat = self._kept[0]
        try:
            yield seat
        except BaseException as error:
            if not isinstance(error, Exception):  # what its backend is doing is unknown
                await asyncio.shield(self._seats.take_away(seat, reason="cancelled"))
            raise

    def _joined(self) -> Transaction | None:
        transaction = _current.get()
        if transaction is None or transaction.owner is not self:
            return None
        if transaction.ended:
            raise outlived()
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
        except (OverflowError, ValueError) as error:
            raise _beyond_python(error) from None

    def _ours(self, error: BaseException) -> Exception:
        sqlstate = getattr(error, "sqlstate", None)
        message = str(getattr(error, "message", ""))
        if sqlstate == "HD001":
            return LeaseLost(str(self._binding.key))
        if sqlstate == OUTSIDE_WINDOW:
            return window_refused(self._binding)
        if sqlstate == "HD003":
            return WriteRefused(message, why="each script writes to its own data source's schema")
        if (refused := refused_argument(error)) is not None:
            return refused
        translated = translate(error)
        if sqlstate == "40P01":
            translated.what = "two runs waited for rows of each other (DeadlockDetected, 40P01)"
            translated.next_step = (
                "nothing was written, and it is tried again; if it recurs, let every transaction "
                "write its tables in the same order, and rows in the order of their key where "
                f"they are more than a batch ({BATCH_ROWS_MAX:,})"
            )
        if sqlstate == "34000":
            translated.what = "a stream ended with its database connection (34000)"
            translated.next_step = "read it again: it is tried again by itself"
        if sqlstate == "42501":
            translated.next_step = (
                "no GRANT is missing: a script reads its tenant's rows, and writes tables of its "
                "own data source by INSERT and UPDATE, db.upsert, db.copy and db.sweep"
            )
        if sqlstate is not None and sqlstate.startswith("42"):
            # Syntax and names of the plugin's own SQL: it quotes no row.
            translated.what += f": {message}"
        return translated


def _beyond_python(error: Exception) -> RunError:
    """asyncpg's own complaints about what it reads or sends; their texts may quote values."""
    return RunError(
        f"a value cannot be read or sent as it is ({type(error).__name__})",
        why="Python has no dates before the year 1 or after 9999, and no 24:00",
        next_step="SELECT it as text: column::text",
    )


class Cursor:
    """The rows of one query, page by page."""

    def __init__(self, fenced: Fenced) -> None:
        self._fenced = fenced
        self._page_rows = PAGE_ROWS_FIRST
        # Never the same name twice: a seat remembers statements by their text.
        self.name = f"harvestd_stream_{next(CURSOR_NUMBERS)}"

    async def page(self) -> list[asyncpg.Record]:
        """The next rows, as many as about PAGE_BYTES hold; none at the end.

        Raises: as `Fenced.seat`.
        """
        async with self._fenced.seat() as seat:
            rows = await seat.connection.fetch(f"FETCH {self._page_rows} FROM {self.name}")
        self._page_rows = next_page_rows(rows, self._page_rows)
        return rows


def next_page_rows(rows: Sequence[Sequence[object]], asked: int) -> int:
    """How many rows to ask for after a page of ``asked``: never more than eight times as many.

    A power of two: a seat remembers each as a statement of its own.
    """
    size = sum(
        len(value) if isinstance(value, str | bytes) else SCALAR_BYTES
        for row in rows
        for value in row
    )
    fit = PAGE_BYTES * len(rows) // size if size else PAGE_ROWS
    return 1 << (max(1, min(fit, asked * 8, PAGE_ROWS)).bit_length() - 1)
