"""One replica as the torture has it: the parts of `service/app.py` without its loops.

Everything that decides or writes is production code; here it is only called in a loop, with a
``step`` before each round.  Its process can die: nothing that it still tries reaches the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from harvestd.catalog.script import Script
from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.database.step import step
from harvestd.errors import DatabaseError, Unreachable
from harvestd.execution.executor import Call
from harvestd.execution.hands import Hands
from harvestd.execution.limits import Taken
from harvestd.execution.runner import Parts, attempt_run
from harvestd.loading.seats import Seats
from harvestd.loading.shapes import Shapes
from harvestd.observing.redaction import Redactor
from harvestd.runs.claims import Claim, Claims, Listed, Refusal
from harvestd.runs.enrolment import Enrolment
from harvestd.runs.heartbeat import Heartbeat
from harvestd.service.beating import Beating
from harvestd.service.http import Health
from harvestd.service.ticker import Wanted
from harvestd.tenants.config import Env
from harvestd.terms import Outcome, RunKey, ScriptName
from harvestd.torture.scheduler import Scheduler

LEASE = timedelta(hours=1)
"""No pause of this machine lasts so long: only the torture makes a lease run out."""
TICK = timedelta(seconds=60)
LONG = timedelta(hours=1)
SEATS_MAX = 4
LIST_ONE = """
SELECT run.tenant_id, run.run_no, run.fence
FROM public.data_source_run AS run
WHERE run.data_source = $1::text
  AND run.script = $2::text
  AND run.retired_at IS NULL
  AND run.not_before <= clock_timestamp()
  AND run.due_at <= clock_timestamp()
  AND (run.status <> 'RUNNING' OR run.replica_id IS NULL)
"""
"""Which run a worker claims next: what the feeder reads of a tenant, for the one there is."""


TYPES = """
SELECT unnest('{boolean[],integer[],bigint[],text[],uuid[],timestamptz[],interval[],
                tstzrange,tstzmultirange}'::regtype[])::oid AS oid
"""
"""Of our statements' parameters.  The driver asks about them on each new connection, by a
statement that takes the server as long as an attempt; asyncpg has no public call to tell it."""


class Connections(Database):
    """The connections of one process, and its end."""

    _types: ClassVar[list[Any]] = []

    def __init__(
        self, url: str, statements: Mapping[str, str] | None, scheduler: Scheduler
    ) -> None:
        super().__init__(url, statements)
        self._scheduler = scheduler
        self._open: dict[int, Any] = {}
        self.dead = False

    async def connect(self, purpose: str, **options: Any) -> Any:
        """A new connection, unless the process has ended."""
        self._refuse_when_dead()
        self._scheduler.connecting += 1
        try:
            # No time limit: a timer for each call is not free, and nothing here takes long.
            options["statement_seconds"] = None
            connection: Any = await super().connect(purpose, **options)
            if not self._types:
                oids = [row["oid"] for row in await connection.fetch(TYPES)]
                self._types.extend((await connection._introspect_types(oids, None))[0])
            connection._protocol.get_settings().register_data_types(self._types)
        finally:
            self._scheduler.connecting -= 1
        self._open[connection.get_server_pid()] = connection
        if self.dead:
            connection.terminate()
            self._refuse_when_dead()
        return connection

    def _refuse_when_dead(self) -> None:
        if self.dead:
            raise Unreachable("this process has ended")

    def pids(self) -> list[int]:
        """The backends of its connections, oldest first."""
        self._open = {pid: one for pid, one in self._open.items() if not one.is_closed()}
        return list(self._open)

    def die(self) -> set[int]:
        """kill -9: its sockets close.  The backends that have to notice it."""
        self.dead = True
        pids = set(self.pids())
        for connection in self._open.values():
            connection.terminate()
        return pids


class WatchedClaims(Claims):
    """The claims of a replica: each has the fence that follows the listed one."""

    def __init__(self, database: Database, heartbeat: Heartbeat, seen: list[str]) -> None:
        super().__init__(database, heartbeat.replica_id)
        self._seen = seen

    async def claim(self, listed: Listed, plugin_hash: str | None = None) -> Claim | Refusal:
        """As `Claims.claim`."""
        claim = await super().claim(listed, plugin_hash)
        if isinstance(claim, Claim) and claim.fence != listed.fence + 1:
            self._seen.append("a run was claimed that was changed since it was listed")
        return claim


class Direct:
    """The executor: in the attempt's own task, so that one cancellation reaches everything."""

    name = "inline"

    async def run(self, call: Call) -> None:
        """One call."""
        await call.script.run(
            call.env, call.db, call.key.tenant_id, call.window.start, call.window.end
        )


