"""PostgreSQL servers of the tests: real ones, each in a folder of its own, ended with the test run.

They differ from the embedded server of harvestd on purpose: fsync is off, any version whose
programs are found may be used, and the server's time zone is an odd one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from harvestd.database.embedded_programs import (
    ServerUser,
    find_package,
    find_programs,
    find_server_user,
)
from harvestd.database.pool import closing
from harvestd.database.roles import Roles
from tests.processes import wait_until

VERSION_VARIABLE = "HARVEST_TEST_PG"
HARDENED_VARIABLE = "HARVEST_TEST_HARDENED"
DEFAULT_VERSION = "18"
READY_SECONDS = 60.0
LEFTOVER_SECONDS = 3600
MEMORY_FOLDER = Path("/dev/shm")
MEMORY_BYTES_MIN = 1 << 30
"""Enough for two servers of the suite; a container's 64 MB are not."""
STOP_SECONDS = 30.0
PREFIX = "harvestd-test-pg-"
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
DAEMON_ROLE = "app"
"""The plain role of DATABASE_URL in the suite: no superuser, CREATEROLE, owner of its databases."""

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "120",
    "max_wal_size": "128MB",
    "shared_buffers": "64MB",
    "lc_messages": "C",
    # Half an hour off every hour of UTC: a statement that takes the server's zone is found out.
    "timezone": "Asia/Kolkata",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server; its sockets lie in ``sockets``, and one password serves every login."""

    major: int
    pgdata: Path
    sockets: Path
    password: str

    def url(self, database: str, role: str = DAEMON_ROLE, password: str | None = None) -> str:
        """The address of ``database`` for ``role``."""
        word = quote(self.password if password is None else password)
        return f"postgresql://{role}:{word}@/{quote(database)}?host={quote(str(self.sockets))}"

    def admin_url(self, database: str = "postgres") -> str:
        """The address for the superuser."""
        return self.url(database, "postgres")


def wanted_version() -> str:
    """The version that the suite runs on: HARVEST_TEST_PG, or 18."""
    return os.environ.get(VERSION_VARIABLE) or DEFAULT_VERSION


def find_server_programs(version: str, user: ServerUser, folder: Path) -> Path | None:
    """The folder of ``initdb`` and ``postgres`` of ``version``, None where there is none.

    ``folder`` takes a copy where ``user`` does not reach the originals (a checkout below /root).
    """
    if version == DEFAULT_VERSION:
        return find_programs(folder, user)
    debian = Path(f"/usr/lib/postgresql/{version}/bin")
    if _is_version(debian, version, user):
        return debian
    package = find_package()
    shipped = package / "pginstall" / "bin"  # the package's second version, 16 today
    if not _is_version(shipped, version) or _is_version(shipped, version, user):
        return shipped if _is_version(shipped, version) else None
    shutil.copytree(shipped.parent, folder / package.name / "pginstall")
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / "pginstall" / "bin"


def _is_version(programs: Path, version: str, user: ServerUser | None = None) -> bool:
    try:
        said = subprocess.run(
            [programs / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            **(user.child_options if user else {}),
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return f") {version}." in said.stdout


Running = Callable[[], AbstractContextManager["subprocess.Popen[str]"]]


@contextmanager
def running_cluster(version: str) -> Iterator[Cluster]:
    """A server of ``version``, stopped and removed at the end.

    Raises: LookupError, when its programs are not found.
    """
    with stopped_cluster(version) as (cluster, running), running() as process:
        yield cluster
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended by itself with {process.returncode}")


@contextmanager
def stopped_cluster(version: str) -> Iterator[tuple[Cluster, Running]]:
    """A server that is initialised and stopped, and how to run it, as often as wanted."""
    user = find_server_user()
    _remove_leftovers()
    # Not TMPDIR: a socket's path may have 107 bytes, and the server's user must get there.
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
    home.chmod(0o755)
    pgdata = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_fast_folder()))
    try:
        programs = find_server_programs(version, user, home)
        if programs is None:
            raise LookupError(f"no PostgreSQL {version} on this machine")
        password = secrets.token_urlsafe(18)
        sockets = home / "sockets"
        sockets.mkdir()
        for folder in (pgdata, sockets):
            os.chown(folder, user.uid, user.gid)
        _initialise(pgdata, programs, user, password)
        yield (
            Cluster(int(version), pgdata, sockets, password),
            lambda: _running(pgdata, sockets, programs, user),
        )
    finally:
        shutil.rmtree(pgdata, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def _remove_leftovers() -> None:
    """Folders of test runs that were killed: their server ended with them, the files stay."""
    for folder in (Path("/tmp"), MEMORY_FOLDER):
        for left in folder.glob(f"{PREFIX}[0-9]*-*"):
            pid = int(left.name.removeprefix(PREFIX).partition("-")[0])
            with suppress(OSError):  # gone meanwhile, or another user's
                if not Path(f"/proc/{pid}").exists() and _age_seconds(left) > LEFTOVER_SECONDS:
                    shutil.rmtree(left)


def _age_seconds(folder: Path) -> float:
    return time.time() - folder.stat().st_mtime


def _fast_folder() -> str:
    """Memory where there is enough: a database takes 0.07 s there, and 0.3 s on a slow disk."""
    with suppress(OSError):
        room = os.statvfs(MEMORY_FOLDER)
        if os.access(MEMORY_FOLDER, os.W_OK) and room.f_bavail * room.f_frsize > MEMORY_BYTES_MIN:
            return str(MEMORY_FOLDER)
    return "/tmp"


def _initialise(pgdata: Path, programs: Path, user: ServerUser, password: str) -> None:
    word = pgdata.with_name(pgdata.name + ".password")
    word.touch(mode=0o600)
    word.write_text(password + "\n", encoding="ascii")
    os.chown(word, user.uid, user.gid)
    command = [
        str(programs / "initdb"),
        f"--pgdata={pgdata}",
        f"--pwfile={word}",
        *("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        *("--no-sync", "--no-instructions"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, cwd=pgdata, **user.child_options)
    finally:
        word.unlink()


@contextmanager
def _running(
    pgdata: Path, sockets: Path, programs: Path, user: ServerUser
) -> Iterator[subprocess.Popen[str]]:
    settings = SETTINGS | {"unix_socket_directories": str(sockets)}
    command = [str(programs / "postgres"), "-D", str(pgdata)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=pgdata,
        start_new_session=True,  # Ctrl-C is for pytest, which then ends the server in order
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - before any thread of ours is started
        **user.child_options,
    )
    ready = threading.Event()
    said: deque[str] = deque(maxlen=40)
    reader = threading.Thread(target=_follow, args=(process, ready, said), daemon=True)
    reader.start()
    try:
        if not ready.wait(READY_SECONDS) or process.poll() is not None:
            raise RuntimeError("PostgreSQL does not start:\n" + "".join(said))
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: sessions are ended, not waited for
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)
        reader.join(STOP_SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def _follow(process: subprocess.Popen[str], ready: threading.Event, said: deque[str]) -> None:
    """Read the server's log to its end, which also lets a server that fails be reported."""
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if "database system is ready to accept connections" in line:
            ready.set()
    ready.set()


