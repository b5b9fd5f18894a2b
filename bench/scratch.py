"""A PostgreSQL of the bench's own, its databases, and what a piece of work costs the processors."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import asyncpg
import psutil

from harvestd.database.embedded import embedded_server

# Not /tmp: where that is memory, every commit is free, and nothing here would hold elsewhere.
DISK = Path("/var/tmp")  # noqa: S108 - mkdtemp makes a name of its own

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A running PostgreSQL: the address for the daemon's role, and the superuser's."""

    url: str
    admin_url: str
    folder: Path
    """Of the bench, on disk; plugins, logs and the server's files lie there."""
    version: str = ""


@contextmanager
def scratch_server() -> Iterator[Server]:
    """The embedded PostgreSQL (fsync on, unix socket) in a new folder, both gone at the end."""
    parent = DISK if os.access(DISK, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="harvestd-bench-", dir=parent))
    folder.chmod(0o711)  # the server's user must get through
    # Else an end from outside would leave the server running.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with embedded_server(folder / "data", own=True) as server:
            yield Server(server.url, server.admin_url, folder, server.version)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def scratch_database(server: Server) -> Iterator[Server]:
    """``server`` with the addresses of a new, empty database, which is dropped at the end."""
    name = f"bench_{secrets.token_hex(6)}"
    owner = urlsplit(server.url).username
    execute(server.admin_url, f"CREATE DATABASE {name} OWNER {owner}")
    try:
        yield replace(
            server,
            url=urlsplit(server.url)._replace(path=f"/{name}").geturl(),
            admin_url=urlsplit(server.admin_url)._replace(path=f"/{name}").geturl(),
        )
    finally:
        # Its roles outlive it, and end with the server.
        execute(server.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, *statements: str) -> None:
    """Statements without arguments, each in a transaction of its own."""

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(work())


def fetch(url: str, statement: str, *arguments: object) -> list[Any]:
    """The rows of one statement."""

    async def work() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    return asyncio.run(work())


def in_child(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a fresh process: its memory, its caches and its CPU are its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


@dataclass(frozen=True, slots=True)
class Rate:
    """So much was ``done`` in ``seconds``, for so much CPU of this process and of the server."""

    done: int
    seconds: float
    client_seconds: float = 0.0
    server_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """How many a second."""
        return self.done / self.seconds

    @property
    def client_us(self) -> float:
        """CPU microseconds of the client for each."""
        return 1e6 * self.client_seconds / max(self.done, 1)

    @property
    def server_us(self) -> float:
        """CPU microseconds of PostgreSQL for each."""
        return 1e6 * self.server_seconds / max(self.done, 1)


class Meter:
    """Wall and CPU time from its making on, of this process and of a whole PostgreSQL."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = psutil.Process(postmaster)
        self._server = self._server_seconds()
        self._client = time.process_time()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall seconds so far."""
        return time.perf_counter() - self._began

    def rate(self, done: int) -> Rate:
        """What was done so far, and what it cost."""
        return Rate(
            done,
            self.seconds,
            time.process_time() - self._client,
            self._server_seconds() - self._server,
        )

    def _server_seconds(self) -> float:
        return server_seconds(self._postmaster)


def server_seconds(postmaster: psutil.Process) -> float:
    """CPU of a PostgreSQL: its living processes and those that have ended (Linux only)."""
    total = 0.0
    for process in (postmaster, *postmaster.children()):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # counted with its parent by the next look
        total += times.user + times.system
    ended = postmaster.cpu_times()
    return float(
        total + getattr(ended, "children_user", 0.0) + getattr(ended, "children_system", 0.0)
    )


def forget_peak() -> None:
    """Let the peak of the resident memory begin anew (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_bytes() -> int:
    """The peak of the resident memory since then; 0 where the kernel does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def postmaster_of(url: str) -> int:
    """The process number of the server at ``url``, which runs on this machine."""

    async def work() -> int:
        connection = await asyncpg.connect(url)
        try:
            return await postmaster_behind(connection)
        finally:
            await connection.close()

    return asyncio.run(work())


async def postmaster_behind(connection: asyncpg.Connection[Any]) -> int:
    """The same, for an open connection."""
    return int(psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).ppid())


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)
