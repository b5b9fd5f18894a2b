"""One replica of the daemon, as far as it works on a run: claim, windows, seats, ledger, record.

It is the production code of an attempt (`execution/runner.py`).  What is not here is what finds
out by itself which run is due: cycles, heartbeats, the catalog's reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from harvestd.catalog.script import Script
from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError, LeaseLost
from harvestd.execution.executor import Call, Executor
from harvestd.execution.hands import Hands
from harvestd.execution.inline import InlineExecutor
from harvestd.execution.limits import Taken
from harvestd.execution.runner import Parts, attempt_run
from harvestd.loading.facade import rows_written_by
from harvestd.loading.seats import Seats
from harvestd.loading.shapes import Shapes
from harvestd.observing.redaction import Redactor
from harvestd.planning.window import whole_milliseconds, window_end
from harvestd.runs.claims import Claim, Claims, Listed
from harvestd.runs.heartbeat import Heartbeat
from harvestd.tenants.config import Env
from harvestd.terms import Outcome, RunKey, Window
from harvestd.testing.server import Place

LONG = timedelta(days=1)
"""No test takes so long: nobody beats, and nobody is declared dead."""
CALL_MAX = timedelta(seconds=60)
"""What one call of run() may take, where the script says nothing: a test is not to hang."""
TICK = timedelta(seconds=60)
SEATS_MAX = 4
SNAPSHOT_AGE = timedelta(days=90)
NEVER = "9999-01-01T00:00:00Z"

# Here and not in sql/queries: no daemon does any of this.
PREPARE = """
    INSERT INTO public.data_source_run AS run
        (tenant_id, data_source, script, origin, covered, last_fetched_data_date)
    VALUES ($1, $2, $3, $4, $5::text::tstzmultirange, upper($5::text::tstzmultirange))
    ON CONFLICT (tenant_id, data_source, script) DO UPDATE
    SET origin = excluded.origin,
        covered = excluded.covered,
        last_fetched_data_date = excluded.last_fetched_data_date
"""
SEE = """
    SELECT run_no, fence
    FROM public.data_source_run
    WHERE (tenant_id, data_source, script) = ($1, $2, $3)
"""
TAKE_OVER = """
    UPDATE public.data_source_run SET fence = fence + 1
    WHERE (tenant_id, data_source, script) = ($1, $2, $3)
    RETURNING run_no
"""
END_SEATS = """
    SELECT pg_catalog.pg_terminate_backend(pid, 5000)
    FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND usename <> current_user
"""
HOLD = """
    SELECT run_no FROM public.data_source_run
    WHERE (tenant_id, data_source, script) = ($1, $2, $3)
    FOR UPDATE SKIP LOCKED
"""
SOMEBODY_WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS wanted
        WHERE NOT wanted.granted
          AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(wanted.pid)))
"""
POLL_SECONDS = 0.005
POLLS_MAX = 100


