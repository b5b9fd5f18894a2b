"""Liveness by lease: this replica's row, what it learns with each beat, and burying the dead.

Death is a one-way bit (``dead_at``).  Each step of a takeover is idempotent and
on its own, so any replica may go on where another stopped: mark, end the
backends, free the runs whose backends are gone, bury.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from harvestd import __version__
from harvestd.database.pool import Database, Line, translate
from harvestd.database.step import step
from harvestd.errors import DatabaseError
from harvestd.observing.logs import get_logger
from harvestd.tenants.homes import homes_among
from harvestd.terms import RunKey

log = get_logger()

# Two renewals may fail before another replica can take the runs.
RENEWALS_PER_LEASE = 3
# Backends that were told to end take a moment, and so does a row that another reaper has.
REAPS_PER_LEASE_MAX = 30
HELD_AFTER_DEATHS = (
    "three processes in a row died while this script ran; why: it may be what ends or blocks "
    "them; next: look at their last lines, then change the script or its configuration, or "
    "start it once more with `harvestd trigger`"
)
"""The error of a run that is no longer started by itself (free_runs_of_the_dead)."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the database answered to one heartbeat."""

    alive: bool
    forced_at: datetime
    woken_at: datetime
    stale: frozenset[int]
    """run_nos in hand that are no longer ours."""
    living: frozenset[UUID]
    """The replicas among which every tenant has its home."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one round of burying did."""

    marked: tuple[UUID, ...]
    ended: int
    freed: tuple[RunKey, ...]
    fewer: bool
    """Whether replicas that housed tenants are dead, whoever declared them so."""
    left_seconds: float
    """Until the first of the leases that there are runs out, if it is not renewed."""


