"""Two real daemons, one of them killed: how long until the other has begun all that it held."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.idle import WITHIN_SECONDS, running_daemon
from bench.replica import migrate, seed, write_plugins
from bench.scratch import Server, fetch

LEASE_SECONDS = 6.0
INTERVAL_SECONDS = 4.0
TENANTS = 40
LOOK_SECONDS = 0.01
HELD = """\
import asyncio, os, time
from datetime import timedelta
resources = ["held"]
catch_up = False
interval = timedelta(days=1)
async def run(env, db, tenant_id, start_date, end_date):
    at = time.monotonic_ns()
    name = "first" if not os.path.exists(f"{env['KEY']}/{tenant_id} first") else "again"
    with open(f"{env['KEY']}/{tenant_id} {name}", "x") as note:
        note.write(f"{os.getpid()} {at}\\n")
    while name == "first" and not os.path.exists(env["KEY"] + "/end"):
        await asyncio.sleep(0.1)
"""
"""Says who began it and when, by the machine's steady clock.  The first goes on until the end;
again it ends at once, since what the dead one held is tried one by one."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """How long from kill -9 until the first and the last of its runs had begun elsewhere."""

    first_seconds: float
    last_seconds: float
    runs: int
    """That the dead one held."""


def measure_takeover(
    database: Server,
    number: int = 1,
    *,
    lease_seconds: float = LEASE_SECONDS,
    interval_seconds: float = INTERVAL_SECONDS,
) -> Takeover:
    """Start two replicas, kill one in the middle of its runs, and watch the other."""
    notes = database.folder / f"takeover {number}"
    notes.mkdir()
    notes.chmod(0o755)
    plugins = write_plugins(notes / "plugins", {"noop/held.py": HELD})
    migrate(database)
    settings = {
        "HARVESTD_LEASE_SECONDS": str(lease_seconds),
        "HARVESTD_INTERVAL_SECONDS": str(interval_seconds),
    }
    with ExitStack() as replicas:
        processes = [
            replicas.enter_context(
                running_daemon(database, plugins, settings, name=f"{one} {number}")
            )
            for one in ("one", "other")
        ]
        replicas.callback((notes / "end").touch)  # before they are asked to end
        _wait_until(lambda: _know_each_other(database))
        seed(database, TENANTS, value=str(notes))  # only now, or whoever is first has them all
        _wait_until(lambda: len(_begun(notes, "first")) == TENANTS)
        first = _begun(notes, "first")
        victim = max(processes, key=lambda one: len(_of(one.pid, first)))
        held = _of(victim.pid, first)
        killed = time.monotonic_ns()
        victim.kill()
        _wait_until(lambda: len(_begun(notes, "again")) >= len(held))
        again = _begun(notes, "again")
    if set(again) != held:
        raise RuntimeError(f"the figure is void: {len(held)} were held, {len(again)} began again")
    after = [(at - killed) / 1e9 for _, at in again.values()]
    return Takeover(min(after), max(after), len(held))


def _of(pid: int, begun: Mapping[str, tuple[int, int]]) -> set[str]:
    return {tenant for tenant, (by, _) in begun.items() if by == pid}


def _know_each_other(database: Server) -> bool:
    """Whether each of the two has beaten since the younger was there: it moves tenants."""
    [row] = fetch(
        database.url,
        "SELECT count(*) = 2 AND min(heartbeat_at) > max(started_at) AS known"
        " FROM harvestd.replica WHERE dead_at IS NULL",
    )
    return bool(row["known"])


def _begun(notes: Path, name: str) -> dict[str, tuple[int, int]]:
    """Of each tenant, who began its run and when."""
    begun = {}
    for note in notes.glob(f"* {name}"):
        if (text := note.read_text(encoding="ascii")).endswith("\n"):
            pid, at = text.split()
            begun[note.name.split()[0]] = int(pid), int(at)
    return begun


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError("a replica did not do its part; see its log")
        time.sleep(LOOK_SECONDS)
