"""The parts of production that live through a run's life, on a loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID, uuid4

import asyncpg

from harvestd.catalog.script import Script
from harvestd.database.pool import Database
from harvestd.errors import LeaseLost, WindowRefused
from harvestd.loading.seats import Seats
from harvestd.loading.shapes import Shapes
from harvestd.planning.window import DueWindow
from harvestd.runs.claims import Claim, Claims, Listed
from harvestd.runs.enrolment import Enrolment
from harvestd.runs.heartbeat import Heartbeat
from harvestd.service.acts import Acts
from harvestd.terms import RunKey, ScriptName, Window
from tests.builders import LEASE, TICK, made_roles
from tests.runs.life import HOURS, NOW

Connection: TypeAlias = "asyncpg.Connection[Any]"
Answer = TypeVar("Answer")
HOUR = timedelta(hours=1)
KEY = RunKey("acme", "probe", "main")


async def _unused(*_: object) -> None: ...


@dataclass(slots=True)
class Hand:
    """What a replica believes to hold."""

    claim: Claim
    windows: Iterator[DueWindow]
    window: DueWindow | None
    covered: tuple[Window, ...] = ()


@dataclass(slots=True)
class Replica:
    """One process's parts; after a death they go on under a new id, as in production."""

    name: str
    claims: Claims
    heartbeat: Heartbeat
    seats: Seats
    hand: Hand | None = None

    async def born(self) -> None:
        """Enter the living under a new id, with nothing in hand."""
        self.hand = None
        await self.seats.forget_leases()
        new_id = uuid4()
        self.claims.replica_id = self.heartbeat.replica_id = self.seats.replica_id = new_id
        await self.heartbeat.register()


class World:
    """The parts of production that all examples share, on a loop and a database of their own."""

    def __init__(self, url: str, statements: Mapping[str, str] | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.url = url
        self.database = Database(url, statements)
        self.acts = Acts(self.database)
        self.shapes = Shapes(self.database)
        self.enrolment = Enrolment(self.database, first_import=TICK)
        # So that source time is whole hours, and the one under way is half over.
        origin = datetime.now(UTC) - (HOURS + 0.5) * HOUR
        self.origin = origin.replace(microsecond=0)
        self.script = Script(
            ScriptName("probe", "main"),
            run=_unused,
            content_hash="",
            width=7 * HOUR,
            interval=HOUR,
            origin=self.origin,
        )
        self.sql: Connection = self.do(asyncpg.connect(url))
        roles = self.do(made_roles(url))
        self.replicas = {name: self._replica(name, roles) for name in ("one", "two")}

    def _replica(self, name: str, roles: Any) -> Replica:
        seats = Seats(self.database, roles, uuid4(), seats_max=1)
        heartbeat = Heartbeat(self.database, uuid4(), lease=LEASE, tick=TICK)
        return Replica(name, Claims(self.database, uuid4()), heartbeat, seats)

    def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        for one in self.replicas.values():
            self.do(one.seats.close())
        self.do(self.sql.close())
        self.do(self.database.close())
        self.loop.close()

    def at(self, hour: int) -> datetime:
        """The moment of source time; the model's present is any future."""
        return self.origin + (hour * HOUR if hour != NOW else timedelta(days=999))

    def hour(self, moment: datetime | None) -> int | None:
        """The model's number for a moment, which must be a whole hour or the present."""
        if moment is None:
            return None
        whole, rest = divmod(moment - self.origin, HOUR)
        assert not rest or whole == HOURS, moment
        return NOW if rest else whole

    async def listed(self, replica_id: UUID) -> Listed | None:
        """The run, if a cycle of that replica finds it due."""
        clock = await self.enrolment.read_clock()
        due = self.enrolment.due_runs(clock.now, clock.forced_at, replica_id)
        async with aclosing(due) as rows:
            found = [row async for row in rows if row["tenant_id"] == "acme"]
        if not any(row["kind"] == "due" for row in found):
            return None
        (row,) = await self.sql.fetch(
            "SELECT run_no, fence FROM data_source_run WHERE tenant_id = $1", KEY.tenant_id
        )
        return Listed(KEY, row["run_no"], row["fence"])


async def taken_over(reaper: Heartbeat) -> list[RunKey]:
    """What was freed of the dead, once no backend of theirs is left."""
    freed: list[RunKey] = []
    async with asyncio.timeout(10):
        while True:
            reaped = await reaper.reap()
            freed += reaped.freed
            if not reaped.ended:
                return freed


@contextmanager
def refused_unless(mine: bool, *, backwards: bool = False) -> Iterator[None]:
    """Whoever does not hold the run is refused, and so is a checkpoint that goes back."""
    expected = WindowRefused if mine else LeaseLost
    try:
        yield
    except expected:
        assert backwards or not mine
    else:
        assert mine and not backwards, f"not refused with {expected.__name__}"
