"""What is done to replicas: killed, paused, terminated; and to what they run from."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Literal

from harvestd.database.migrations import load_migrations
from tests.builders import query
from tests.clusters import create_database, database_of, drop_database
from tests.crash.world import LOOK_SECONDS, TICK_SECONDS, Replica, World
from tests.processes import environment, wait_until

CAUSE_EVERY_SECONDS = 0.5
HOLDING_STEPS = ("bind", "write", "checkpoint", "bookmark", "commit", "sweep", "cover", "record")
"""Whoever comes to one of these has a run in hand."""


def someone(world: World, chance: random.Random) -> Replica:
    """A replica that lives and is awake."""
    return chance.choice([one for one in world.replicas if one.lives and not one.paused])


async def kill_at_random(world: World, chance: random.Random) -> None:
    """kill -9 at any moment."""
    await asyncio.sleep(chance.uniform(0, TICK_SECONDS))
    await world.retire(someone(world, chance), kill=True)


async def kill_at(step: str, world: World, chance: random.Random) -> None:
    """kill -9 of whoever comes to ``step`` first."""
    await _taken(world, world.order("kill", step), step, chance)

    async def died() -> bool:
        return not any(one.lives for one in world.takers("kill"))

    await wait_until(died, f"somebody dies at {step}")


async def stop_at(step: str, world: World, chance: random.Random) -> None:
    """Whoever comes to ``step`` first sleeps past its lease there, and wakes."""
    await _taken(world, world.order("stop", step), step, chance)
    (victim,) = world.takers("stop")

    async def stopped() -> bool:
        return victim.paused

    await wait_until(stopped, f"somebody sleeps at {step}")
    await buried(world, victim)
    await wake(world, victim, holds=step in HOLDING_STEPS)


async def pause(world: World, chance: random.Random) -> None:
    """SIGSTOP past the lease at any moment, then SIGCONT."""
    await asyncio.sleep(chance.uniform(0, TICK_SECONDS))
    victim = someone(world, chance)
    victim.send(signal.SIGSTOP)
    await buried(world, victim)
    await wake(world, victim)


async def wake(world: World, victim: Replica, *, holds: bool = False) -> None:
    """SIGCONT, and it must find out that it was declared dead.

    Where it ``holds`` a run, its write was refused, and what it had is shown as lost.
    """
    lost, dead = said(victim, "run_lost"), said(victim, "replica_dead")
    victim.send(signal.SIGCONT)
    await victim.daemon.logged('"replica_dead"', times=dead + 1)
    if holds:
        await victim.daemon.logged('"run_lost"', times=lost + 1)
        assert await query(world.url, LOST_BY, victim.pid), "no lost attempt in the history"


async def buried(world: World, victim: Replica) -> None:
    """Wait until others declared it dead, took what it held and went on with that."""
    to_free = HELD_BY + (UNLOCKED if world.lets_live else "")

    async def gone() -> bool:
        return not (await query(world.url, ALIVE, victim.pid)) and not (
            await query(world.url, to_free, victim.pid)
        )

    await wait_until(
        gone, f"process {victim.pid} is declared dead and holds nothing", every=LOOK_SECONDS
    )
    since = await world.now()

    async def gone_on() -> bool:
        return not await query(world.url, BEHIND, since, victim.pid)

    await wait_until(
        gone_on, f"others go on with the runs of process {victim.pid}", every=LOOK_SECONDS
    )


ALIVE = "SELECT FROM harvestd.replica WHERE pid = $1 AND dead_at IS NULL"
HELD_BY = """
SELECT run.run_no
FROM data_source_run AS run
JOIN harvestd.replica AS replica ON replica.replica_id = run.replica_id
WHERE replica.pid = $1
"""
# Where its backends live on, one that slept between its rows and its COMMIT keeps that run.
UNLOCKED = "FOR SHARE OF run SKIP LOCKED"
BEHIND = """
SELECT FROM data_source_run AS run
WHERE run.script <> 'listed' AND (upper(run.covered) < $1 OR upper(run.covered) IS NULL)
  AND NOT EXISTS (SELECT FROM harvestd.replica AS replica
                  WHERE replica.replica_id = run.replica_id AND replica.pid = $2)
