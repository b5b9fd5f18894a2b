"""The long chaos: `make torture`, or ``python -m tests.crash.torture --minutes 10 --seed 1``.

The seed decides which faults come, in which order and two at a time, and their choices; the
moments at which they meet the runs are the machine's, so a seed repeats the plan, not each step.
First the control: without its guard the same harness must find duplicates, or the run is void.

Exit codes: 0 nothing found; 1 found something; 2 the run proves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.crash.control import duplicates_without_a_guard, world_without_burials
from tests.crash.faults import FAULTS, TOGETHER, missing_tools
from tests.crash.oracle import Oracle
from tests.crash.world import World, a_world

REPLICAS = 3
TOGETHER_SHARE = 0.3
"""How often two faults come at the same time."""


def plan(chance: random.Random, names: list[str]) -> Iterator[tuple[str, ...]]:
    """Faults without end: each kind comes once before any comes again."""
    while True:
        deck = chance.sample(names, len(names))
        while deck:
            name = deck.pop()
            others = [other for other in deck if other in TOGETHER and name in TOGETHER]
            if others and chance.random() < TOGETHER_SHARE:
                other = chance.choice(others)
                deck.remove(other)
                yield name, other
            else:
                yield (name,)


async def strike(world: World, chance: random.Random, names: tuple[str, ...]) -> None:
    """Do these faults at the same time, then mend all and let the world settle."""
    async with asyncio.TaskGroup() as group:
        for name in names:
            # Each with chances of its own: what one draws must not depend on the other's pace.
            group.create_task(FAULTS[name](world, random.Random(chance.random())), name=name)
    await world.heal()
    await world.settle()


async def torture(minutes: float, seed: int, only: list[str]) -> int:
    """Chaos for so long; says what it did and found."""
    chance = random.Random(seed)
    struck: Counter[str] = Counter()
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="harvestd chaos ") as folder:
        async with world_without_burials(Path(folder) / "control") as world:
            planted = await duplicates_without_a_guard(world)
        say(f"control, without the guard: {planted} rows twice")
        if not planted:
            say("VOID: this harness would not see a duplicate")
            return 2
        async with a_world(Path(folder) / "site", replicas=REPLICAS) as world:
            oracle = Oracle(world)
            oracle.begin()
            missing = missing_tools(world)
            for name, why in missing.items():
                say(f"left out: {name}: {why}")
            if missing and os.environ.get("REQUIRE_TOOLS") == "1":
                return 2
            names = [name for name in only or FAULTS if name not in missing]
            ends_at = time.monotonic() + minutes * 60
            for together in plan(chance, names):
                if time.monotonic() >= ends_at or found:
                    break
                began = time.monotonic()
                try:
                    await strike(world, chance, together)
                except* (AssertionError, TimeoutError) as errors:
                    found += [f"{type(one).__name__}: {one}" for one in errors.exceptions]
                struck.update(together)
                found += await oracle.look()
                say(f"{' + '.join(together)}: {time.monotonic() - began:.1f} s")
    return report(struck, oracle, found, seed)


def report(struck: Counter[str], oracle: Oracle, found: list[str], seed: int) -> int:
    """Print the counts and what was found; the exit code."""
    for name, times in sorted(struck.items()):
        say(f"  {times:4} {name}")
    counts = oracle.counts
    say(
        f"faults {struck.total()}, claims {counts.claims}, takeovers {counts.takeovers}, "
        f"lost {counts.lost}, rows {counts.rows}, duplicates {counts.duplicates}, "
        f"missing {counts.missing}, findings {len(found)}; seed {seed}"
    )
    for finding in found:
        say(f"FOUND {finding}")
    if found:
        return 1
    if counts.claims < struck.total():
        say("VOID: fewer claims than faults")
        return 2
    return 0


def say(text: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Chaos of processes, network, disk and clocks.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], choices=sorted(FAULTS))
    given = parser.parse_args()
    sys.exit(asyncio.run(torture(given.minutes, given.seed, given.only)))
