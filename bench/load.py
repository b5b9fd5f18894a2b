"""`make bench-load`: rows a second through `db.upsert`, held against what PostgreSQL could.

Row 8 of the goal table (docs/bench.md): 8 columns, the wall on, fresh rows and then the same rows
all changed.  The yardstick is one INSERT ... SELECT ... ON CONFLICT from a table on the server:
no client, no wall.  Ratios only inside a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from bench.figures import Budget, budgets_table, machine, rates_table, ratios
from bench.replica import migrate, seed, void, with_app, write_plugins
from bench.scratch import (
    Meter,
    Rate,
    Server,
    execute,
    fetch,
    in_child,
    postmaster_behind,
    postmaster_of,
    say,
    scratch_database,
    scratch_server,
)
from bench.upserting import PASSES, rows_of, upserting
from harvestd.cli.serving import forced_cycle
from harvestd.service.app import App

COLUMNS = """
    tenant_id text NOT NULL, id bigint NOT NULL, title text, size int, score int,
    created_at timestamptz, updated_at timestamptz, payload jsonb,
    PRIMARY KEY (tenant_id, id)
"""
SCRIPT = """\
from datetime import timedelta
from bench.upserting import upserting
resources = ["item"]
catch_up = False
visibility_lag = timedelta(0)
async def run(env, db, tenant_id, start_date, end_date):
    await upserting.measure(db)
"""
SERVER_ROWS = """
CREATE TABLE public.incoming AS
SELECT 't1' AS tenant_id, n AS id, 'item number ' || n AS title, n % 1000 AS size, 0 AS score,
       timestamptz '2026-01-01Z' + n * interval '1 s' AS created_at,
       timestamptz '2026-01-01Z' + n * interval '1 s' AS updated_at,
       jsonb_build_object('labels', '["one", "two", "three"]'::jsonb, 'state', 'open',
                          'author', 'somebody ' || n % 97, 'body', repeat('x', 40)) AS payload
FROM generate_series(1, {rows}) AS n
"""
SERVER_UPSERT = """
INSERT INTO public.target
SELECT tenant_id, id, title, size, score + {version}, created_at, updated_at, payload
FROM public.incoming
ON CONFLICT (tenant_id, id) DO UPDATE
SET title = excluded.title, size = excluded.size, score = excluded.score,
    created_at = excluded.created_at, updated_at = excluded.updated_at, payload = excluded.payload
"""
ROW_BY_ROW = """
INSERT INTO public.target VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, id) DO UPDATE
SET title = excluded.title, size = excluded.size, score = excluded.score,
    created_at = excluded.created_at, updated_at = excluded.updated_at, payload = excluded.payload
