"""What is done to the database server, the network, the disk and the clocks."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import asyncpg

from harvestd.database.pool import LOST, closing
from tests.builders import query
from tests.crash.on_processes import HELD_BY, buried, said, someone
from tests.crash.world import LEASE_SECONDS, LOG, LOOK_SECONDS, TICK_SECONDS, Replica, World
from tests.processes import wait_until

CONNECTIONS_AT_ONCE = 20


async def restart_server(number: int, world: World, chance: random.Random) -> None:
    """PostgreSQL ends, fast or at once, stays away for a moment, and starts again."""
    await asyncio.sleep(chance.uniform(0, TICK_SECONDS))
    await world.stop_server(number)
    await asyncio.sleep(chance.choice([0.0, 0.5, LEASE_SECONDS * 1.2]))
    world.start_server()


async def cut(how: Literal["end", "reset"], world: World, chance: random.Random) -> None:
    """Every connection of one replica ends."""
    await asyncio.sleep(chance.uniform(0, TICK_SECONDS))
    someone(world, chance).proxy.cut(reset=how == "reset")


async def stall(world: World, chance: random.Random) -> None:
    """One replica's connections swallow what is sent, past its lease; then all of it arrives."""
    victim = someone(world, chance)
    victim.proxy.flowing.clear()
    await _past_the_lease(world, victim)


async def refuse(world: World, chance: random.Random) -> None:
    """One replica cannot connect any more, until others took its runs."""
    victim = someone(world, chance)
    victim.proxy.refuses = True
    victim.proxy.cut()
    await _past_the_lease(world, victim)


async def _past_the_lease(world: World, victim: Replica) -> None:
    dead = said(victim, "replica_dead")
    await buried(world, victim)
    victim.proxy.heal()
    await victim.daemon.logged('"replica_dead"', times=dead + 1)


async def slow(world: World, chance: random.Random) -> None:
    """50 to 150 ms each way for all, for a few seconds."""
    delay = chance.uniform(0.05, 0.15)
    for replica in world.replicas:
        replica.proxy.delay_seconds = delay
    await asyncio.sleep(LEASE_SECONDS)


async def spend_budget(world: World, chance: random.Random) -> None:
    """A connection is reset in the middle of a message, after any number of bytes."""
    victim = await _busy(world, chance)
    victim.proxy.budget_bytes = int(10 ** chance.uniform(1, 5))
    await _struck(victim)


async def cut_commit(how: Literal["before", "after"], world: World, chance: random.Random) -> None:
    """COMMIT is lost, or it arrives and its answer is lost, a few times."""
    for _ in range(chance.randint(1, 4)):
        victim = await _busy(world, chance)
        victim.proxy.struck.clear()
        victim.proxy.cuts_commit = how
        await _struck(victim)


async def _struck(victim: Replica) -> None:
    async def struck() -> bool:
        # Another fault may have ended it first.
        return victim.proxy.struck.is_set() or not victim.lives

    await wait_until(struck, "something to cut")


async def _busy(world: World, chance: random.Random) -> Replica:
    """A replica that has runs under way: not each one is home to a tenant."""
    busy: list[Replica] = []

    async def found() -> bool:
        rows = await query(
            world.url,
            "SELECT DISTINCT replica.pid FROM harvestd.replica AS replica"
            " JOIN data_source_run AS run USING (replica_id)",
        )
        pids = {row["pid"] for row in rows}
        busy[:] = [one for one in world.replicas if one.lives and one.pid in pids]
        return bool(busy)

    await wait_until(found, "a replica with runs under way", every=LOOK_SECONDS)
    return chance.choice(busy)


async def fill_table_disk(world: World, chance: random.Random) -> None:
    """The disk of the table without a key is full until an attempt failed for it."""
    (moved,) = await query(
        world.admin_url,
        "SELECT count(*) AS n FROM pg_tables WHERE tablename = 'event' AND tablespace = 'small'",
    )
    if not moved["n"]:
        space = str(world.disks["table"]).replace("'", "''")
        await query(world.admin_url, f"CREATE TABLESPACE small LOCATION '{space}'")
        await query(world.admin_url, "ALTER TABLE chaos.event SET TABLESPACE small")
    # No page with room is left, such as one of rows that were rolled back the last time.
    await query(world.admin_url, "VACUUM (FULL) chaos.event")
    since = await world.now()

    async def failed() -> bool:
        return bool(
            await query(
                world.url,
                "SELECT FROM harvestd.run_history WHERE ended_at > $1 AND outcome = 'failed'"
                " AND error LIKE '%53100%'",
                since,
            )
        )

    with filled(world.disks["table"]):
        await wait_until(
            failed, "an attempt fails because the disk is full", within=60, every=LOOK_SECONDS
        )


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no byte on it, until the end of the block."""
    filler = disk.parent / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        yield
    finally:
        filler.unlink()


async def fill_log_disk(world: World, chance: random.Random) -> None:
    """The disk of one replica's log and DATA_DIR is full: it collects, and counts lost lines."""
    disk = world.disks["log"]
    # Alone, every tenant is at home with it.
    await asyncio.gather(*(world.retire(one) for one in world.replicas))
    victim = await world.start(disk=disk)
    address = ""

    async def works() -> bool:
        nonlocal address
        found = LISTENING.search((disk / LOG).read_text(encoding="utf-8"))
        address = found[1] if found else ""
        return bool(address) and bool(await query(world.url, HELD_BY, victim.pid))

    async def goes_on() -> bool:
        dropped = LINES_DROPPED.search(await asyncio.to_thread(_read, f"{address}/metrics"))
        return bool(dropped) and bool(await query(world.url, COMPLETED_BY, victim.pid, since))

    await wait_until(works, "a replica whose log is on the small disk works", every=LOOK_SECONDS)
    with filled(disk):
        since = await world.now()
        await wait_until(goes_on, "it goes on without its log", every=LOOK_SECONDS)
    await world.retire(victim)


