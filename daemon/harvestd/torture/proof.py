"""The proof: mutants that must be caught, and schedules of the true protocol that must hold."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harvestd.torture.lane import LANES, Scratch, endure, hunt, lanes, quicken
from harvestd.torture.mutants import MUTANTS, Mutant
from harvestd.torture.schedule import Told

MUTANT_SCHEDULES_MAX = 300
"""A mutant that is not caught within so many was not caught; the rarest needs about fifteen."""
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


def prove(scratch: Scratch, asked: Asked, tell: Progress) -> Proof:
    """All that was asked for, side by side on a server that nobody else uses."""
    began = told_at = time.monotonic()
    proof = Proof(asked.seed)
    most = asked.schedules or MUTANT_SCHEDULES_MAX
    seeds: Iterator[int] = itertools.count(asked.seed)
    if asked.schedules is not None:
        seeds = itertools.islice(seeds, asked.schedules)
    if not asked.true_protocol:
        seeds = iter(())
    asyncio.run(quicken(scratch))
    with lanes(scratch) as pool:
        hunts = [(one, pool.submit(hunt, one.name, asked.seed, most)) for one in asked.mutants]
        ahead = deque(pool.submit(endure, seed) for seed in itertools.islice(seeds, 2 * LANES))
        for mutant, hunting in hunts:
            proof.hunted.append(Hunted(mutant, *hunting.result()))
            tell(proof.hunted[-1])
        while ahead and proof.violated is None:
            proof.count(ahead.popleft().result())
            now = time.monotonic()
            if now - told_at > PROGRESS_SECONDS:
                told_at = now
                tell(proof)
            if asked.schedules is not None or now - began < asked.seconds:
                ahead.extend(pool.submit(endure, seed) for seed in itertools.islice(seeds, 1))
    proof.seconds = time.monotonic() - began
    return proof
