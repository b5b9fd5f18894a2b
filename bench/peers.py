"""Other programs of this kind, each at its best setting: no-op jobs, enqueued and worked off.

They live in an environment of their own (`make bench-peers` makes it from
bench/requirements.lock), and each measurement is a fresh process in a fresh database.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.scratch import Meter, Rate, Server, execute, postmaster_of, scratch_database

HERE = Path(__file__).parent
PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program, the settings of which the best counts, and how much it gets to do."""

    name: str
    program: str
    settings: Sequence[int]
    unit: str
    """What the settings count."""
    jobs_per_second: int
    """So many jobs for each second that a measurement may take."""


PGQUEUER = Peer("pgqueuer 1.6", "peer_pgqueuer.py", (10, 100, 1000), "jobs a batch", 4_000)
PROCRASTINATE = Peer("procrastinate 3.10", "peer_procrastinate.py", (1, 2, 4, 8), "workers", 400)


@dataclass(frozen=True, slots=True)
class Measured:
    """One setting of a peer in one round."""

    setting: int
    whole: Rate
    """Enqueue included."""
    drain: Rate
    """What is left of it when only the working off is timed; without CPU."""


def find_python() -> Path | None:
    """The interpreter that has the peers, once all of them are installed."""
    return PYTHON if (PYTHON.parents[1] / ".ready").exists() else None


def measure_best(python: Path, server: Server, peer: Peer, *, seconds: float) -> Measured:
    """The fastest of the peer's settings, enqueue included, each in a database of its own."""
    jobs = max(1, round(peer.jobs_per_second * seconds))
    measured = []
    for setting in peer.settings:
        with scratch_database(server) as database:
            measured.append(measure(python, database, peer, setting, jobs))
    return max(measured, key=lambda one: one.whole.per_second)


def measure(python: Path, database: Server, peer: Peer, setting: int, jobs: int) -> Measured:
    """So many jobs by a process of its own, which checks that each was called and recorded."""
    execute(database.admin_url, "CHECKPOINT")
    meter = Meter(postmaster_of(database.url))
    done = subprocess.run(
        # -P: the modules beside the program are none of its own.
        [python, "-P", HERE / peer.program, f"--jobs={jobs}", f"--setting={setting}"],
        env={"PATH": os.environ.get("PATH", os.defpath), "BENCH_DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{peer.program} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    # Of the server's CPU the making of the peer's tables is part: some hundredths of a second.
    server_seconds = meter.rate(jobs).server_seconds
    return Measured(
        setting,
        Rate(
            jobs,
            said["enqueue_seconds"] + said["drain_seconds"],
            said["client_seconds"],
            server_seconds,
        ),
        Rate(jobs, said["drain_seconds"]),
    )
