"""A real `harvestd run`: from SIGHUP to the first script, and its cost while nothing is due."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import psutil

from bench.replica import migrate, scripts_of, seed, seed_runs, write_plugins
from bench.scratch import Server, fetch, postmaster_of, server_seconds

WITHIN_SECONDS = 60.0
LOOK_SECONDS = 0.001
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
NOTE_START = """\
import os, time
from datetime import timedelta
resources = ["{name}"]
dependencies = {needs}
visibility_lag = timedelta(0)
interval = timedelta(days=1)
async def run(env, db, tenant_id, start_date, end_date):
    at = time.monotonic_ns()
    try:
        note = os.open(env["KEY"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(note, b"%d\\n" % at)
    os.close(note)
"""
"""The first script to start says when, by the machine's steady clock."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What a daemon costs that has nothing to do, and how fast it gets up."""

    rss_mb: float
    share_percent: float
    """Of one core, over the time it was watched."""
    server_share_percent: float
    reaction_ms: list[float]


def measure_idle(database: Server, *, tenants: int, signals: int, seconds: float) -> Idle:
    """Default settings, five scripts a tenant, each due once a day."""
    note = database.folder / "started"
    plugins = write_plugins(database.folder / "idle plugins", scripts_of(NOTE_START))
    migrate(database)
    seed(database, tenants, value=str(note))
    seed_runs(database, never_ran=True)
    with running_daemon(database, plugins) as process:
        _wait_for_note(note, process)
        _wait_until_idle(database, process, since=NEVER)
        reactions = [_react(database, note, process) for _ in range(signals)]
        watched = psutil.Process(process.pid)
        server = psutil.Process(postmaster_of(database.url))
        began, own_before = time.monotonic(), sum(watched.cpu_times()[:2])
        server_before = server_seconds(server)
        time.sleep(seconds)
        passed = time.monotonic() - began
        return Idle(
            rss_mb=watched.memory_info().rss / 1e6,
            share_percent=100 * (sum(watched.cpu_times()[:2]) - own_before) / passed,
            server_share_percent=100 * (server_seconds(server) - server_before) / passed,
            reaction_ms=reactions,
        )


@contextmanager
def running_daemon(
    database: Server,
    plugins: Path,
    more: Mapping[str, str] = MappingProxyType({}),
    *,
    name: str = "daemon",
) -> Iterator[subprocess.Popen[bytes]]:
    """`harvestd run` as its users start it, with ``more`` settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HARVESTD_")}
    settings = {
        "HARVESTD_DATABASE_URL": database.url,
        "HARVESTD_DATA_DIR": str(database.folder / name),
        "HARVESTD_PLUGIN_DIRS": str(plugins),
        "HARVESTD_HTTP_ADDRESS": "127.0.0.1:0",
    }
    with (database.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "harvestd", "run"],
            env={**inherited, **settings, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _react(database: Server, note: Path, process: subprocess.Popen[bytes]) -> float:
    """Milliseconds from the signal to the first script; on return the last one has ended."""
    note.unlink()
    [row] = fetch(database.url, "SELECT now() AS now")
    sent = time.monotonic_ns()
    process.send_signal(signal.SIGHUP)
    started = _wait_for_note(note, process)
    _wait_until_idle(database, process, since=row["now"])
    return (started - sent) / 1e6


def _wait_for_note(note: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(FileNotFoundError):
            if (text := note.read_bytes()).endswith(b"\n"):
                return int(text)
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"no script started; see daemon.log (exit code {process.poll()})")


def _wait_until_idle(
    database: Server, process: subprocess.Popen[bytes], *, since: datetime
) -> None:
    """Until every run has started after ``since`` and ended."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        [row] = fetch(
            database.url,
            "SELECT count(*) AS left_over FROM public.data_source_run"
            " WHERE status <> 'COMPLETED' OR started_at < $1",
            since,
        )
        if not row["left_over"]:
            return
        time.sleep(0.02)
    raise RuntimeError("the daemon did not come to rest; see daemon.log")