"""
LOST_BY = """
SELECT run_no, fence FROM harvestd.run_history
WHERE outcome = 'lost' AND replica_id IN (SELECT replica_id FROM harvestd.replica WHERE pid = $1)
"""


def said(replica: Replica, event: str) -> int:
    """How often a daemon logged ``event`` so far."""
    return sum(f'"{event}"' in line for line in replica.daemon.lines)


async def _taken(world: World, order: Path, step: str, chance: random.Random) -> None:
    """See to it that somebody comes to ``step``, until the order was taken."""
    if step == "cover":
        world.raised += sum(row["held"] for row in await query(world.url, RESET_KEYED))
    leaving: list[asyncio.Task[None]] = []
    async with asyncio.timeout(60):
        while world.stands(order):
            if step == "give_back":
                world.raised += len(await query(world.url, RAISE_FENCES))
            elif step == "schema_finished":
                _touch(world.plugins / "chaos" / "schema.sql", "--")
            elif step == "leave" and not leaving:
                leaving.append(asyncio.create_task(world.retire(someone(world, chance))))
            await asyncio.sleep(CAUSE_EVERY_SECONDS if step in CAUSED else 0.02)
    await asyncio.gather(*leaving)


# By hand, as the spec's operator does: its windows are walked again, more than one in an attempt.
RESET_KEYED = """
UPDATE data_source_run AS run SET last_fetched_data_date = NULL
WHERE run.script = 'upserted'
RETURNING run.replica_id IS NOT NULL AS held
"""
CAUSED = ("give_back", "schema_finished", "leave")
# What another program does that "starts" a run itself: the wall raises the fence of a held row.
RAISE_FENCES = """
UPDATE data_source_run SET status = 'PENDING' WHERE replica_id IS NOT NULL RETURNING run_no
"""


def _touch(path: Path, comment: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + f"{comment} edited\n", encoding="utf-8")


async def terminate(how: Literal["once", "twice"], world: World, chance: random.Random) -> None:
    """SIGTERM amid runs; the second one ends the drain."""
    victim = someone(world, chance)
    if how == "twice":
        victim.send(signal.SIGTERM)
        await victim.daemon.logged('"daemon_stopping"')
    await world.retire(victim)
    assert victim.daemon.process.returncode == 0, "\n".join(victim.daemon.lines[-20:])


async def end_in_start(number: int, world: World, chance: random.Random) -> None:
    """SIGTERM or SIGKILL while a replica starts; before Python hears signals it just ends."""
    victim = await world.start()
    await asyncio.sleep(chance.uniform(0, 1.5))
    victim.stopped_by_us = True
    code = await victim.daemon.stop(number)
    assert code in {0, -number}, "\n".join(victim.daemon.lines[-20:])


async def edit_plugin(world: World, chance: random.Random) -> None:
    """A script is half written for a while, then wholly, under its runs."""
    path = world.plugins / "chaos" / chance.choice(["append.py", "copied.py", "listed.py"])
    text = path.read_text(encoding="utf-8")
    refused = sum(said(one, "plugin_refused") for one in world.replicas)
    path.write_text(text[: len(text) - 20] + "(", encoding="utf-8")

    async def noticed() -> bool:
        return sum(said(one, "plugin_refused") for one in world.replicas) > refused

    try:
        await wait_until(noticed, "the half-written script is refused")
    finally:
        path.write_text(f"{text}# edited\n", encoding="utf-8")


async def take(
    what: Literal["configuration", "tenant"], world: World, chance: random.Random
) -> None:
    """A tenant, or only its configuration, is deleted under its runs, and comes back."""
    tenant = f"tenant {chance.randrange(2)}"
    if what == "tenant":
        await query(world.url, "DELETE FROM tenant WHERE id = $1", tenant)
    else:
        await query(world.url, "DELETE FROM tenant_data_source_config WHERE tenant_id = $1", tenant)

    async def retired() -> bool:
        return not await query(
            world.url,
            "SELECT FROM data_source_run WHERE tenant_id = $1"
            " AND (retired_at IS NULL OR replica_id IS NOT NULL)",
            tenant,
        )

    try:
        await wait_until(retired, f"the runs of {tenant} are retired", every=LOOK_SECONDS)
    finally:
        if what == "tenant":
            await query(world.url, "INSERT INTO tenant (id, name) VALUES ($1, $1)", tenant)
        await query(
            world.url,
            "INSERT INTO tenant_data_source_config"
            " (tenant_id, data_source, key, value) VALUES ($1, 'chaos', 'KEY', 'value')",
            tenant,
        )


async def kill_in_migration(world: World, chance: random.Random) -> None:
    """kill -9 amid the migrations of another database, then two at once: all of them, once."""
    name = await create_database(world.cluster)
    url = world.cluster.url(name)

    async def migrating() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "harvestd", "migrate"),
            env=environment(database_url=url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    try:
        for _ in range(KILLS):
            killed_after = chance.randrange(len(load_migrations()))
            child = await migrating()

            async def come_so_far(wanted: int = killed_after) -> bool:
                (there,) = await query(
                    url, "SELECT to_regclass('harvestd.schema_migration') IS NOT NULL AS yes"
                )
                return there["yes"] and len(await query(url, APPLIED)) >= wanted

            await wait_until(come_so_far, f"{killed_after} migrations")
            child.kill()
            await child.wait()
        both = [await migrating() for _ in range(2)]
        assert [await one.wait() for one in both] == [0, 0]
        here, whole = [
            await query(world.cluster.admin_url(one), SHAPE)
            for one in (name, database_of(world.url))
        ]
        assert here == whole, "half a migration"
    finally:
        await drop_database(world.cluster, name)


KILLS = 3
APPLIED = "SELECT FROM harvestd.schema_migration"
# The history's partitions are made as time goes by.
SHAPE = """
SELECT relation.oid::regclass::text AS what, attribute.attname::text AS part,
       format_type(attribute.atttypid, attribute.atttypmod) AS definition
FROM pg_class AS relation
JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid AND attribute.attnum > 0
WHERE relation.relnamespace::regnamespace::text IN ('public', 'harvestd', 'harvestd_api')
  AND NOT relation.relispartition
UNION ALL
SELECT oid::regprocedure::text, '', md5(prosrc) FROM pg_proc
WHERE pronamespace::regnamespace::text IN ('public', 'harvestd', 'harvestd_api')
ORDER BY 1, 2
"""


async def hang_up(world: World, chance: random.Random) -> None:
    """A storm of SIGHUP to all."""
    for _ in range(200):
        for replica in world.replicas:
            replica.send(signal.SIGHUP)
        await asyncio.sleep(0.005)
