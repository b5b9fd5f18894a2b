"""What lives on from one schedule to the next: the replicas, the operator, the scratch database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

from harvestd.database.roles import Roles
from harvestd.service.acts import Acts
from harvestd.torture.mutants import Mutant
from harvestd.torture.process import LEASE, Connections, Process
from harvestd.torture.scheduler import Scheduler
from harvestd.torture.witness import Witness

NOTICE_LOOK_SECONDS = 0.001
NOTICE_LOOKS = 200


class World:
    """The replicas, which live on from one schedule to the next, and the scratch database."""

    def __init__(self, url: str, witness: Witness, roles: Roles, mutant: Mutant | None) -> None:
        self.witness = witness
        self.mutant = mutant
        self.seen: list[str] = []
        """What was seen of the replicas themselves, and must not be."""
        self.scheduler = Scheduler(witness)
        self.replicas: dict[str, Process] = {}
        self.operator = Connections(url, None, self.scheduler)
        self.operator_line = self.operator.line("operator")
        self.acts = Acts(self.operator)
        self.helper = Acts(self.operator)
        """Not waiting behind an act of the operator's that waits for a run."""
        self._url = url
        self._roles = roles
        self._statements = mutant.mutated_statements() if mutant else None

    async def start(self, name: str) -> Process:
        """A new process, which enters the living."""
        database = Connections(self._url, self._statements, self.scheduler)
        process = self.replicas[name] = Process(name, database, self._roles, self.seen)
        await process.heartbeat.register()
        return process

    async def age(self, span: timedelta, process: Process | None = None) -> None:
        """The server's clock jumps, or one replica was not heard of for so long."""
        replica_id = process.heartbeat.replica_id if process else None
        await self.witness.age(span, replica_id)

    async def cut(self, pids: Collection[int]) -> None:
        """These connections break."""
        await self.witness.terminate(pids)
        await self.notice(pids)

    async def kill(self, process: Process) -> Process:
        """kill -9; soon the others find out, and a new process starts in its place."""
        self.scheduler.ghosts |= process.database.die()
        mine = [name for name in self.scheduler.actors if name.startswith(process.name)]
        await self.scheduler.end(mine)
        await self.age(2 * LEASE, process)
        return await self.start(process.name)

    async def notice(self, pids: Collection[int]) -> None:
        """Wait until these backends are gone, and until whoever had them knows.

        Not for ever: a mutant may have left them alive.
        """
        look = NOTICE_LOOKS
        while look and (
            (await self.witness.see_backends()).there.intersection(pids)
            or any(set(pids) & set(one.database.pids()) for one in self.replicas.values())
        ):
            look -= 1
            await asyncio.sleep(NOTICE_LOOK_SECONDS)

    async def close(self) -> None:
        """End everything."""
        await self.scheduler.end(list(self.scheduler.actors))
        for process in self.replicas.values():
            process.database.die()
        self.operator.die()
