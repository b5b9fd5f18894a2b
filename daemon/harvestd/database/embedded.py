"""The embedded PostgreSQL of one DATA_DIR: who owns it, who uses it, and when it stops.

Three files carry locks (flock, so that the kernel lifts them however a process ends):

``owner.lock``  held by `run` and `demo` while they live; has the owner's process number
``users.lock``  shared by everybody who uses the server; who can have it alone is the last one
``gate.lock``   held for moments, while one process looks, starts or stops

A child that was forked without exec keeps its parent's locks: start such children first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import asyncpg

from harvestd.database.embedded_files import Layout, Passwords, lay_out, refuse_foreign_sockets
from harvestd.database.embedded_postmaster import (
    FAST_STOP_SECONDS,
    IMMEDIATE_STOP_SECONDS,
    POLL_SECONDS,
    START_SECONDS,
    ends_within,
    find_postmaster,
    make_server,
    stop,
)
from harvestd.database.embedded_programs import USE_ANOTHER, name_of
from harvestd.errors import AlreadyOwned, EmbeddedError

DAEMON_ROLE = "harvestd"
DATABASE = "harvestd"
CONNECT_SECONDS = 30.0
# Whoever holds the gate is done after its own bounds at the latest.
GATE_SECONDS = START_SECONDS + FAST_STOP_SECONDS + IMMEDIATE_STOP_SECONDS

# A server that was just told to end, or killed, may look alive for an instant.
ARRIVALS_MAX = 3
DYING_SECONDS = 3.0
NO_ANSWER = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running embedded PostgreSQL.

    ``url`` is for the daemon's role (LOGIN, CREATEROLE, owner of the database, no superuser),
    ``admin_url`` for the superuser, same database; both have a password, so they are not shown.
    """

    url: str = field(repr=False)
    admin_url: str = field(repr=False)
    data_dir: Path
    version: str
    pid: int


@contextmanager
def embedded_server(data_dir: Path, *, own: bool) -> Iterator[EmbeddedServer]:
    """Use the embedded PostgreSQL of ``data_dir``, started if it is not running.

    ``own``: as its one owner, for the life of the daemon.  Otherwise beside the owner, or for
    the time of one command.  Whoever leaves last stops the server.

    Blocks (first start about a second): call it outside an event loop, or in a thread.

    Raises: AlreadyOwned, naming the owner's process; EmbeddedError.
    """
    with explained(data_dir):
        layout = lay_out(data_dir)
    with (
        owner_lock(layout) if own else nullcontext(),
        lock_file(layout, "users.lock") as users,
    ):
        with explained(data_dir), gate(layout):
            # Never waits: to have it alone one must hold the gate.
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                server = _arrive(layout)
            except BaseException:
                _leave(layout, users)
                raise
        try:
            yield server
        finally:
            with explained(data_dir), gate(layout):
                _leave(layout, users)


def stop_abandoned(data_dir: Path) -> bool:
    """Stop the server of a folder whose users were all killed; False where somebody uses it.

    Raises: EmbeddedError.
    """
    with explained(data_dir):
        layout = lay_out(data_dir)
        with lock_file(layout, "users.lock") as users, gate(layout):
            if not try_lock(users):
                return False
            _leave(layout, users)
            return True


def _arrive(layout: Layout) -> EmbeddedServer:
    """The ready server of this folder, with role and database; the gate is held."""
    for _ in range(ARRIVALS_MAX):
        passwords, postmaster = make_server(layout)
        refuse_foreign_sockets(postmaster.socket_dir, layout.user)
        at = f"host={postmaster.socket_dir}&port=5432"  # else PGPORT of our environment decides
        daemon = f"postgresql://{DAEMON_ROLE}:{quote(passwords.harvestd, safe='')}@"
        admin = f"postgresql://postgres:{quote(passwords.postgres, safe='')}@"
        url, admin_url = f"{daemon}/{DATABASE}?{at}", f"{admin}/{DATABASE}?{at}"
        try:
            version = in_own_loop(_furnish(url, f"{admin}/postgres?{at}", passwords, layout))
        except NO_ANSWER as error:
            silence = type(error).__name__
        else:
            return EmbeddedServer(url, admin_url, layout.folder, version, postmaster.pid)
        if not ends_within(postmaster, DYING_SECONDS):
            break
    raise EmbeddedError(
        "the embedded PostgreSQL runs but does not answer on its socket",
        why=f"{silence}: the socket was removed, or the machine is overloaded",
        next_step="end the harvestd that uses it and start again",
    )


