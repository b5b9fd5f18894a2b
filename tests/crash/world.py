"""What the chaos happens to: a PostgreSQL of its own, replicas as child processes, a proxy each."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from harvestd.database.embedded_programs import find_server_user
from harvestd.database.pool import LOST
from tests.builders import a_tenant, query
from tests.clusters import (
    Cluster,
    Running,
    create_daemon_role,
    create_database,
    database_of,
    stopped_cluster,
    wanted_version,
)
from tests.crash.proxy import Proxy
from tests.processes import ROOT, Daemon, environment, wait_until

HERE = Path(__file__).parent
LEASE_SECONDS = 3.0
TICK_SECONDS = 1.0
SEATS_MAX = 4
FIRST_IMPORT_DAYS = 0.001
TENANTS = 3
DISKS = {"table": 128, "wal": 256, "log": 8}
"""Small disks that a fault may fill, in MB; the server's log takes up 128 between checkpoints."""
SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.2
"""Between two questions to the database, each on a connection of its own: no burden of ours."""
LOG = "log of a replica"
FAKETIME = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@dataclass(eq=False)
class Replica:
    """One `harvestd run` behind its proxy."""

    daemon: Daemon
    proxy: Proxy
    stopped_by_us: bool = False
    """Whether its end was asked for: exit code 0 is then right."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self.daemon.process.pid

    @property
    def lives(self) -> bool:
        """Whether the process is there, be it paused."""
        return self.daemon.process.returncode is None

    @property
    def paused(self) -> bool:
        """Whether somebody stopped it by SIGSTOP."""
        with suppress(psutil.NoSuchProcess):
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        return False

    def send(self, number: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self.daemon.process.send_signal(number)


@dataclass(eq=False)
class World:
    """A site under attack; ``url`` leads to its database past every proxy."""

    cluster: Cluster
    url: str
    folder: Path
    running: Running
    server: ExitStack
    process: subprocess.Popen[str]
    stack: AsyncExitStack
    lets_live: bool = False
    """Whether the launcher plants its mistake."""
    disks: dict[str, Path] = field(default_factory=dict)
    """A folder on each of DISKS; none where this user may not mount one."""
    size: int = 0
    """How many replicas there should be."""
    raised: int = 0
    """Fences that a fault raised, as another program may."""

    def __post_init__(self) -> None:
        self.replicas: list[Replica] = []
        self.gone: list[Replica] = []
        self.orders = self.folder / "orders"
        self.plugins = self.folder / "plugins"

    @property
    def admin_url(self) -> str:
        """The address of its database for the superuser."""
        return self.cluster.admin_url(database_of(self.url))

    async def start(self, *, faked: bool = False, disk: Path | None = None) -> Replica:
        """One more replica, which may not be ready yet.

        ``faked``: its time is libfaketime's.  ``disk``: where its DATA_DIR is, and its log, which
        nobody reads then.
        """
        proxy = await self.stack.enter_async_context(Proxy(self.cluster.sockets))
        address = f"127.0.0.1:{proxy.port}"
        url = f"postgresql://app:{self.cluster.password}@{address}/{database_of(self.url)}"
        env = environment(
            database_url=url,
            plugin_dirs=self.plugins,
            data_dir=(disk or self.folder) / f"data {len(self.replicas) + len(self.gone)}",
            http_address="127.0.0.1:0",
            log_format="json",
            lease_seconds=LEASE_SECONDS,
            interval_seconds=TICK_SECONDS,
            seats_max=SEATS_MAX,
            drain_seconds=3,
            first_import_days=FIRST_IMPORT_DAYS,
        )
        env |= {"CHAOS_FOLDER": str(self.orders), "CHAOS_LET_LIVE": "1" if self.lets_live else "0"}
        if faked:
            env |= {
                "LD_PRELOAD": str(FAKETIME[0]),
                "FAKETIME_TIMESTAMP_FILE": str(self.folder / "faketime"),
                "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        with ExitStack() as files:
            log = files.enter_context((disk / LOG).open("wb")) if disk else None
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(HERE / "launcher.py"),
                "run",
                env=env,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log or asyncio.subprocess.PIPE,
            )
        replica = Replica(Daemon(process), proxy)
        self.replicas.append(replica)
        return replica

    async def fill(self, size: int) -> None:
        """So many replicas, all ready; whoever died is replaced."""
        self.size = size
        for replica in [one for one in self.replicas if not one.lives]:
            self.replicas.remove(replica)
            self.gone.append(replica)
        fresh = [await self.start() for _ in range(size - len(self.replicas))]
        for replica in fresh:
            await replica.daemon.logged("daemon_ready")

    async def retire(self, replica: Replica, *, kill: bool = False) -> None:
        """End one by SIGTERM, or by SIGKILL, and wait for that."""
        replica.stopped_by_us = True
        await (replica.daemon.kill() if kill else replica.daemon.stop())

    async def heal(self) -> None:
        """Every fault off, every paused process awake, and as many replicas as there were."""
        for order in self.orders.iterdir():
            order.unlink(missing_ok=True)
        for replica in self.replicas:
            replica.proxy.heal()
            if replica.paused:
                replica.send(signal.SIGCONT)
        if self.process.poll() is not None:
            self.start_server()
        await self.fill(self.size)

    def order(self, order: str, step: str) -> Path:
        """Tell the first process that comes to ``step`` to ``kill`` or ``stop`` itself."""
        path = self.orders / f"{order}-at-{step}"
        path.touch()
        return path

    def stands(self, order: Path) -> bool:
        """Whether nobody has taken it yet."""
        return order.exists()

    def takers(self, order: str) -> list[Replica]:
        """Who took an order to ``kill`` or ``stop`` itself."""
        return [one for one in self.replicas if (self.orders / f"{order}-of-{one.pid}").exists()]

    async def stop_server(self, number: int) -> None:
        """SIGINT: fast; SIGQUIT: immediate, as a crash."""
        self.process.send_signal(number)

        async def ended() -> bool:
            return self.process.poll() is not None

        await wait_until(ended, "PostgreSQL ends")
        self.server.close()

    def start_server(self) -> None:
        """Start it again; everything else stands still until it is ready."""
        self.process = self.server.enter_context(self.running())

    async def now(self) -> Any:
        """The database's clock."""
        (row,) = await query(self.url, "SELECT clock_timestamp() AS now")
        return row["now"]

    async def settle(self) -> None:
        """Wait until every run has got beyond this moment, and each replica is one of the living.

        Raises: AssertionError, with what lags behind, after SETTLE_SECONDS.
        """
        since, said = await self.now(), ""

        async def settled() -> bool:
            nonlocal said
            pids = sorted(replica.pid for replica in self.replicas)
            try:
                late = await query(self.url, LATE, since, pids)
            except (asyncpg.PostgresError, *LOST) as error:
                said = repr(error)
                return False
            said = "; ".join(str(dict(row)) for row in late[:5])
            return not late

        try:
            await wait_until(settled, "", within=SETTLE_SECONDS, every=LOOK_SECONDS)
        except AssertionError:
            ends = [line for one in self.replicas for line in one.daemon.lines[-6:]]
            raise AssertionError(f"does not settle: {said}\n" + "\n".join(ends)) from None


