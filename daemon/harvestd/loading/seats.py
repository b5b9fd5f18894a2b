"""Seats: the database logins that plugin SQL runs on, leased by this replica.

A seat is bound to one run at a time by a row that the daemon writes; the server
reads tenant and fence from it, so SQL on a seat cannot forge either.  One on
which only our own statements ran is simply bound anew.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from harvestd.database.logins import ensure_seat, scram_verifier
from harvestd.database.pool import LOST, Database, Line
from harvestd.database.roles import Roles
from harvestd.database.step import step
from harvestd.errors import DatabaseError, LeaseLost, SeatsTaken, Unreachable
from harvestd.loading.cleaning import clean_session
from harvestd.observing import metrics
from harvestd.observing.logs import get_logger
from harvestd.runs.coalescing import Coalescer
from harvestd.terms import RunKey, Window

log = get_logger()

END_BACKEND_MS = 5_000
CLEAN_SECONDS = 5.0
SEAT_WAIT_SECONDS = 60.0
"""A call takes milliseconds: who waits so long waits for long transactions or streams."""


class Binding(NamedTuple):
    """For which run, and which of its windows, a seat works."""

    key: RunKey
    run_no: int
    fence: int
    handed_from: datetime | None
    """Where the window handed to run() begins; None for snapshot scripts: no checkpoints."""
    covers: Window | None


class Seat:
    """One login with its one connection."""

    def __init__(
        self,
        name: str,
        connection: asyncpg.Connection[Any],
        seat_no: int,
        replica_id: UUID,
    ) -> None:
        self.name = name
        self.connection = connection
        self.seat_no = seat_no
        self.replica_id = replica_id
        self.pid = connection.get_server_pid()
        self.bound: Binding | None = None
        self.ran_plugin_sql = True
        """Whether it is to be cleaned; a new one too, of what an earlier holder left behind."""
        self.ended = False
        self.leave_place: Callable[[], object] = int
        """Gives back the right that whoever holds it has, before he does."""
        self._search_path: str | None = None

    async def admit_plugin_sql(self, source: str) -> None:
        """Make the source's tables reachable without a schema, and remember to clean up after."""
        self.ran_plugin_sql = True
        if self._search_path != source:
            await self.connection.execute(
                "SELECT pg_catalog.set_config('search_path', $1, false)", f"{source}, pg_temp"
            )
            self._search_path = source

    def forget_search_path(self) -> None:
        """What was set may have been undone with its transaction."""
        self._search_path = None

    async def clean(self) -> None:
        """Remove whatever plugin SQL left."""
        await clean_session(self.connection)
        self.ran_plugin_sql = False
        self._search_path = None