@dataclass(frozen=True, slots=True)
class Ran:
    """How an attempt ended: the windows that run() was called with, and the rows it wrote.

    ``rows`` counts what was inserted, changed or marked: rows that were not like this before.
    """

    outcome: Outcome
    windows: tuple[Window, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Around:
    """What scripts find around them: a folder for their caches, and what is allowed to them.

    The test may add to ``allowed`` while the replica is there.
    """

    cache_root: Path
    allowed: Set[str]


@dataclass(slots=True)
class _Remembering:
    """An executor that remembers the windows of each call, the rows it wrote and how it failed."""

    inner: Executor
    name: str = "inline"
    windows: list[Window] = field(default_factory=list)
    rows: int = 0
    error: Exception | None = None

    async def run(self, call: Call) -> None:
        self.windows.append(call.window)
        try:
            await self.inner.run(call)
        except Exception as error:
            self.error = error
            raise
        finally:
            self.rows += rows_written_by(call.db)


class Replica:
    """Works on runs of one data source.  Made by `replica_at`."""

    def __init__(
        self, database: Database, roles: Roles, replica_id: UUID, surroundings: Around
    ) -> None:
        self.shapes = Shapes(database)
        self.claims = Claims(database, replica_id)
        self.seats = Seats(database, roles, replica_id, seats_max=SEATS_MAX)
        self._line = database.line("testing")
        self._around = surroundings
        self._inline = InlineExecutor()

    async def read_until(self, script: Script) -> datetime:
        """Until when source time may be read now, by the database's clock."""
        return window_end(await self._now(), script.visibility_lag)

    async def prepare(self, key: RunKey, window: Window | None) -> None:
        """Enrol the run, or take it again, with just this window to be read; None: a snapshot."""
        if window is None:
            origin = whole_milliseconds(await self._now()) - SNAPSHOT_AGE
            covered = "{}"
        else:
            origin, covered = window.start, f"{{[{window.end.isoformat()},{NEVER})}}"
        await self.fetch(PREPARE, *key, origin, covered)

    async def claim(self, key: RunKey) -> Claim:
        """Take the run, which nobody holds."""
        answer = await self.claims.claim(await self._listed(key))
        if not isinstance(answer, Claim):
            raise HarvestdError(f"{key} could not be claimed: {answer.value}")
        return answer

    async def attempt(self, script: Script, key: RunKey, env: Mapping[str, str]) -> Ran:
        """Work on what the ledger lacks.  Raises: what run() raised; LeaseLost."""
        executor = _Remembering(self._inline)
        parts = Parts(
            claims=self.claims,
            seats=self.seats,
            shapes=self.shapes,
            hands=Hands(),
            executors={executor.name: executor},
            tick=TICK,
            timeout=CALL_MAX,
            slice=LONG,
            tenant_runs_max=1,
            cache_root=self._around.cache_root,
            allowed=frozenset(self._around.allowed),
            draining=asyncio.Event(),
            ask_cycle=lambda reason: None,
            say_recorded=lambda problem: None,
        )
        answer = await attempt_run(
            parts,
            await self._listed(key),
            script,
            Env(env, tenant_id=key.tenant_id, source=key.source),
            redactor=Redactor(),
            slot=Taken(()),
            others_wait=bool,
        )
        if not isinstance(answer, Outcome):
            raise HarvestdError(f"{key} could not be claimed: {answer.value}")
        if answer is Outcome.CANCELLED:
            # The runner takes it for the drain's, and goes on; here the test asked, its time
            # limit, or Ctrl-C.
            raise asyncio.CancelledError
        if executor.error is not None:
            raise executor.error
        if answer is Outcome.LOST:
            raise LeaseLost(str(key))
        return Ran(answer, tuple(executor.windows), executor.rows)

    async def take_over(self, key: RunKey, attempt: asyncio.Task[Ran]) -> None:
        """The attempt's process is dead, as far as the database knows, and the run free again.

        What was not committed is gone; whatever the script still does is refused.
        """
        await self.end_seats()
        [run] = await self.fetch(TAKE_OVER, *key)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        await self.claims.give_back([run["run_no"]])

    async def end_seats(self) -> None:
        """The server ends every connection of plugin SQL; what was not committed is gone."""
        await self.fetch(END_SEATS)

    async def disconnect(
        self, key: RunKey, go_on: asyncio.Event, attempt: asyncio.Task[Ran]
    ) -> None:
        """`end_seats` within the write that the attempt makes once it may ``go_on``.

        A connection that was lost between two writes would be replaced, and nobody notice.
        """
        async with self.connection() as connection, connection.transaction():
            # The fence's trigger wants this row, so the write waits.  Where a transaction of the
            # run has it already, its connection is under way as it is.
            if await connection.fetch(HOLD, *key):
                go_on.set()
                for _ in range(POLLS_MAX):
                    if attempt.done() or await connection.fetchval(SOMEBODY_WAITS):
                        break
                    await asyncio.sleep(POLL_SECONDS)
            await connection.fetch(END_SEATS)
        go_on.set()

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """As the daemon: every tenant's rows."""
        async with self.connection() as connection:
            return list(await connection.fetch(sql, *arguments))

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """The daemon's own connection, until the block ends."""
        return self._line.connection()

    async def _now(self) -> datetime:
        [row] = await self.fetch("SELECT pg_catalog.clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    async def _listed(self, key: RunKey) -> Listed:
        [row] = await self.fetch(SEE, *key)
        return Listed(key, row["run_no"], row["fence"])


@asynccontextmanager
async def replica_at(place: Place, around: Around) -> AsyncIterator[Replica]:
    """A living replica, which leaves at the end.  Raises: Unreachable."""
    async with Database(place.url) as database:
        heartbeat = Heartbeat(database, uuid4(), lease=LONG, tick=TICK)
        await heartbeat.register()
        replica = Replica(database, place.roles, heartbeat.replica_id, around)
        try:
            yield replica
        finally:
            await replica.seats.close()
            await replica.claims.leave()