LATE = """
SELECT run.tenant_id || '/' || run.script AS what, run.status::text, run.error, run.failures,
       run.deaths, run.due_at - now() AS due_in, upper(run.covered) AS reached
FROM data_source_run AS run
WHERE upper(run.covered) IS NULL OR upper(run.covered) < $1
   OR (run.status = 'RUNNING' AND run.replica_id NOT IN (
       SELECT replica_id FROM harvestd.replica WHERE dead_at IS NULL))
UNION ALL
SELECT 'living replicas: ' || array_agg(replica.pid)::text, NULL, NULL, NULL, NULL, NULL, NULL
FROM harvestd.replica AS replica
WHERE replica.dead_at IS NULL
HAVING array_agg(replica.pid ORDER BY replica.pid) IS DISTINCT FROM $2::int[]
UNION ALL
SELECT 'no runs yet', NULL, NULL, NULL, NULL, NULL, NULL
WHERE NOT EXISTS (SELECT FROM data_source_run)
"""


@asynccontextmanager
async def a_world(folder: Path, *, replicas: int, lets_live: bool = False) -> AsyncIterator[World]:
    """A site with its tenants, where every run came through once; all of it ends with the block."""
    async with AsyncExitStack() as stack:
        disks = {name: stack.enter_context(small_disk(mb)) for name, mb in DISKS.items()}
        cluster, running = stack.enter_context(stopped_cluster(wanted_version()))
        there = {name: disk for name, disk in disks.items() if disk is not None}
        if "wal" in there:
            _move_wal(cluster.pgdata / "pg_wal", there["wal"])
        server = stack.enter_context(ExitStack())
        process = server.enter_context(running())
        await create_daemon_role(cluster)
        url = cluster.url(await create_database(cluster))
        world = World(
            cluster, url, folder, running, server, process, stack, lets_live=lets_live, disks=there
        )
        stack.push_async_callback(_end, world)
        world.orders.mkdir(parents=True)
        shutil.copytree(
            HERE / "sources", world.plugins, ignore=shutil.ignore_patterns("__pycache__")
        )
        await world.fill(replicas)
        for number in range(TENANTS):
            await a_tenant(url, f"tenant {number}", {"chaos": {"KEY": "value"}})
        await world.settle()
        yield world


def _move_wal(wal: Path, disk: Path) -> None:
    """Let a stopped server keep its write-ahead log on another disk."""
    subprocess.run(["cp", "-a", f"{wal}/.", str(disk)], check=True)
    shutil.rmtree(wal)
    wal.symlink_to(disk)


async def _end(world: World) -> None:
    for replica in world.replicas:
        if replica.lives:
            await world.retire(replica, kill=True)


@contextmanager
def small_disk(mb: int) -> Iterator[Path | None]:
    """A folder on a file system of its own in memory; None where this user may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="harvestd-chaos-", dir="/tmp"))
    options = ["-t", "tmpfs", "-o", f"size={mb}m", "harvestd-chaos", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", *options], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        if mounted:
            user = find_server_user()
            (folder / "space").mkdir()
            os.chown(folder / "space", user.uid, user.gid)
            folder.chmod(0o755)
        yield folder / "space" if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
