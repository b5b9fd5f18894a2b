"""The engine bench does the work that it times.  Nothing here looks at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import engine, yardsticks
from bench.figures import Budget, budgets_table, ratios
from bench.goals import Report, written
from bench.idle import Idle, measure_idle
from bench.replica import GRAPH
from bench.scratch import Rate, Server
from bench.takeover import Takeover
from bench.tick import Tick, measure_ticks
from tests.builders import query
from tests.tools import is_missing

TENANTS = 3
RUNS = TENANTS * len(GRAPH)
SNAPSHOTS = """
SELECT count(*) AS held FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xmin IS NOT NULL
"""
"""What vacuum has to leave alone for the sake of: snapshots of sessions that do nothing."""


@pytest.fixture
def pgbench() -> Path:
    """The program, from wherever the bench would take it."""
    program = yardsticks.find_pgbench()
    if program is None:
        is_missing("no pgbench here (apt-get install postgresql)")
    return program


async def test_pgbench_commits_what_it_counts(bench_server: Server, pgbench: Path) -> None:
    await asyncio.to_thread(yardsticks.prepare_pgbench, pgbench, bench_server, scale=1)

    rate = await asyncio.to_thread(yardsticks.run_pgbench, pgbench, bench_server, seconds=1)

    [row] = await query(bench_server.url, "SELECT count(*) AS rows FROM public.pgbench_history")
    assert rate.done == row["rows"] > 0


async def test_the_bare_sql_claims_and_records_every_run_it_counts(
    bench_server: Server, pgbench: Path
) -> None:
    rate = await asyncio.to_thread(engine.measure_bare_sql, pgbench, bench_server, TENANTS, 1)

    [row] = await query(
        bench_server.url,
        "SELECT sum(fence) AS claims, count(*) FILTER (WHERE replica_id IS NOT NULL) AS held,"
        " max((SELECT count(*) FROM unnest(covered))) AS ranges FROM public.data_source_run",
    )
    assert rate.done == row["claims"] > 0
    assert (row["held"], row["ranges"]) == (0, 1)


async def test_the_literal_way_ends_every_run_it_counts(bench_server: Server) -> None:
    await asyncio.to_thread(yardsticks.prepare_literal_way, bench_server, TENANTS, GRAPH)

    rate = await asyncio.to_thread(
        yardsticks.run_literal_way, bench_server.url, TENANTS, GRAPH, 0.2
    )

    [row] = await query(
        bench_server.url,
        "SELECT count(*) AS runs, count(*) FILTER (WHERE last_fetched_data_date IS NOT NULL"
        " AND status = 'COMPLETED') AS ended FROM literal.data_source_run",
    )
    assert rate.done >= row["ended"] == row["runs"] == RUNS


async def test_the_daemon_runs_every_script_of_every_tenant_and_keeps_the_first_in_the_history(
    bench_server: Server,
) -> None:
    rates = await asyncio.to_thread(engine.measure_runs, bench_server, TENANTS, 0.0)

    [row] = await query(
        bench_server.url,
        "SELECT sum(fence) AS claims, (SELECT count(*) FROM harvestd.run_history) AS kept"
        " FROM public.data_source_run",
    )
    assert [rate.done for rate in rates] == [RUNS, RUNS, RUNS]
    assert (row["claims"], row["kept"]) == (3 * RUNS, RUNS)
    assert rates[0].client_seconds > 0


async def test_the_old_snapshot_is_held_until_its_block_ends(bench_server: Server) -> None:
    async with engine.old_snapshot(bench_server):
        during = await query(bench_server.admin_url, SNAPSHOTS)

    assert during == [{"held": 1}]
    assert await query(bench_server.admin_url, SNAPSHOTS) == [{"held": 0}]


async def test_a_figure_is_void_when_a_call_was_not_recorded(bench_server: Server) -> None:
    await asyncio.to_thread(engine.measure_runs, bench_server, TENANTS, 0.0)

    with pytest.raises(RuntimeError, match="46 calls, 45 claims"):
        await asyncio.to_thread(engine.check_runs, bench_server, 3 * RUNS + 1)


async def test_a_tick_runs_what_is_due_and_no_more(bench_server: Server) -> None:
    ticks = await asyncio.to_thread(measure_ticks, bench_server, tenants=200, rounds=2)

    [row] = await query(
        bench_server.url,
        "SELECT count(*) AS runs, count(*) FILTER (WHERE fence = 2) AS claimed,"
        " max(fence) AS claims_max FROM public.data_source_run",
    )
    assert (row["runs"], row["claims_max"]) == (1000, 2)
    assert sum(tick.runs for tick in ticks) == row["claimed"] > 0
    assert all(tick.first_claim_ms > 0 and tick.peak_mb > 0 for tick in ticks)


@pytest.mark.slow
async def test_the_idle_daemon_answers_each_signal_with_one_whole_cycle(
    bench_server: Server,
) -> None:
    idle = await asyncio.to_thread(
        measure_idle, bench_server, tenants=TENANTS, signals=2, seconds=0.1
    )

    rows = await query(
        bench_server.url, "SELECT DISTINCT fence, status::text FROM public.data_source_run"
    )
    assert rows == [{"fence": 3, "status": "COMPLETED"}]
    assert len(idle.reaction_ms) == 2
    assert min(idle.reaction_ms) > 0 < idle.rss_mb


def test_ratios_are_taken_inside_a_round() -> None:
    daemon = [Rate(100, 1.0), Rate(400, 2.0)]
    pgbench = [Rate(50, 1.0), Rate(50, 1.0)]

    assert ratios(daemon, pgbench) == [2.0, 4.0]


def test_a_yardstick_that_is_missing_is_said_to_be_missing() -> None:
    rate = Rate(10, 1.0, 0.1, 0.1)
    report = Report(
        literal=[rate],
        first=[rate],
        steady=[rate],
        held=[rate],
        ticks=[Tick(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5)],
        takeovers=[Takeover(1.0, 1.0, 1)],
        idle=Idle(1.0, 1.0, 1.0, [1.0]),
    )

    text = written(report, 100)

    missing = [line.split()[:2] for line in text.splitlines() if "missing" in line]
    pgbench = [["1", "daemon"], ["with", "a"], ["daemon", "/"]]
    peers = [["3", "daemon"], ["without", "its"], ["4", "daemon"], ["without", "its"]]
    assert missing == [*pgbench, *peers, ["7", "20"], ["rows,", "then"]]


def test_a_figure_is_its_median_and_what_it_lay_between() -> None:
    table = budgets_table([Budget("1", "daemon / pgbench", [0.5, 2.0, 1.0], "2", "5")])

    assert table.splitlines()[1].split() == [
        *("1", "daemon", "/", "pgbench", "1", "(0.5-2)", "2", "5")
    ]