class Seats:
    """The seats of this replica, ``seats_max`` at most, made when first needed."""

    def __init__(
        self,
        database: Database,
        roles: Roles,
        replica_id: UUID,
        *,
        seats_max: int,
    ) -> None:
        self._database = database
        self._roles = roles
        self.replica_id = replica_id
        # One for opening and binding: with two, a binding once found no start of its backend, as
        # for one who is no member of the seat's role.  Never explained.
        self._line: Line = database.line("bindings")
        self._binding = Coalescer(self._bind_batch, seats_max)
        self._places = asyncio.Semaphore(seats_max)
        self._uses: list[tuple[RunKey, float]] = []
        """For which runs places are held, and since when."""
        self._free: list[Seat] = []
        self._in_use: set[int] = set()
        """Of its leases, those with a connection or about to have one; the rest are free for us."""

    @asynccontextmanager
    async def bound(self, binding: Binding) -> AsyncIterator[Seat]:
        """A seat bound to ``binding`` until the block ends.

        Raises: LeaseLost, when the run is no longer ours; SeatsTaken; Unreachable.  When the block
        ends with a cancellation or a lost connection the backend is ended before this returns, so
        nothing of it can be written after the attempt is recorded.
        """
        asked = time.perf_counter()
        place = await self._take_place(binding.key)
        metrics.SEAT_WAIT_SECONDS.observe(time.perf_counter() - asked)
        seat = None
        try:
            seat = self._take(binding)
            if seat is not None and not await self._is_clean(seat, binding):
                seat = None
            if seat is None:
                seat = await self._open()
                await seat.clean()
            await self._bind(seat, binding)
            seat.leave_place = place
            yield seat
        except BaseException as error:
            if seat is not None and not isinstance(error, Exception):
                # Cancelled: what the backend is doing at this moment is unknown.
                await asyncio.shield(self.end(seat, reason="cancelled"))
                seat = None
            raise
        finally:
            try:
                if seat is not None:
                    await self._give_back(seat)
            finally:
                place()

    async def take_away(self, seat: Seat, *, reason: str) -> None:
        """End a seat that somebody goes on holding, and let others have its place."""
        await self.end(seat, reason=reason)
        seat.leave_place()

    async def _take_place(self, key: RunKey) -> Callable[[], object]:
        """The right to use one seat; the answer gives it back, the first time that it is called.

        Raises: SeatsTaken, when none comes free in SEAT_WAIT_SECONDS.
        """
        if self._places.locked():
            try:
                async with asyncio.timeout(SEAT_WAIT_SECONDS):
                    await self._places.acquire()
            except TimeoutError:
                metrics.SEAT_TIMEOUTS.inc()
                raise self._taken() from None
        else:
            await self._places.acquire()
        metrics.SEATS_IN_USE.inc()
        use = (key, time.monotonic())
        self._uses.append(use)

        def leave() -> None:
            if use in self._uses:
                self._uses.remove(use)
                metrics.SEATS_IN_USE.dec()
                self._places.release()

        return leave

    def _taken(self) -> SeatsTaken:
        key, since = self._uses[0]  # the longest: they are in the order they began
        return SeatsTaken(len(self._uses), f"{key.source}/{key.script}", time.monotonic() - since)

    async def forget_leases(self) -> None:
        """Declared dead: others may lease our seats now, so all of them are leased anew."""
        for seat in self._free:
            seat.connection.terminate()
        self._free.clear()
        self._in_use.clear()

    async def close(self) -> None:
        """End all seats' connections and let other replicas lease them."""
        for seat in self._free:
            seat.connection.terminate()
        self._free.clear()
        await self._line.fetch("release_seats", self.replica_id)

    def _take(self, binding: Binding) -> Seat | None:
        """A free seat: the run's own from before, or else the one longest unused."""
        self._free = [seat for seat in self._free if not self._is_gone(seat)]
        for index, seat in enumerate(self._free):
            if seat.bound is not None and seat.bound.run_no == binding.run_no:
                return self._free.pop(index)
        return self._free.pop(0) if self._free else None

    def _is_gone(self, seat: Seat) -> bool:
        if not seat.connection.is_closed():
            return False
        self._leave_lease(seat.seat_no, seat.replica_id)
        return True

    async def _is_clean(self, seat: Seat, binding: Binding) -> bool:
        """Clean the seat of another attempt's traces; one that cannot be cleaned is ended."""
        if not seat.ran_plugin_sql:
            return True
        if seat.bound is not None and seat.bound[:3] == binding[:3]:
            return True
        try:
            async with asyncio.timeout(CLEAN_SECONDS):
                await seat.clean()
        except (asyncpg.PostgresError, *LOST):
            # Its last run may have left a time limit of 1 ms, or more than DISCARD can lock.
            await asyncio.shield(self.end(seat, reason="it could not be cleaned"))
            return False
        return True

    async def _open(self) -> Seat:
        # A lease is renewed with each connection: SQL on a seat may change its login's password
        # and settings; the fresh one also locks out whoever had it before.
        replica_id, password = self.replica_id, secrets.token_urlsafe(24)
        seat_no = None
        try:
            async with self._line.connection() as line, line.transaction():
                seat_no = await self._lease(line, replica_id)
                await ensure_seat(line, self._roles, seat_no, scram_verifier(password))
                name = self._roles.seat(seat_no)
                await line.fetchval(self._line.sql("end_seat_backends"), name)
            log.debug("seat_leased", seat=seat_no)
            connection = await self._database.connect(
                f"seat {seat_no}", user=name, password=password, statement_seconds=None
            )
        except BaseException:
            self._leave_lease(seat_no, replica_id)
            raise
        return Seat(name, connection, seat_no, replica_id)

    async def _lease(self, line: asyncpg.Connection[Any], replica_id: UUID) -> int:
        """The number of a seat that no living replica has, and this one does not use."""
        # One at a time: two replicas must not make the same number.
        await line.execute("LOCK TABLE harvestd.seat IN SHARE ROW EXCLUSIVE MODE")
        seat_no = await line.fetchval(self._line.sql("lease_seat"), replica_id, [*self._in_use])
        if seat_no is None:
            seat_no = await line.fetchval(self._line.sql("make_seat"), replica_id)
        if replica_id == self.replica_id:
            self._in_use.add(seat_no)
        return int(seat_no)

    def _leave_lease(self, seat_no: int | None, replica_id: UUID) -> None:
        """Free for the next connection, unless this replica was declared dead since it leased."""
        if seat_no is not None and replica_id == self.replica_id:
            self._in_use.discard(seat_no)

    async def _bind(self, seat: Seat, binding: Binding) -> None:
        if seat.bound == binding:
            return
        seat.bound = None
        await step("bind")
        asked = (seat, binding)
        try:
            bound = await self._binding.ask(asked)
        except Unreachable:
            raise
        except DatabaseError:
            [bound] = await self._bind_batch([asked])  # perhaps for another's in the same batch
        if not bound:
            if await seat.connection.fetchval("SELECT pg_catalog.pg_backend_pid()") != seat.pid:
                raise DatabaseError("a seat's backend is not the one that was connected")
            raise LeaseLost(str(binding.key))
        seat.bound = binding

    async def _bind_batch(self, batch: Sequence[tuple[Seat, Binding]]) -> list[bool]:
        rows = await self._line.fetch(
            "bind_seats",
            self.replica_id,
            [seat.pid for seat, _ in batch],
            [seat.name for seat, _ in batch],
            [binding.run_no for _, binding in batch],
            [binding.fence for _, binding in batch],
            [binding.handed_from for _, binding in batch],
            [binding.covers and binding.covers.start for _, binding in batch],
            [binding.covers and binding.covers.end for _, binding in batch],
        )
        bound = {row["pid"] for row in rows}
        return [seat.pid in bound for seat, _ in batch]

    async def _give_back(self, seat: Seat) -> None:
        if seat.ended:
            return
        if seat.replica_id != self.replica_id:
            seat.connection.terminate()  # leased under an id that was declared dead since
        elif seat.connection.is_closed():
            # Only our side may have: its backend could go on, with whatever it was doing.
            await asyncio.shield(self.end(seat, reason="connection lost"))
        elif seat.bound is None:
            # Whether the server bound it is unknown, and it may still do so: never reused.
            await asyncio.shield(self.end(seat, reason="not bound"))
        elif seat.connection.is_in_transaction():
            await asyncio.shield(self.end(seat, reason="left in a transaction"))
        else:
            self._free.append(seat)

    async def end(self, seat: Seat, *, reason: str) -> None:
        """End the seat's backend and wait until it is gone."""
        if seat.ended:
            return
        seat.ended = True
        seat.connection.terminate()
        self._leave_lease(seat.seat_no, seat.replica_id)
        log.debug("seat_ended", seat=seat.seat_no, reason=reason)
        try:
            await self._line.fetchval("end_backend", seat.pid, END_BACKEND_MS, seat.name)
        except DatabaseError as error:
            # With the server away there is no backend either; the fence holds in any case.
            log.warning("seat_ended", seat=seat.seat_no, reason=error.what)
