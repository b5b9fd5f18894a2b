"""`make bench-engine`: what one replica gets done, held against what PostgreSQL could.

Rows 1 to 7, 13, 14 and 16 of the goal table (docs/bench.md).  Every yardstick is taken again in
every round, and a ratio only inside one: absolute figures say more about the machine's other
work than about this program.
"""

from __future__ import annotations

import argparse
import sys
from asyncio import to_thread
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench import peers, yardsticks
from bench.figures import machine
from bench.goals import Report, written
from bench.idle import measure_idle
from bench.replica import (
    GRAPH,
    forced_cycles,
    migrate,
    seed,
    seed_runs,
    settle,
    void,
    with_app,
    write_no_op_plugins,
)
from bench.scratch import (
    Rate,
    Server,
    execute,
    fetch,
    in_child,
    postmaster_of,
    say,
    scratch_database,
    scratch_server,
)
from bench.takeover import measure_takeover
from bench.tick import measure_ticks
from bench.writing import ROWS, WAYS, measure_writing
from harvestd.service.app import App

TICK_TENANTS = 100
"""The tick is measured with so many times the tenants of the rounds: 100,000."""
IDLE_SECONDS_MAX = 62.0
"""A whole interval with its tick, at the default settings."""
FEW_CLIENTS = 10
"""Of pgbench, beside runs that write (row 7)."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long it may take."""

    rounds: int = 3
    seconds: float = 5.0
    """Of each measurement."""
    tenants: int = 1_000


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """The programs that are there to be measured beside the daemon."""

    pgbench: Path | None
    pgbench_tables: Server
    peers: Path | None
    """The interpreter of their environment."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="make bench-engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each measurement")
    parser.add_argument("--tenants", type=int, default=usual.tenants, help="with 5 scripts each")
    options = Options(**vars(parser.parse_args(arguments)))
    with scratch_server() as server:
        before = machine(server)
        report = measure(server, options)
        print(f"\n{before}\n\n{written(report, TICK_TENANTS * options.tenants)}")
    return 0


def measure(server: Server, options: Options) -> Report:
    """Everything, on a server of the bench's own."""
    report = Report()
    with ExitStack() as databases:
        found = _find_yardsticks(databases.enter_context(scratch_database(server)))
        for number in range(1, options.rounds + 1):
            say(f"round {number} of {options.rounds}")
            measure_yardsticks(report, server, found, options)
            measure_daemon(report, server, options)
    say(f"the tick, {TICK_TENANTS * options.tenants:,} tenants ...")
    with scratch_database(server) as database:
        report.ticks = measure_ticks(
            database, tenants=TICK_TENANTS * options.tenants, rounds=options.rounds
        )
    say("SIGHUP, and an idle daemon ...")
    with scratch_database(server) as database:
        report.idle = measure_idle(
            database,
            tenants=min(options.tenants, 100),
            signals=4 * options.rounds,
            seconds=min(IDLE_SECONDS_MAX, 20 * options.seconds),
        )
    say("kill -9 ...")
    for number in range(1, options.rounds + 1):
        with scratch_database(server) as database:
            report.takeovers.append(measure_takeover(database, number))
    return report


def _find_yardsticks(pgbench_tables: Server) -> Yardsticks:
    found = Yardsticks(yardsticks.find_pgbench(), pgbench_tables, peers.find_python())
    if found.pgbench is None:
        say("pgbench is MISSING: rows 1 and 7 have no yardstick (it comes with PostgreSQL)")
    else:
        say("making pgbench's tables ...")
        yardsticks.prepare_pgbench(found.pgbench, pgbench_tables)
    if found.peers is None:
        say("the peers are MISSING: rows 3 and 4 have no yardstick (make bench-peers)")
    return found


