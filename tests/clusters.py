"""PostgreSQL servers of the tests: real ones, each in a folder of its own, ended with the test run.

They differ from the embedded server of harvestd on purpose: fsync is off, any version whose
programs are found may be used, and the server's time zone is an odd one.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from harvestd.database.embedded_programs import (
    ServerUser,
    find_package,
    find_programs,
    find_server_user,
)
from harvestd.database.roles import drop_roles, installation_hex

VERSION_VARIABLE = "HARVEST_TEST_PG"
DEFAULT_VERSION = "18"
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
DAEMON_ROLE = "app"
"""The plain role of DATABASE_URL in the suite: no superuser, CREATEROLE, owner of its databases."""

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "120",
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
    """The folder of ``initdb`` and ``postgres`` of ``version``, None where there is none."""
    if version == DEFAULT_VERSION:
        return find_programs(folder, user)
    shipped = find_package() / "pginstall" / "bin"  # the package's second version, 16 today
    for programs in (Path(f"/usr/lib/postgresql/{version}/bin"), shipped):
        if _is_version(programs / "postgres", version):
            return programs
    return None


def _is_version(postgres: Path, version: str) -> bool:
    if not postgres.exists():
        return False
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True)
    return f") {version}." in said.stdout


@contextmanager
def running_cluster(version: str) -> Iterator[Cluster]:
    """A server of ``version``, stopped and removed at the end.

    Raises: LookupError, when its programs are not found.
    """
    user = find_server_user()
    # Not TMPDIR: a socket's path may have 107 bytes, and the server's user must get there.
    home = Path(tempfile.mkdtemp(prefix="harvestd-test-pg-", dir="/tmp"))
    home.chmod(0o755)
    try:
        programs = find_server_programs(version, user, home)
        if programs is None:
            raise LookupError(f"no PostgreSQL {version} on this machine")
        password = secrets.token_urlsafe(18)
        _initialise(home, programs, user, password)
        with _running(home, programs, user) as process:
            yield Cluster(int(version), home / "sockets", password)
            if process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended by itself with {process.returncode}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _initialise(home: Path, programs: Path, user: ServerUser, password: str) -> None:
    for folder in (home / "pgdata", home / "sockets"):
        folder.mkdir(mode=0o700)
        os.chown(folder, user.uid, user.gid)
    word = home / "password"
    word.write_text(password + "\n", encoding="ascii")
    word.chmod(0o600)
    os.chown(word, user.uid, user.gid)
    command = [
        str(programs / "initdb"),
        f"--pgdata={home / 'pgdata'}",
        f"--pwfile={word}",
        *("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        *("--no-sync", "--no-instructions"),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=home, **user.child_options)
    word.unlink()


@contextmanager
def _running(home: Path, programs: Path, user: ServerUser) -> Iterator[subprocess.Popen[str]]:
    settings = SETTINGS | {"unix_socket_directories": str(home / "sockets")}
    command = [str(programs / "postgres"), "-D", str(home / "pgdata")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=home,
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
    connection = await asyncpg.connect(cluster.admin_url())
    try:
        await connection.execute(
            f"CREATE ROLE {DAEMON_ROLE} LOGIN CREATEROLE PASSWORD '{cluster.password}'"
        )
    finally:
        await connection.close()


async def create_database(cluster: Cluster, *, template: str = "template1") -> str:
    """Create a database owned by ``app``, as a copy of ``template``; answers its name."""
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(cluster.admin_url())
    try:
        await connection.execute(f"CREATE DATABASE {name} OWNER {DAEMON_ROLE} TEMPLATE {template}")
    finally:
        await connection.close()
    return name


async def drop_database(cluster: Cluster, name: str) -> None:
    """Drop a database and the roles that harvestd made for it (roles outlive databases)."""
    connection = await asyncpg.connect(cluster.admin_url())
    try:
        row = await connection.fetchrow(
            "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = $1) AS oid"
            " FROM pg_control_system()",
            name,
        )
        assert row is not None
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await drop_roles(connection, installation_hex(row["system_identifier"], row["oid"]))
    finally:
        await connection.close()


def database_of(url: str) -> str:
    """The name of the database in an address."""
    return unquote(urlsplit(url).path.removeprefix("/"))