"""


@dataclass(frozen=True, slots=True)
class Options:
    """How long it may take."""

    rounds: int = 3
    seconds: float = 5.0
    """Of the literal way, which is too slow to load all rows."""
    rows: int = 500_000


@dataclass(slots=True)
class Report:
    """Rates by pass, one a round."""

    server: dict[str, list[Rate]] = field(default_factory=dict)
    daemon: dict[str, list[Rate]] = field(default_factory=dict)
    literal: list[Rate] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--rows", type=int, default=usual.rows)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="row by row")
    options = Options(**vars(parser.parse_args(arguments)))
    with scratch_server() as server:
        before = machine(server)
        report = measure(server, options)
        print(f"\n{before}, {options.rows:,} rows\n\n{written(report)}")
    return 0


def measure(server: Server, options: Options) -> Report:
    """Every round: the server alone, the daemon, and row by row."""
    report = Report()
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        with scratch_database(server) as database:
            _keep(report.server, measure_server(database, options.rows), "server only")
        with scratch_database(server) as database:
            _keep(report.daemon, measure_daemon(database, options.rows), "db.upsert")
        with scratch_database(server) as database:
            prepare_target(database, 0)
            rate = in_child(run_row_by_row, database.url, options.rows, options.seconds)
        report.literal.append(rate)
        say(f"  row by row    fresh      {rate.per_second:9,.0f} rows/s")
    return report


def _keep(kept: dict[str, list[Rate]], measured: dict[str, Rate], name: str) -> None:
    for one, rate in measured.items():
        kept.setdefault(one, []).append(rate)
        say(f"  {name:13} {one:10} {rate.per_second:9,.0f} rows/s")


def prepare_target(database: Server, rows: int) -> None:
    """The table without wall, and as many rows to be upserted from another."""
    execute(
        database.url,
        f"CREATE TABLE public.target ({COLUMNS})",
        SERVER_ROWS.format(rows=rows),
        "ANALYZE public.incoming",
    )
    execute(database.admin_url, "CHECKPOINT")


def measure_server(database: Server, rows: int) -> dict[str, Rate]:
    """PostgreSQL alone, table to table."""
    prepare_target(database, rows)
    postmaster = postmaster_of(database.url)
    measured = {}
    for version, one in enumerate(PASSES):
        meter = Meter(postmaster)
        execute(database.url, SERVER_UPSERT.format(version=version))
        rate = meter.rate(rows)
        measured[one] = Rate(rows, rate.seconds, 0.0, rate.server_seconds)
        execute(database.admin_url, "CHECKPOINT")
    return measured


def measure_daemon(database: Server, rows: int) -> dict[str, Rate]:
    """A run of the whole daemon in a process of its own, once a pass."""
    plugins = write_plugins(
        database.folder / "load plugins",
        {
            "noop/item.py": SCRIPT,
            "noop/schema.sql": f"CREATE TABLE IF NOT EXISTS noop.item ({COLUMNS});\n",
        },
    )
    return in_child(_passes_in_child, database, plugins, rows)


def _passes_in_child(database: Server, plugins: Path, rows: int) -> dict[str, Rate]:
    migrate(database)

    async def passes(app: App) -> dict[str, Rate]:
        upserting.postmaster = await asyncio.to_thread(postmaster_of, database.url)
        upserting.rows = rows
        await asyncio.to_thread(seed, database, 1)
        for _ in PASSES:
            await asyncio.to_thread(execute, database.admin_url, "CHECKPOINT")
            await forced_cycle(app)
        return upserting.measured

    measured = with_app(database, plugins, passes)
    check_rows(database, rows)
    return measured


def check_rows(database: Server, rows: int) -> None:
    """The last version of every row is there, or the figure is void."""
    [row] = fetch(
        database.admin_url, "SELECT count(*) AS rows, min(score) AS version FROM noop.item"
    )
    if (row["rows"], row["version"]) != (rows, 1):
        raise void(database, f"{rows} rows were sent; {dict(row)} are there")


def run_row_by_row(url: str, rows: int, seconds: float) -> Rate:
    """The specification's literal way: an upsert a row, in one transaction, no wall."""
    return asyncio.run(_row_by_row(url, rows, seconds))


async def _row_by_row(url: str, rows: int, seconds: float) -> Rate:
    connection = await asyncpg.connect(url)
    try:
        meter = Meter(await postmaster_behind(connection))
        done = 0
        async with connection.transaction():
            upsert = await connection.prepare(ROW_BY_ROW)
            for row in rows_of(rows, score=0):
                payload = json.dumps(row.pop("payload"))
                await upsert.fetch("t1", *row.values(), payload)
                done += 1
                if meter.seconds > seconds:
                    break
        return meter.rate(done)
    finally:
        await connection.close()


def written(report: Report) -> str:
    """The figures as tables."""
    rates = rates_table(
        "rows",
        [
            *((f"server only, {one}", rates) for one, rates in report.server.items()),
            *((f"db.upsert, {one}", rates) for one, rates in report.daemon.items()),
            ("row by row, fresh", report.literal),
        ],
    )
    daemon, server = report.daemon, report.server
    budgets = [
        Budget(
            "8",
            "db.upsert / server only, fresh",
            ratios(daemon["fresh"], server["fresh"]),
            "0.4",
            "0.6",
        ),
        Budget("", "  all rows changed", ratios(daemon["again"], server["again"]), "0.5", "0.75"),
        Budget("", "db.upsert / row by row", ratios(daemon["fresh"], report.literal)),
    ]
    return f"{rates}\n{budgets_table(budgets)}"


if __name__ == "__main__":
    sys.exit(main())
