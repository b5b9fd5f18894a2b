"""`make soak`: a real `harvestd run` at full load for an hour, and whether it stays as it was.

More is due at each tick than can be done.  One script in five writes twenty rows; some tenants
fail, some are told to wait, configurations change, and SIGHUP comes now and then.  Memory,
descriptors, connections, speed, and how long the longest overdue tenant lay are looked at every
few seconds; printed is the median of each quarter, and the last against the second (the first
warms up).
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import psutil

from bench.figures import machine
from bench.idle import running_daemon
from bench.replica import migrate, scripts_of, seed, write_plugins
from bench.scratch import Server, execute, fetch, say, scratch_database, scratch_server

LOOK_SECONDS = 5.0
HURRY_EVERY = 12
"""Looks between two changes of configuration, each with a SIGHUP."""
DRIFT_MAX = 1.2
QUARTERS = 4
SETTINGS = {"HARVESTD_INTERVAL_SECONDS": "1", "HARVESTD_FIRST_IMPORT_DAYS": "1"}

NO_OP = """\
from datetime import timedelta
resources = ["{name}"]
dependencies = {needs}
visibility_lag = timedelta(0)
async def run(env, db, tenant_id, start_date, end_date):
    pass
"""
WRITING = """\
from datetime import UTC, datetime, timedelta
from harvestd.plugin import Wait, log
resources = ["epsilon"]
visibility_lag = timedelta(0)
async def run(env, db, tenant_id, start_date, end_date):
    number = int(tenant_id[1:])
    if number % 97 == 0:
        raise ValueError("an upstream that is broken for good")
    if number % 89 == 0:
        raise Wait(datetime.now(UTC) + timedelta(seconds=30), "a rate limit")
    if number % 83 == 0:
        log.info("a_line", number=number)
    at = start_date.isoformat()
    await db.upsert("item", ({"id": n, "at": at} for n in range(20)), ["id"])
"""
ITEM = """\
CREATE TABLE IF NOT EXISTS noop.item (
    tenant_id text NOT NULL, id bigint NOT NULL, at text, PRIMARY KEY (tenant_id, id));
"""
LOOK = """
SELECT (SELECT sum(fence) FROM public.data_source_run) AS claims,
       (SELECT coalesce(max(extract(epoch FROM now() - due_at)), 0)::float8
        FROM public.data_source_run
        WHERE status IN ('PENDING', 'COMPLETED') AND blocked_by IS NULL) AS overdue_seconds,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       pg_total_relation_size('public.data_source_run')::float8 / 1e6 AS run_table_mb
"""


@dataclass(frozen=True, slots=True)
class Look:
    """The daemon at one moment."""

    claims: float
    overdue_seconds: float
    connections: float
    run_table_mb: float
    rss_mb: float
    descriptors: float
    threads: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where something grew."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--tenants", type=int, default=2_000, help="with 5 scripts each")
    options = parser.parse_args(arguments)
    with scratch_server() as server, scratch_database(server) as database:
        looks = soak(database, tenants=options.tenants, seconds=60 * options.minutes)
        print(f"\n{machine(server)}, {options.tenants:,} tenants, {options.minutes:g} minutes\n")
        return report(looks)


def soak(database: Server, *, tenants: int, seconds: float) -> list[Look]:
    """What was seen, look by look."""
    plugins = write_plugins(
        database.folder / "soak plugins",
        scripts_of(NO_OP) | {"noop/epsilon.py": WRITING, "noop/schema.sql": ITEM},
    )
    migrate(database)
    seed(database, tenants)
    looks: list[Look] = []
    with running_daemon(database, plugins, SETTINGS) as process:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            time.sleep(LOOK_SECONDS)
            looks.append(_look(database, process))
            if len(looks) % HURRY_EVERY == 0:
                _change(database, process, tenants, len(looks))
                say(f"  {len(looks) * LOOK_SECONDS / 60:5.1f} min: {looks[-1]}")
    return looks


def _look(database: Server, process: subprocess.Popen[bytes]) -> Look:
    if process.poll() is not None:
        raise RuntimeError(f"the daemon ended with {process.returncode}; see daemon.log")
    [row] = fetch(database.admin_url, LOOK)
    seen = psutil.Process(process.pid)
    return Look(
        **{name: float(value or 0) for name, value in dict(row).items()},
        rss_mb=seen.memory_info().rss / 1e6,
        descriptors=seen.num_fds(),
        threads=seen.num_threads(),
    )


def _change(database: Server, process: subprocess.Popen[bytes], tenants: int, turn: int) -> None:
    execute(
        database.url,
        "UPDATE public.tenant_data_source_config SET value = 'changed'"
        f" WHERE tenant_id = 't{1 + turn % tenants}'",
    )
    process.send_signal(signal.SIGHUP)


def report(looks: Sequence[Look]) -> int:
    """Print the quarters; 1 where the last is not like the second."""
    quarter = max(2, len(looks) // QUARTERS)
    quarters = [looks[at : at + quarter] for at in range(0, quarter * QUARTERS, quarter)]
    rates = [
        (part[-1].claims - part[0].claims) / ((len(part) - 1) * LOOK_SECONDS) for part in quarters
    ]
    figures = {
        name: [median(getattr(look, name) for look in part) for part in quarters]
        for name in Look.__slots__
        if name != "claims"
    }
    grown = [
        name for name, (_, second, _, last) in figures.items() if last > DRIFT_MAX * second + 1
    ]
    if rates[-1] * DRIFT_MAX < rates[1]:
        grown.append("runs_per_second")
    for name, values in {"runs_per_second": rates, **figures}.items():
        print(f"{name:16}", *(f"{value:12,.1f}" for value in values))
    print(f"\n{looks[-1].claims:,.0f} claims;", "flat" if not grown else f"NOT FLAT: {grown}")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
