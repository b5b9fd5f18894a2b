"""A lane: a process with a database of its own, in which one schedule follows another."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from harvestd.database import step
from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError
from harvestd.loading.schemas import apply_source_schema
from harvestd.service.preparing import prepare_database
from harvestd.torture.mutants import HOLD, MUTANTS, Mutant
from harvestd.torture.schedule import Schedule, Told
from harvestd.torture.scheduler import hook
from harvestd.torture.witness import SCHEMA, SOURCE, WITNESS, Witness
from harvestd.torture.world import World

LANES = 2
"""The embedded server has connections for so many."""
# Nothing of it is worth keeping, so nothing waits for a disk.
SETTINGS = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET synchronous_commit = off",
    "ALTER SYSTEM SET full_page_writes = off",
    # It would move rows at a time of its own.
    "ALTER SYSTEM SET autovacuum = off",
    "ALTER SYSTEM SET jit = off",
    # Few rows, and new connections: a plan for each set of parameters is never worth it.
    "ALTER SYSTEM SET plan_cache_mode = force_generic_plan",
    # Rows come in the order of a key, wherever those of earlier schedules lay.
    "ALTER SYSTEM SET enable_seqscan = off",
    "SELECT pg_reload_conf()",
)


OWNER = "SELECT datdba::regrole FROM pg_database WHERE datname = current_database()"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A database on a server that nobody else uses, for the daemon's role and the superuser."""

    url: str = field(repr=False)
    admin_url: str = field(repr=False)

    def beside(self, database: str) -> Scratch:
        """Another database of that server."""
        urls = (self.url, self.admin_url)
        return Scratch(*(urlsplit(url)._replace(path=f"/{database}").geturl() for url in urls))


class Lane:
    """The database, and whoever lives in it."""

    def __init__(self, url: str, witness: Witness, roles: Roles) -> None:
        self._url = url
        self._witness = witness
        self._roles = roles
        self._world: World | None = None
        self._correct = ""

    async def run(self, seed: int, mutant: Mutant | None = None) -> Told:
        """One schedule of the protocol, with that mistake or without.

        The replicas live on for the next one, unless it is another mistake's.
        """
        if self._world is None or self._world.mutant is not mutant:
            await self._end_world()
            if mutant is not None:
                await self._plant(mutant)
            self._world = World(self._url, self._witness, self._roles, mutant)
        told = await Schedule(self._world, seed).run()
        if told.violation is not None:
            await self._end_world()
        return told

    async def _plant(self, mutant: Mutant) -> None:
        connection = self._witness.connection
        text = await connection.fetchval("SELECT pg_get_functiondef($1::regprocedure)", HOLD)
        self._correct = text
        for change in mutant.hold:
            text = change.made_in(text)
        await connection.execute(text)

    async def _end_world(self) -> None:
        world, self._world = self._world, None
        if world is not None:
            await world.close()
            if world.mutant is not None:
                await self._witness.connection.execute(self._correct)


async def quicken(scratch: Scratch) -> None:
    """Settings for a server that is thrown away."""
    async with closing(await Database(scratch.admin_url).connect("torture")) as connection:
        for setting in SETTINGS:
            await connection.execute(setting)


@contextmanager
def lanes(scratch: Scratch) -> Iterator[ProcessPoolExecutor]:
    """Processes that ``hunt`` and ``endure``; none is left after the block, however it ends.

    Raises: HarvestdError, when somebody ended one of them.
    """
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(LANES, context, initializer=_enter, initargs=(scratch,))
    try:
        yield pool
    except BrokenProcessPool:
        raise HarvestdError(
            "a process of the torture was ended by something else",
            why="most likely the machine has too little memory",
            next_step="free some memory, and look into the kernel's log",
        ) from None
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)


def hunt(name: str, seed: int, most: int) -> tuple[int, Told | None]:
    """After how many schedules, from ``seed`` on, a mutant was caught, and by which if it was."""
    [mutant] = [one for one in MUTANTS if one.name == name]
    for done in range(most):
        told = _run(seed + done, mutant)
        if told.violation is not None:
            return done + 1, told
    return most, None


def endure(seed: int) -> Told:
    """A schedule of the true protocol."""
    return _run(seed, None)


class _Here:
    """What this process has: it is a lane from its first schedule on."""

    scratch: Scratch
    lane: Lane | None = None
    runner = asyncio.Runner()


def _enter(scratch: Scratch) -> None:
    """In the new process: what a terminal sends is the parent's business, who ends us."""
    _Here.scratch = scratch
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """One that was killed ends nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(seed: int, mutant: Mutant | None) -> Told:
    if _Here.lane is None:
        _Here.lane = _Here.runner.run(_open(_Here.scratch))
    return _Here.runner.run(_Here.lane.run(seed, mutant))


async def _open(scratch: Scratch) -> Lane:
    """A database with the schema, the tables to write to, and the witness."""
    # The loop would complain of what a killed process leaves unawaited.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    step.hook = hook
    name = f"lane_{os.getpid()}"
    async with closing(await Database(scratch.admin_url).connect("torture")) as connection:
        owner = await connection.fetchval(OWNER)
        await connection.execute(f"CREATE DATABASE {name} OWNER {owner}")
    mine = scratch.beside(name)
    async with Database(mine.url) as database:
        roles = await prepare_database(database)
        await apply_source_schema(database, roles, source=SOURCE, schema_sql=SCHEMA)
    witness = await Database(mine.admin_url).connect("witness")
    await witness.execute(WITNESS)
    return Lane(mine.url, Witness(witness), roles)
