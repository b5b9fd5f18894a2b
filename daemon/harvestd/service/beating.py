"""The heartbeat's loop, and what is done at once with what a heartbeat tells."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from harvestd.errors import DatabaseError
from harvestd.execution.hands import Hands
from harvestd.loading.seats import Seats
from harvestd.observing import metrics
from harvestd.observing.logs import get_logger
from harvestd.runs.claims import Claims
from harvestd.runs.heartbeat import Beat, Heartbeat, own_seconds
from harvestd.service.http import Health
from harvestd.service.ticker import Wanted
from harvestd.terms import Outcome

log = get_logger()

DECLARED_DEAD = (
    "no heartbeat arrived for a whole lease, the database's clock was set back, or somebody "
    "deleted this replica's row"
)


@dataclass(frozen=True, slots=True)
class Beating:
    """What lives and dies with this replica's heartbeat."""

    heartbeat: Heartbeat
    claims: Claims
    seats: Seats
    hands: Hands
    health: Health
    wanted: Wanted

    async def beat_forever(self) -> None:
        """A heartbeat every third of a lease; what it tells is acted upon at once."""
        pause = self.heartbeat.pause_seconds
        seen: tuple[datetime, datetime] | None = None
        reachable = True
        while True:
            self.health.alive_for(self.heartbeat.lease_seconds)  # /livez fails if this loop stands
            try:
                known = self.heartbeat.living
                in_doubt = self.heartbeat.overdue
                beat = await self.beat()
                if beat is None:
                    continue
            except DatabaseError as error:
                reachable = False
                self.health.set_problem("database", str(error))
                metrics.DATABASE_UP.set(0)
                log.warning("heartbeat_missed", code=error.code, reason=str(error))
            else:
                if not reachable:
                    reachable = True
                    self.heartbeat.cycled_at = own_seconds()
                    log.info("database_back")
                    self.wanted.ask("the database is back", forced=False)
                elif in_doubt:  # the process stood still: what was listed meanwhile was not begun
                    self.wanted.ask("a heartbeat came late", forced=False)
                self.health.clear("database")
                metrics.DATABASE_UP.set(1)
                newest = (beat.forced_at, beat.woken_at)
                if seen not in (None, newest):  # also where that clock was set back
                    self.wanted.ask("trigger", forced=False)
                seen = newest
                if self.heartbeat.houses and beat.living != known:
                    self.wanted.ask("replicas came or went", forced=False)
            if self.heartbeat.overdue:
                # Others may hold our runs by now; the fence would refuse us anyway.
                self.hands.cancel(Outcome.LOST)
            await asyncio.sleep(pause if reachable else min(pause, 1.0))

    async def beat(self) -> Beat | None:
        """One heartbeat: attempts whose runs are lost are cancelled.

        None, when this replica was declared dead: it goes on under a new id.
        Raises: Unreachable, DatabaseError.
        """
        in_hand = self.hands.fences()
        beat = await self.heartbeat.beat(in_hand)
        if not beat.alive:
            await self._rejoin()
            return None
        # What was claimed anew since the beat was sent is ours.
        now_in_hand = self.hands.fences()
        self.hands.cancel(
            Outcome.LOST, [no for no in beat.stale if now_in_hand.get(no) == in_hand[no]]
        )
        return beat

    async def _rejoin(self) -> None:
        """Declared dead: give up everything at once and go on under a new id."""
        replica_id = uuid4()
        log.error("replica_dead", reason=DECLARED_DEAD)
        self.hands.cancel(Outcome.LOST)
        await self.seats.forget_leases()
        for part in (self.claims, self.heartbeat, self.seats):
            part.replica_id = replica_id
        await self.heartbeat.register()
        self.wanted.ask("a new replica id", forced=False)