def _die_with_parent() -> None:
    """In the child: PR_SET_PDEATHSIG, so that no server outlives a killed pytest."""
    if LIBC is not None:
        LIBC.prctl(1, signal.SIGQUIT)


async def create_daemon_role(cluster: Cluster) -> None:
    """Create the plain role ``app`` on a fresh server."""
    async with closing(await asyncpg.connect(cluster.admin_url())) as connection:
        await connection.execute(
            f"CREATE ROLE {DAEMON_ROLE} LOGIN CREATEROLE PASSWORD '{cluster.password}'"
        )


async def create_database(cluster: Cluster, *, template: str = "template1") -> str:
    """Create a database owned by ``app``, as a copy of ``template``; answers its name."""
    name = f"test_{secrets.token_hex(6)}"
    async with closing(await asyncpg.connect(cluster.admin_url())) as connection:
        await connection.execute(f"CREATE DATABASE {name} OWNER {DAEMON_ROLE} TEMPLATE {template}")
    return name


async def drop_database(cluster: Cluster, name: str) -> None:
    """Drop a database and the roles that harvestd made for it (roles outlive databases)."""
    async with closing(await asyncpg.connect(cluster.admin_url())) as connection:
        row = await connection.fetchrow(
            "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = $1) AS oid"
            " FROM pg_control_system()",
            name,
        )
        assert row is not None

        async def dropped() -> bool:
            try:
                await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            except asyncpg.OutOfMemoryError:
                return False  # one that it ended is dropping more temporary tables than are locks
            return True

        await wait_until(dropped, f"{name} is dropped")
        await drop_roles(connection, installation_hex(row["system_identifier"], row["oid"]))


def installation_hex(system_identifier: int, database_oid: int) -> str:
    """The eight digits of a database; the statement see_roles computes the same."""
    return hashlib.sha256(f"{system_identifier}/{database_oid}".encode()).hexdigest()[:8]


async def drop_roles(admin: asyncpg.Connection[Any], hex: str) -> None:
    """Drop the roles of the installation ``hex``, and what they own in this database."""
    names = await admin.fetchval(
        "SELECT string_agg(rolname, ', ') FROM pg_roles WHERE starts_with(rolname, $1)",
        Roles(hex).prefix,
    )
    if names:
        await admin.execute(f"DROP OWNED BY {names}; DROP ROLE {names}")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder with a space in its path that the embedded server's user can traverse."""
    made = Path(tempfile.mkdtemp(prefix="hv with blank ", dir="/tmp")).resolve()
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def database_of(url: str) -> str:
    """The name of the database in an address."""
    return unquote(urlsplit(url).path.removeprefix("/"))