def _leave(layout: Layout, users: int) -> None:
    """Give up our use, and as the last one stop the server; the gate is held."""
    # Asking to have it alone takes our own share away, whatever the answer.
    running = find_postmaster(layout) if try_lock(users) else None
    # One that still replays its log after a crash would have to begin anew.
    if running is not None and running.status != "starting":
        stop(running)


async def _furnish(url: str, first: str, passwords: Passwords, layout: Layout) -> str:
    """The server's version, once the daemon's role can log in to its database.

    What is missing is made by the superuser at ``first``: all of it on the first start, the
    rest after a crash during it, the password after both were lost.
    """
    try:
        await _make_missing(first, passwords.harvestd)
        try:
            return await _version(url)
        except asyncpg.InvalidPasswordError:
            await _make_missing(first, passwords.harvestd, password_too=True)
            return await _version(url)
    except NO_ANSWER:
        raise  # it may be dying at this moment
    except asyncpg.InvalidAuthorizationSpecificationError:
        raise EmbeddedError(
            f"PostgreSQL does not take the passwords in {layout.secrets}",
            why="they were changed in the database or in the file",
            next_step=f"end harvestd, remove {layout.secrets} and start again: fresh ones are set",
        ) from None
    except asyncpg.PostgresError as error:
        raise EmbeddedError(
            "the embedded PostgreSQL refuses to be used",
            why=f"SQLSTATE {error.sqlstate} ({type(error).__name__})",
            next_step=f"see {layout.log}",
        ) from None


async def _version(url: str) -> str:
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    try:
        return str(await connection.fetchval("SHOW server_version", timeout=CONNECT_SECONDS))
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def _make_missing(first: str, password: str, *, password_too: bool = False) -> None:
    """Make the daemon's role and its database where they are missing."""
    connection = await asyncpg.connect(first, timeout=CONNECT_SECONDS)
    try:
        role_known = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", DAEMON_ROLE
        )
        database_known = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE
        )
        if not role_known or password_too:
            verb = "ALTER" if role_known else "CREATE"
            text = f"{verb} ROLE {DAEMON_ROLE} LOGIN CREATEROLE NOSUPERUSER PASSWORD "
            # The statement takes no parameters, so the server itself quotes the password.
            await connection.execute(
                await connection.fetchval("SELECT $1 || quote_literal($2)", text, password)
            )
        if not database_known:
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {DAEMON_ROLE}")
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


def in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` in a thread: its loop then meets no loop of the caller."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


@contextmanager
def explained(data_dir: Path) -> Iterator[None]:
    """Turn what the system refuses (space, rights, a file in the way) into EmbeddedError."""
    try:
        yield
    except OSError as error:
        where = error.filename or data_dir
        raise EmbeddedError(
            f"the embedded PostgreSQL cannot work in {data_dir}",
            why=f"{where}: {error.strerror or type(error).__name__}",
            next_step=f"make room, or give {name_of(os.geteuid())} the right to write there, "
            f"HARVESTD_DATA_DIR=/another/folder, {USE_ANOTHER}",
        ) from error


@contextmanager
def lock_file(layout: Layout, name: str) -> Iterator[int]:
    """A descriptor to take locks on; closing it gives them back."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with explained(layout.folder):
        descriptor = os.open(layout.folder / name, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock alone if that is possible at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def gate(layout: Layout) -> Iterator[None]:
    """Be the only process that looks, starts or stops."""
    with lock_file(layout, "gate.lock") as descriptor:
        deadline = time.monotonic() + GATE_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"another harvestd has been starting or stopping {layout.folder} "
                    f"for {GATE_SECONDS:.0f} s",
                    why="it holds gate.lock; it may be suspended",
                    next_step=f"find it (fuser {layout.folder / 'gate.lock'}) and end it",
                )
            time.sleep(POLL_SECONDS)
        yield


@contextmanager
def owner_lock(layout: Layout) -> Iterator[None]:
    """Own the server of this folder; raises AlreadyOwned when another process does."""
    with lock_file(layout, "owner.lock") as descriptor:
        if not try_lock(descriptor):
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyOwned(
                f"process {owner} already owns the embedded PostgreSQL of {layout.folder}",
                why="one `harvestd run` or `harvestd demo` at a time may own it",
                next_step=f"stop that one (kill {owner}), or HARVESTD_DATA_DIR=/another/folder; "
                "other commands work beside it",
            )
        with explained(layout.folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
