"""`make bench-engine`: what one replica gets done, held against what PostgreSQL could.

Rows 1, 2, 6, 13 and 14 of the goal table (docs/bench.md).  Every yardstick is taken again in
every round, and a ratio only inside one: absolute figures say more about the machine's other
work than about this program.
"""

from __future__ import annotations

import argparse
import sys
from asyncio import to_thread
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import yardsticks
from bench.figures import Budget, budgets_table, machine, rates_table, ratios
from bench.idle import Idle, measure_idle
from bench.replica import (
    GRAPH,
    calls,
    migrate,
    seed,
    seed_runs,
    settle,
    void,
    with_app,
    write_no_op_plugins,
)
from bench.scratch import (
    Meter,
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
from bench.tick import Tick, measure_ticks
from harvestd.cli.serving import forced_cycle
from harvestd.service.app import App

TICK_TENANTS = 100
"""The tick is measured with so many times the tenants of the rounds: 100,000."""
IDLE_SECONDS_MAX = 62.0
"""A whole interval with its tick, at the default settings."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long it may take."""

    rounds: int = 3
    seconds: float = 5.0
    """Of each measurement."""
    tenants: int = 1_000


@dataclass(slots=True)
class Report:
    """What was measured, one entry a round."""

    pgbench: list[Rate] = field(default_factory=list)
    bare: list[Rate] = field(default_factory=list)
    literal: list[Rate] = field(default_factory=list)
    first: list[Rate] = field(default_factory=list)
    """Of the daemon: runs that never ran before, each with a row in the history."""
    steady: list[Rate] = field(default_factory=list)
    """Of the daemon: the same runs again and again."""
    ticks: list[Tick] = field(default_factory=list)
    idle: Idle | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="make bench-engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each measurement")
    parser.add_argument("--tenants", type=int, default=usual.tenants, help="with 5 scripts each")
    options = Options(**vars(parser.parse_args(arguments)))
    with scratch_server() as server:
        report = measure(server, options)
        print(f"\n{machine(server)}\n\n{written(report, options)}")
    return 0


def measure(server: Server, options: Options) -> Report:
    """Everything, on a server of the bench's own."""
    report = Report()
    pgbench = yardsticks.find_pgbench()
    if pgbench is None:
        say("pgbench is MISSING: rows 1 and 5 have no yardstick (it comes with PostgreSQL)")
    with ExitStack() as databases:
        pgbench_tables = databases.enter_context(scratch_database(server))
        if pgbench is not None:
            say("making pgbench's tables ...")
            yardsticks.prepare_pgbench(pgbench, pgbench_tables)
        for number in range(1, options.rounds + 1):
            say(f"round {number} of {options.rounds}")
            measure_round(report, server, pgbench_tables, pgbench, options)
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
    return report


def measure_round(
    report: Report, server: Server, pgbench_tables: Server, pgbench: Path | None, options: Options
) -> None:
    """Every yardstick and the daemon, one after the other."""
    tenants, seconds = options.tenants, options.seconds
    if pgbench is not None:
        execute(pgbench_tables.admin_url, "CHECKPOINT")
        report.pgbench.append(yardsticks.run_pgbench(pgbench, pgbench_tables, seconds=seconds))
        say(f"  pgbench -N c20       {report.pgbench[-1].per_second:9,.0f} transactions/s")
        with scratch_database(server) as database:
            report.bare.append(measure_bare_sql(pgbench, database, tenants, seconds))
        say(f"  bare SQL             {report.bare[-1].per_second:9,.0f} runs/s")
    with scratch_database(server) as database:
        yardsticks.prepare_literal_way(database, tenants, GRAPH)
        report.literal.append(
            in_child(yardsticks.run_literal_way, database.url, tenants, GRAPH, seconds)
        )
    say(f"  the literal way      {report.literal[-1].per_second:9,.0f} runs/s")
    with scratch_database(server) as database:
        first, steady = measure_runs(database, tenants, seconds)
        report.first.append(first)
        report.steady.append(steady)
    say(f"  the daemon, first    {first.per_second:9,.0f} runs/s")
    say(f"  the daemon, steady   {steady.per_second:9,.0f} runs/s")


