"""Several real daemons on one database, disturbed by chance, and what their scripts left behind."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.builders import query
from tests.daemons import write_plugins
from tests.processes import Daemon, harvestd_run, wait_until

LEASE_SECONDS = 3.0
TICK_SECONDS = 1.0
DOZE_SECONDS = 0.9
"""How long a replica is stopped without being missed."""
PROBING = """
import asyncio
from datetime import timedelta
from uuid import uuid4
import_window_duration = timedelta(days=365)
{needs}
async def run(env, db, tenant_id, start_date, end_date):
    # Each step is a commit of its own: whoever goes on beside or after another shows.
    step = {{"script": "{name}", "attempt": uuid4().hex}}
    for number in range(3):
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO step (script, attempt, number, at) "
                "VALUES ($1, $2, $3, clock_timestamp())", *step.values(), number)
        await asyncio.sleep(0.02)
    await db.copy("step", [step | {{"number": 3}}], end_date)
"""
FILES = {
    "probe/schema.sql": (
        "CREATE TABLE IF NOT EXISTS probe.step (tenant_id text NOT NULL, script text NOT NULL,"
        " attempt text NOT NULL, number integer NOT NULL, at timestamptz, id bigint"
        " GENERATED ALWAYS AS IDENTITY)"
    ),
    "probe/first.py": PROBING.format(name="first", needs=""),
    "probe/second.py": PROBING.format(name="second", needs="dependencies = ['probe/first']"),
}
SCRIPTS = 2
ENDINGS = ("leave", "doze", "kill", "sleep")
"""What befalls a daemon: the last two cost its lease."""


def probing(folder: Path) -> Path:
    """A folder with the data source ``probe``, whose scripts leave a trace of each attempt."""
    return write_plugins(folder, FILES)


@dataclass
class Fleet:
    """Daemons of one database; a paused one is among the running, until it is continued."""

    settings: dict[str, object]
    stack: AsyncExitStack
    running: list[Daemon] = field(default_factory=list)
    paused: list[Daemon] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    last_beats: dict[UUID, datetime] = field(default_factory=dict)
    """When the database last heard of those that were killed or stopped."""

    async def start(self) -> None:
        """One more, which has its first cycle behind it."""
        daemon = await self.stack.enter_async_context(harvestd_run(**self.settings))
        await daemon.logged("daemon_ready")
        self.running.append(daemon)

    async def kill(self, daemon: Daemon) -> None:
        """kill -9: its tenants move after the lease."""
        self.running.remove(daemon)
        await daemon.kill()
        await self._note_last_beat(daemon)

    async def leave(self, daemon: Daemon) -> None:
        """SIGTERM: its tenants move at once."""
        self.running.remove(daemon)
        assert await daemon.stop() == 0

    async def pause(self, daemon: Daemon) -> None:
        """SIGSTOP: as a machine that is suspended."""
        self.running.remove(daemon)
        daemon.process.send_signal(signal.SIGSTOP)
        self.paused.append(daemon)
        await self._note_last_beat(daemon)

    async def _note_last_beat(self, daemon: Daemon) -> None:
        rows = await query(
            str(self.settings["database_url"]),
            "SELECT replica_id, heartbeat_at FROM harvestd.replica"
            " WHERE pid = $1 AND dead_at IS NULL",
            daemon.process.pid,
        )
        self.last_beats |= {row["replica_id"]: row["heartbeat_at"] for row in rows}

    def go_on(self, daemon: Daemon) -> None:
        """SIGCONT: it finds itself dead, if it slept for longer than its lease."""
        self.paused.remove(daemon)
        daemon.process.send_signal(signal.SIGCONT)
        self.running.append(daemon)

    async def disturb(self, chance: random.Random, seconds: float, replicas: int) -> None:
        """So long, start, end, pause and kill at random; at the end ``replicas`` of them run.

        One at least always runs, and a death has time to be mended before the next.
        """
        clock = asyncio.get_running_loop()
        until, deaths_again = clock.time() + seconds, 0.0
        deck: list[str] = []
        waking: list[tuple[float, Daemon]] = []
        while (now := clock.time()) < until:
            for at, daemon in [one for one in waking if one[0] <= now]:
                waking.remove((at, daemon))
                self.did.append("go on")
                self.go_on(daemon)
            deck = deck or chance.sample(ENDINGS, len(ENDINGS))
            few = len(self.running) + len(self.paused) < replicas
            deadly = deck[-1] in ("kill", "sleep")
            if few and chance.random() < 0.5:
                self.did.append("start")
                await self.start()
            elif len(self.running) > 1 and (now >= deaths_again or not deadly):
                self.did.append(deck[-1])
                waking += await self._end(deck.pop(), chance.choice(self.running))
                deaths_again = clock.time() + 2 * LEASE_SECONDS if deadly else deaths_again
            await asyncio.sleep(chance.uniform(0.2, 1.2))
        for daemon in list(self.paused):
            self.go_on(daemon)
        while len(self.running) < replicas:
            await self.start()

    async def _end(self, kind: str, daemon: Daemon) -> list[tuple[float, Daemon]]:
        """Do that to it, while it has runs in hand; and when it is to be woken."""
        await wait_until(lambda: self._holds(daemon), "a run in hand")
        if kind == "leave":
            await self.leave(daemon)
        elif kind == "kill":
            await self.kill(daemon)
        else:
            await self.pause(daemon)
            lasts = DOZE_SECONDS if kind == "doze" else 2 * LEASE_SECONDS
            return [(asyncio.get_running_loop().time() + lasts, daemon)]
        return []

    async def _holds(self, daemon: Daemon) -> bool:
        rows = await query(
            str(self.settings["database_url"]),
            "SELECT FROM data_source_run JOIN harvestd.replica USING (replica_id) WHERE pid = $1",
            daemon.process.pid,
        )
        return bool(rows)


@asynccontextmanager
async def a_fleet(url: str, folder: Path, replicas: int) -> AsyncIterator[Fleet]:
    """So many daemons, which all know of each other; none is left at the end."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(
            {
                "database_url": url,
                "plugin_dirs": probing(folder / "plugins"),
                "data_dir": folder / "data",
                "lease_seconds": LEASE_SECONDS,
                "interval_seconds": TICK_SECONDS,
                "seats_max": 4,
            },
            stack,
        )
        await asyncio.gather(*(fleet.start() for _ in range(replicas)))
        await wait_until(lambda: are_living(url, replicas), f"{replicas} living replicas")
        try:
            yield fleet
        finally:
            for daemon in list(fleet.paused):
                fleet.go_on(daemon)