LISTENING = re.compile(r'"http_listening","address":"([^"]+)"')
LINES_DROPPED = re.compile(r"^harvestd_log_lines_dropped_total [1-9]", re.MULTILINE)
COMPLETED_BY = """
SELECT FROM harvestd.run_history WHERE outcome = 'completed' AND started_at > $2
AND replica_id IN (SELECT replica_id FROM harvestd.replica WHERE pid = $1)
"""


def _read(url: str) -> str:
    with urlopen(url, timeout=LEASE_SECONDS) as answer:
        return str(answer.read(), "utf-8")


async def fill_wal_disk(world: World, chance: random.Random) -> None:
    """The disk of the server's WAL is full: it panics, and recovers once there is room."""

    async def panicked() -> bool:
        try:
            await query(world.admin_url, "SELECT pg_logical_emit_message(false, 'chaos', '')")
            await query(world.admin_url, "SELECT pg_switch_wal()")
        except (asyncpg.PostgresError, *LOST):
            return True
        return False

    async def recovered() -> bool:
        if world.process.poll() is not None:
            world.server.close()
            world.start_server()
        with suppress(asyncpg.PostgresError, *LOST):
            return bool(await query(world.admin_url, "SELECT pg_switch_wal()"))
        return False

    with filled(world.disks["wal"]):
        await wait_until(panicked, "the server panics for want of room for its log")
        await asyncio.sleep(chance.uniform(0, LEASE_SECONDS))
    await wait_until(recovered, "the server recovers", every=LOOK_SECONDS)


async def take_connections(world: World, chance: random.Random) -> None:
    """Another client takes every connection there is, those of the daemons too."""
    missed = {one: said(one, "heartbeat_missed") for one in world.replicas}
    held: list[asyncpg.Connection[Any]] = []

    async def take() -> None:
        with suppress(asyncpg.PostgresError, *LOST):
            held.append(await asyncpg.connect(world.url))

    async def noticed() -> bool:
        await asyncio.gather(*(take() for _ in range(CONNECTIONS_AT_ONCE)))
        return any(said(one, "heartbeat_missed") > missed[one] for one in world.replicas)

    try:
        before = -1
        while len(held) > before:
            before = len(held)
            await asyncio.gather(*(take() for _ in range(CONNECTIONS_AT_ONCE)))
        async with closing(await asyncpg.connect(world.admin_url)) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'harvestd: %'"
            )
        await wait_until(noticed, "a daemon that finds no free connection")
        await asyncio.sleep(chance.uniform(0, LEASE_SECONDS))
    finally:
        for connection in held:
            connection.terminate()


async def jump_clock(world: World, chance: random.Random) -> None:
    """One replica's clocks jump by hours or a day, as its machine slept or was set."""
    victim = someone(world, chance)
    offset = chance.choice([-86400, -3600, 3600, 86400])
    (world.orders / f"clock-{victim.pid}").write_text(str(offset), encoding="ascii")
    await asyncio.sleep(2 * TICK_SECONDS)


async def fake_clock(world: World, chance: random.Random) -> None:
    """A replica under libfaketime: a day ahead, then a day behind."""
    fake = world.folder / "faketime"
    fake.write_text("+0", encoding="ascii")
    await world.retire(someone(world, chance), kill=True)
    victim = await world.start(faked=True)
    await victim.daemon.logged("daemon_ready")
    for offset in ("+1d", "-1d"):
        fake.write_text(offset, encoding="ascii")
        await asyncio.sleep(2 * TICK_SECONDS)
    await world.retire(victim, kill=True)


RUNS_AHEAD = """
UPDATE data_source_run
SET started_at = started_at + interval '1 day', completed_at = completed_at + interval '1 day',
    due_at = due_at + interval '1 day'
WHERE replica_id IS NULL
RETURNING run_no
"""


async def set_server_clock(direction: int, world: World, chance: random.Random) -> None:
    """The database's clock is set ahead or back by a day, and a replica dies at that moment.

    Simulated: what it noted of replicas is moved the other way, and where it is set back, so is
    what it noted of triggers and of the runs that nobody holds.
    """
    days = -direction
    await query(
        world.url,
        "UPDATE harvestd.replica SET heartbeat_at = heartbeat_at + $1 * interval '1 day'"
        " WHERE dead_at IS NULL",
        days,
    )
    if direction < 0:
        await query(
            world.url,
            "UPDATE harvestd.installation SET forced_at = forced_at + interval '1 day',"
            " woken_at = woken_at + interval '1 day'",
        )
        # Each is mended with a raised fence.
        world.raised += len(await query(world.url, RUNS_AHEAD))
    victim = someone(world, chance)
    await world.retire(victim, kill=True)
    await query(
        world.url,
        "UPDATE harvestd.replica SET heartbeat_at = heartbeat_at + $1 * interval '1 day'"
        " WHERE pid = $2 AND dead_at IS NULL AND abs(extract(epoch FROM clock_timestamp()"
        " - heartbeat_at)) < 3600",
        days,
        victim.pid,
    )
    await buried(world, victim)