def own_seconds() -> float:
    """This machine's own clock for stopping early; it counts suspended time too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class ConnectionBudget:
    """What the server takes of roles like ours, and how many replicas live, this one included."""

    connections_max: int
    replicas: int


class Heartbeat:
    """One replica's row and its view of the others.  A connection of its own: nothing delays it."""

    def __init__(
        self,
        database: Database,
        replica_id: UUID,
        *,
        lease: timedelta,
        tick: timedelta,
    ) -> None:
        self.replica_id = replica_id
        self.lease_seconds = lease.total_seconds()
        self.pause_seconds = self.lease_seconds / RENEWALS_PER_LEASE
        self._lease = lease
        self._tick = tick
        self._line = database.line("heartbeat")
        self._reap_line = database.line("reaper")
        self.confirmed_at = own_seconds()
        """Own clock, before sending the last beat that was answered."""
        self.houses = True
        """Whether tenants may be at home here; told with the next beat."""
        self.cycled_at = own_seconds()
        """Own clock, when a cycle last ended well, or could not have for want of the database."""
        self.living: frozenset[UUID] = frozenset()
        """The replicas that house tenants, as far as is known here."""

    async def register(self) -> None:
        """Enter the living, and learn who they are.

        The first beat comes before the first cycle, or a newcomer would take all tenants.
        """
        sent = own_seconds()
        await self._line.fetchval(
            "register_replica",
            self.replica_id,
            socket.gethostname()[:200],
            os.getpid(),
            __version__,
            self._lease,
        )
        self.confirmed_at = self.cycled_at = sent
        await self.beat({})

    async def see_connections(self) -> ConnectionBudget:
        """For how many replicas the server takes how many connections.  Raises: Unreachable."""
        row = await self._line.fetchrow("see_connections")
        assert row is not None
        return ConnectionBudget(**dict(row))

    async def beat(self, in_hand: Mapping[int, int]) -> Beat:
        """Renew the row; ``in_hand`` is run_no → fence.  Raises: Unreachable."""
        await step("heartbeat")
        sent = own_seconds()
        try:
            # A connection that swallows what is sent must not keep us from stopping in time.
            async with asyncio.timeout(self.pause_seconds):
                row = await self._line.fetchrow(
                    "beat",
                    self.replica_id,
                    list(in_hand.keys()),
                    list(in_hand.values()),
                    self.houses and not self.stands_still,
                )
        except TimeoutError as error:
            raise translate(error) from None
        if row is None:
            raise LookupError("harvestd.installation is empty: run `harvestd migrate`")
        if row["alive"]:
            self.confirmed_at = sent
        self.living = frozenset(row["living"])
        return Beat(
            alive=row["alive"],
            forced_at=row["forced_at"],
            woken_at=row["woken_at"],
            stale=frozenset(row["stale"]),
            living=self.living,
        )

    @property
    def overdue(self) -> bool:
        """Whether two thirds of a lease went by, on our own clock, without a confirmed beat."""
        return self.age_seconds > self.lease_seconds * 2 / 3

    @property
    def stands_still(self) -> bool:
        """Whether two ticks went by in vain: tenants would starve at a home that only beats."""
        seconds = self.lease_seconds + 2 * self._tick.total_seconds()
        return own_seconds() - self.cycled_at > seconds

    @property
    def age_seconds(self) -> float:
        """How long ago, on our own clock, a beat was sent that the database confirmed."""
        return own_seconds() - self.confirmed_at

    async def reap(self) -> Reaped:
        """Take the runs of replicas that missed their lease; once more for any still dead.

        A run is freed only when no backend that is bound to it is left.
        """
        await step("reap_mark")
        replicas = await self._reap_line.fetch("mark_dead_replicas", self._lease)
        marked = tuple(row["replica_id"] for row in replicas if row["marked"])
        left = {row["replica_id"]: row["left_seconds"] for row in replicas if not row["marked"]}
        fewer = not self.living <= left.keys()
        self.living = self.living.intersection(left)
        await step("reap_end")
        ended = await self._reap_line.fetchval("end_dead_backends")
        await step("reap_free")
        freed = await self._reap_line.fetch("free_runs_of_the_dead", self._tick, HELD_AFTER_DEATHS)
        await step("reap_bury")
        await self._reap_line.fetch("bury_replicas")
        return Reaped(
            marked=marked,
            ended=int(ended or 0),
            freed=tuple(
                RunKey(row["tenant_id"], row["data_source"], row["script"]) for row in freed
            ),
            fewer=fewer,
            left_seconds=min(left.values(), default=self.lease_seconds),
        )


async def reap_forever(heartbeat: Heartbeat, on_reaped: Callable[[], None]) -> None:
    """Bury the dead, when their lease runs out; a loop of its own, so that no beat waits for it.

    The database says how long leases last, this clock only wakes the loop: every third of a
    lease, or at the end of one.
    """
    soonest = heartbeat.lease_seconds / REAPS_PER_LEASE_MAX
    while True:
        try:
            reaped = await heartbeat.reap()
        except DatabaseError as error:
            log.warning("reaping_failed", code=error.code, reason=error.what)
            await asyncio.sleep(heartbeat.pause_seconds)
            continue
        for replica_id in reaped.marked:
            log.warning("replica_reaped", dead_replica_id=str(replica_id))
        if reaped.freed:
            log.warning("runs_taken_over", runs=len(reaped.freed))
        if reaped.fewer or reaped.freed:
            on_reaped()
        pause = soonest if reaped.ended else max(soonest, reaped.left_seconds)
        await asyncio.sleep(min(pause, heartbeat.pause_seconds))


async def find_homes(line: Line, living: frozenset[UUID]) -> Callable[[str], UUID | None]:
    """From a tenant's id to its home: one that has all of its scripts, if there is one.

    Raises: Unreachable, DatabaseError.
    """
    rows = await line.fetch("find_unable_replicas", list(living)) if len(living) > 1 else []
    return homes_among(living, {row["tenant_id"]: row["replica_ids"] for row in rows})
