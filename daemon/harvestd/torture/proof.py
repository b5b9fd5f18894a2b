"""The proof: mutants that must be caught, and schedules of the true protocol that must hold."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from harvestd.database import step
from harvestd.database.roles import Roles
from harvestd.torture.mutants import MUTANTS, Mutant
from harvestd.torture.schedule import Schedule, Told
from harvestd.torture.scratch import Scratch, mutated, prepared
from harvestd.torture.witness import Witness
from harvestd.torture.world import World

MUTANT_SCHEDULES_MAX = 100
"""A mutant that is not caught within so many was not caught."""
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be proved.

    ``schedules`` None: as many as ``seconds`` have time for, mutants included, at least one.
    """

    seed: int
    seconds: float
    schedules: int | None = None
    mutants: Sequence[Mutant] = MUTANTS
    """Which are to be caught, before the true protocol is tortured."""
    true_protocol: bool = True


@dataclass(frozen=True, slots=True)
class Hunted:
    """How a mutant fared; ``told`` None: it got through every schedule."""

    mutant: Mutant
    schedules: int
    told: Told | None


@dataclass(slots=True)
class Proof:
    """What was done, and what was found."""

    seed: int
    schedules: int = 0
    steps: int = 0
    claims: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    void_schedules: int = 0
    violated: Told | None = None
    hunted: list[Hunted] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, told: Told) -> None:
        """One more schedule of the true protocol."""
        self.schedules += 1
        self.steps += len(told.moves)
        self.claims += told.claims
        self.faults += told.faults
        self.void_schedules += told.void
        if told.violation is not None:
            self.violated = told

    @property
    def caught(self) -> int:
        """How many mutants were."""
        return sum(one.told is not None for one in self.hunted)

    @property
    def void(self) -> str | None:
        """Why it proves nothing, if that is so."""
        if self.void_schedules:
            return f"{self.void_schedules} of {self.schedules} schedules claimed too little"
        return None

    @property
    def holds(self) -> bool:
        """Whether everything was as it must be."""
        return self.violated is None and self.void is None and self.caught == len(self.hunted)


Progress = Callable[["Proof | Hunted"], None]
"""Hears of each mutant, and now and then of the true protocol."""


async def prove(scratch: Scratch, asked: Asked, tell: Progress) -> Proof:
    """All that was asked for, in a scratch database that nobody else uses."""
    began = time.monotonic()
    proof = Proof(asked.seed)
    # The loop would complain of what a killed process leaves unawaited.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with prepared(scratch) as (witness, roles):
        ground = _Ground(scratch, witness, roles)
        for mutant in asked.mutants:
            hunted = await _hunt(ground, mutant, asked)
            proof.hunted.append(hunted)
            tell(hunted)
        if asked.true_protocol:
            await _torture(ground, asked, proof, began, tell)
    proof.seconds = time.monotonic() - began
    return proof


@dataclass(frozen=True, slots=True)
class _Ground:
    """Where it happens."""

    scratch: Scratch
    witness: Witness
    roles: Roles

    @asynccontextmanager
    async def world(self, mutant: Mutant | None) -> AsyncIterator[World]:
        """Replicas under the scheduler, with a mistake or without; nothing is left of them."""
        async with mutated(self.witness, mutant):
            world = World(self.scratch.url, self.witness, self.roles, mutant)
            step.hook = world.scheduler.hook
            try:
                yield world
            finally:
                step.hook = None
                await world.close()


async def _hunt(ground: _Ground, mutant: Mutant, asked: Asked) -> Hunted:
    most = asked.schedules or MUTANT_SCHEDULES_MAX
    async with ground.world(mutant) as world:
        for done in range(most):
            told = await Schedule(world, asked.seed + done).run()
            if told.violation is not None:
                return Hunted(mutant, done + 1, told)
    return Hunted(mutant, most, None)


async def _torture(
    ground: _Ground, asked: Asked, proof: Proof, began: float, tell: Progress
) -> None:
    told_at = time.monotonic()
    async with ground.world(None) as world:
        while proof.violated is None:
            proof.count(await Schedule(world, asked.seed + proof.schedules).run())
            now = time.monotonic()
            if now - told_at > PROGRESS_SECONDS:
                told_at = now
                tell(proof)
            enough = proof.schedules >= (asked.schedules or 1)
            if enough and (asked.schedules is not None or now - began >= asked.seconds):
                return