def measure_yardsticks(report: Report, server: Server, found: Yardsticks, options: Options) -> None:
    """What the daemon is held against, one after the other."""
    tenants, seconds = options.tenants, options.seconds
    if found.pgbench is not None:
        for clients, rates in (
            (yardsticks.CLIENTS, report.pgbench),
            (FEW_CLIENTS, report.pgbench_10),
        ):
            execute(found.pgbench_tables.admin_url, "CHECKPOINT")
            rate = yardsticks.run_pgbench(
                found.pgbench, found.pgbench_tables, seconds=seconds, clients=clients
            )
            _keep(rates, rate, f"pgbench -N c{clients}", "transactions")
        with scratch_database(server) as database:
            rate = measure_bare_sql(found.pgbench, database, tenants, seconds)
        _keep(report.bare, rate, "bare SQL")
    with scratch_database(server) as database:
        yardsticks.prepare_literal_way(database, tenants, GRAPH)
        rate = in_child(yardsticks.run_literal_way, database.url, tenants, GRAPH, seconds)
    _keep(report.literal, rate, "the literal way")
    if found.peers is not None:
        for peer, rounds in (
            (peers.PGQUEUER, report.pgqueuer),
            (peers.PROCRASTINATE, report.procrastinate),
        ):
            best = peers.measure_best(found.peers, server, peer, seconds=seconds)
            rounds.append(best)
            _say_rate(f"{peer.name}, {best.setting}", best.whole, "jobs")


def measure_daemon(report: Report, server: Server, options: Options) -> None:
    """The daemon itself: runs that do nothing, and runs that write."""
    with scratch_database(server) as database:
        rates = measure_runs(database, options.tenants, options.seconds)
    for kept, rate, name in zip(
        (report.first, report.steady, report.held),
        rates,
        ("the daemon, first", "the daemon, steady", "  a snapshot held"),
        strict=True,
    ):
        _keep(kept, rate, name)
    for way in WAYS:
        with scratch_database(server) as database:
            rate = measure_writing(database, way, options.tenants, options.seconds)
        _keep(report.writing.setdefault(way, []), rate, f"  {ROWS} rows, {way}")


def _keep(kept: list[Rate], rate: Rate, name: str, unit: str = "runs") -> None:
    kept.append(rate)
    _say_rate(name, rate, unit)


def _say_rate(name: str, rate: Rate, unit: str) -> None:
    say(f"  {name:24} {rate.per_second:9,.0f} {unit}/s")


def measure_bare_sql(pgbench: Path, database: Server, tenants: int, seconds: float) -> Rate:
    """The daemon's own claim and record, called by pgbench on the same rows."""
    migrate(database)
    seed(database, tenants)
    seed_runs(database, never_ran=True)
    replica_id = yardsticks.prepare_bare_sql(database)
    return yardsticks.run_bare_sql(pgbench, database, replica_id, seconds=seconds)


def measure_runs(database: Server, tenants: int, seconds: float) -> tuple[Rate, Rate, Rate]:
    """No-op runs of the whole daemon in a process of its own.

    The first of each; then again and again; then while another session keeps an old snapshot.
    """
    plugins = write_no_op_plugins(database.folder / "noop plugins")
    return in_child(_runs_in_child, database, plugins, tenants, seconds)


def _runs_in_child(
    database: Server, plugins: Path, tenants: int, seconds: float
) -> tuple[Rate, Rate, Rate]:
    migrate(database)
    postmaster = postmaster_of(database.url)

    async def all_three(app: App) -> tuple[Rate, Rate, Rate]:
        await to_thread(seed, database, tenants)
        await to_thread(seed_runs, database, never_ran=True)
        first = await forced_cycles(app, postmaster, 0.0)
        await to_thread(settle, database)
        steady = await forced_cycles(app, postmaster, seconds)
        await to_thread(settle, database)
        async with old_snapshot(database):
            return first, steady, await forced_cycles(app, postmaster, seconds)

    rates = with_app(database, plugins, all_three)
    check_runs(database, sum(rate.done for rate in rates))
    return rates


@asynccontextmanager
async def old_snapshot(database: Server) -> AsyncIterator[None]:
    """Another session that reads the database as it is now until the block ends, as pg_dump does.

    Meanwhile nothing that is changed can be cleaned up, neither by vacuum nor within a page.
    """
    connection = await asyncpg.connect(database.admin_url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.fetchval("SELECT count(*) FROM pg_catalog.pg_class")
            yield
    finally:
        await connection.close()


def check_runs(database: Server, expected: int) -> None:
    """Every call of a script was a claim that was recorded, or the figure is void."""
    [row] = fetch(
        database.url,
        "SELECT sum(fence) AS claims, count(*) FILTER (WHERE status <> 'COMPLETED') AS others"
        " FROM public.data_source_run",
    )
    if row["claims"] != expected or row["others"]:
        what = f"{expected} calls, {row['claims']} claims, {row['others']} not ended"
        raise void(database, what)


if __name__ == "__main__":
    sys.exit(main())
