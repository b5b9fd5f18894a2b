"""The control: the same harness where nothing keeps a revived writer out must find duplicates."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.builders import query
from tests.crash.on_processes import stop_at
from tests.crash.oracle import Oracle
from tests.crash.world import World, a_world

SEED = 1
TRIES = 3
"""The fourth barrier is luck: a seat that another run took meanwhile is bound anew, and is not."""


async def remove_guard(world: World) -> None:
    """Let the wall forget who holds a run: no fence is compared, no row locked, no order kept."""
    for function, changes in GUARDS.items():
        (row,) = await query(
            world.admin_url, "SELECT pg_get_functiondef($1::regproc) AS text", function
        )
        text = row["text"]
        for old, new in changes.items():
            assert old in text, f"{function} has another text: {old!r} is not in it"
            text = text.replace(old, new)
        await query(world.admin_url, text)


GUARDS = {
    "harvestd.hold": {"AND run.fence = binding.fence": "", "FOR NO KEY UPDATE OF run": ""},
    "harvestd_api.checkpoint": {" OR at < reached": ""},
}


async def revive(world: World, step: str) -> Oracle:
    """A replica sleeps at ``step`` of a write past its lease, and wakes to finish it."""
    oracle = Oracle(world)
    oracle.begin()
    await stop_at(step, world, random.Random(SEED))
    await world.heal()
    await world.settle()
    await oracle.look()
    return oracle


@asynccontextmanager
async def world_without_burials(folder: Path) -> AsyncIterator[World]:
    """Where the backends of the dead live on: nothing but the guard is in their way."""
    async with a_world(folder, replicas=2, lets_live=True) as world:
        yield world


async def duplicates_without_a_guard(world: World) -> int:
    """Take the guard out of the world: how many rows the harness then finds twice."""
    await remove_guard(world)
    twice = 0
    for _ in range(TRIES):
        # With its rows sent: where no row is locked either, that keeps nobody from going on.
        if twice := (await revive(world, "checkpoint")).counts.duplicates:
            break
    return twice