class Process:
    """One replica."""

    def __init__(self, name: str, database: Connections, roles: Roles, seen: list[str]) -> None:
        self.name = name
        self.database = database
        self._line = database.line("turns")
        self.scripts: Mapping[ScriptName, Script] = {}
        self.hands = Hands()
        self.heartbeat = Heartbeat(database, uuid4(), lease=LEASE, tick=TICK)
        self.claims = WatchedClaims(database, self.heartbeat, seen)
        self.seats = Seats(database, roles, self.heartbeat.replica_id, seats_max=SEATS_MAX)
        self.enrolment = Enrolment(database, first_import=LONG)
        wanted = Wanted()
        self.parts = Parts(
            claims=self.claims,
            seats=self.seats,
            shapes=Shapes(database),
            hands=self.hands,
            executors={Direct.name: Direct()},
            tick=TICK,
            timeout=LONG,
            slice=LONG,
            tenant_runs_max=4,
            cache_root=Path(),
            allowed=frozenset(),
            draining=asyncio.Event(),
            ask_cycle=lambda reason: wanted.ask(reason, forced=False),
            say_recorded=lambda problem: None,
        )
        self._beating = Beating(
            self.heartbeat, self.claims, self.seats, self.hands, Health(), wanted
        )

    def duties(self) -> dict[str, Callable[[], Any]]:
        """What goes on in it side by side, by the name of the actor."""
        duties: dict[str, Callable[[], Any]] = {
            f"{self.name} beats": self._beat,
            f"{self.name} reaps": self._reap,
        }
        for name in self.scripts:
            duties[f"{self.name} runs {name.script}"] = partial(self._work, name)
        return duties

    async def _beat(self) -> None:
        while True:
            try:
                await self._beating.beat()
            except DatabaseError:
                await step("beat_again")

    async def _reap(self) -> None:
        while True:
            try:
                await self.heartbeat.reap()
            except DatabaseError:
                await step("reap_again")

    async def _work(self, name: ScriptName) -> None:
        """Cycles, of one script."""
        while True:
            await step("list")
            try:
                listed = await self._cycle(name)
                if listed is not None:
                    await self._attempt(listed)
            except DatabaseError:
                continue  # the next cycle tries again

    async def _cycle(self, name: ScriptName) -> Listed | None:
        """Plan, give back what strayed, and list what is due."""
        difference = await self.enrolment.apply(self.scripts, everything=False)
        await self.enrolment.wake()
        self.hands.cancel(Outcome.LOST, difference.locked)
        clock = await self.enrolment.read_clock()
        replica_id = self.claims.replica_id
        held: dict[int, int] = {}
        anything = False
        async with aclosing(
            self.enrolment.due_runs(clock.now, clock.forced_at, replica_id)
        ) as rows:
            async for row in rows:
                if row["kind"] == "held":
                    held.update(zip(row["run_nos"], row["fences"], strict=True))
                else:
                    anything = True
        anything |= bool(await self.claims.give_back_strays(held, self.hands.fences))
        if not anything:
            return None
        async with self._line.connection() as connection:
            found = await connection.fetchrow(LIST_ONE, *name)
        if found is None:
            return None
        key = RunKey(found["tenant_id"], *name)
        return None if key in self.hands.keys else Listed(key, found["run_no"], found["fence"])

    async def leave(self) -> None:
        """The end of a drain that lasted too long: everything is given back at once."""
        self.hands.cancel(Outcome.CANCELLED)
        try:
            await self.seats.close()
            await self.claims.leave()
        except DatabaseError:
            pass  # as in production: others take over after the lease

    async def _attempt(self, listed: Listed) -> None:
        key = listed.key
        await attempt_run(
            self.parts,
            listed,
            self.scripts[key.name],
            Env({}, tenant_id=key.tenant_id, source=key.source),
            redactor=Redactor(()),
            slot=Taken(()),
            others_wait=lambda: False,
        )