async def are_living(url: str, replicas: int) -> bool:
    return len(await living(url)) == replicas


async def living(url: str) -> list[Any]:
    """The ids of those that house tenants and were heard of within their lease."""
    rows = await query(
        url,
        "SELECT replica_id FROM harvestd.replica WHERE dead_at IS NULL AND houses",
    )
    return [row["replica_id"] for row in rows]


async def overlaps(url: str) -> list[str]:
    """Attempts of one script of a tenant that were under way beside each other.

    From the probe: whoever writes once more after another began.  From the history: whose
    times overlap.
    """
    steps = await query(url, "SELECT tenant_id, script, attempt FROM probe.step ORDER BY id")
    found = []
    for key, of_run in groupby(
        sorted(steps, key=lambda step: (step["tenant_id"], step["script"])),
        key=lambda step: (step["tenant_id"], step["script"]),
    ):
        turns = [attempt for attempt, _ in groupby(step["attempt"] for step in of_run)]
        if len(turns) > len(set(turns)):
            found.append(f"{key} in the probe")
    times = await query(
        url,
        "SELECT tenant_id, script, started_at, ended_at, lag(ended_at) OVER"
        " (PARTITION BY run_no ORDER BY started_at, ended_at) AS before_at"
        " FROM harvestd.run_history",
    )
    return found + [
        f"{row['tenant_id']}/{row['script']} at {row['started_at']}"
        for row in times
        if row["before_at"] is not None and row["before_at"] > row["started_at"]
    ]


async def longest_wait(url: str, since: datetime) -> tuple[float, str]:
    """The longest time for which a run that was always due did not begin, until now; and whose."""
    rows = await query(
        url,
        "WITH beginning AS ("
        " SELECT tenant_id || '/' || script AS run, at FROM probe.step WHERE number = 0"
        " UNION ALL SELECT tenant_id || '/' || script, edge FROM public.data_source_run,"
        "  unnest(ARRAY[$1, clock_timestamp()]) AS edge WHERE data_source = 'probe')"
        " SELECT run, at, extract(epoch FROM at - lag(at) OVER"
        "  (PARTITION BY run ORDER BY at))::float8 AS waited"
        " FROM beginning ORDER BY waited DESC NULLS LAST LIMIT 1",
        since,
    )
    return rows[0]["waited"], f"{rows[0]['run']} until {rows[0]['at']}"