def measure_bare_sql(pgbench: Path, database: Server, tenants: int, seconds: float) -> Rate:
    """The daemon's own claim and record, called by pgbench on the same rows."""
    migrate(database)
    seed(database, tenants)
    seed_runs(database, never_ran=True)
    replica_id = yardsticks.prepare_bare_sql(database)
    return yardsticks.run_bare_sql(pgbench, database, replica_id, seconds=seconds)


def measure_runs(database: Server, tenants: int, seconds: float) -> tuple[Rate, Rate]:
    """No-op runs of the whole daemon in a process of its own: the first of each, then again."""
    plugins = write_no_op_plugins(database.folder / "noop plugins")
    return in_child(_runs_in_child, database, plugins, tenants, seconds)


def _runs_in_child(
    database: Server, plugins: Path, tenants: int, seconds: float
) -> tuple[Rate, Rate]:
    migrate(database)
    postmaster = postmaster_of(database.url)

    async def first_and_steady(app: App) -> tuple[Rate, Rate]:
        await to_thread(seed, database, tenants)
        await to_thread(seed_runs, database, never_ran=True)
        first = await _forced_cycles(app, postmaster, 0.0)
        await to_thread(settle, database)
        return first, await _forced_cycles(app, postmaster, seconds)

    first, steady = with_app(database, plugins, first_and_steady)
    check_runs(database, first.done + steady.done)
    return first, steady


async def _forced_cycles(app: App, postmaster: int, seconds: float) -> Rate:
    """Whole forced cycles, each until its last run is recorded, at least one."""
    before = calls.total
    meter = Meter(postmaster)
    while True:
        await forced_cycle(app)
        if meter.seconds >= seconds:
            return meter.rate(calls.total - before)


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


def written(report: Report, options: Options) -> str:
    """The figures as tables."""
    rates = rates_table(
        "runs",
        [
            ("pgbench -N c20 (transactions)", report.pgbench),
            ("bare SQL, claim + record", report.bare),
            ("the specification's literal way", report.literal),
            ("daemon, first run of each", report.first),
            ("daemon, again", report.steady),
        ],
    )
    steady, ticks, idle = report.steady, report.ticks, report.idle
    assert idle is not None
    tenants = f"{TICK_TENANTS * options.tenants:,} x 5"
    budgets = [
        Budget("1", "daemon / pgbench -N c20", ratios(steady, report.pgbench), "2", "5"),
        Budget("", "  with a history row each", ratios(report.first, report.pgbench)),
        Budget("2", "daemon / the literal way", ratios(steady, report.literal), "4", "12"),
        Budget("", "daemon / bare SQL", ratios(steady, report.bare)),
        Budget(
            "6",
            f"tick to first claim, {tenants}",
            [tick.first_claim_ms for tick in ticks],
            "500",
            "150",
            "ms",
        ),
        Budget("", "  added memory", [ticks[0].added_mb], "20", "5", "MB"),
        Budget("", "  peak memory of the process", [ticks[0].peak_mb], unit="MB"),
        Budget(
            "",
            "  longest stall of the loop until then",
            [tick.stall_ms for tick in ticks],
            "",
            "20",
            "ms",
        ),
        Budget(
            "", "  and until the last run ended", [tick.stall_after_ms for tick in ticks], unit="ms"
        ),
        Budget("", "  of it computing, at most", [tick.busy_ms for tick in ticks], unit="ms"),
        Budget("13", "idle: resident memory", [idle.rss_mb], "100", "70", "MB"),
        Budget("", "  share of a core", [idle.share_percent], "1", "0.3", "%"),
        Budget("14", "SIGHUP to the first script", idle.reaction_ms, "250", "30", "ms"),
    ]
    return f"{rates}\n{budgets_table(budgets)}"


if __name__ == "__main__":
    sys.exit(main())
