"""Runs that write 20 rows and their place in the ledger: together, or one after the other.

A module of its own, imported by the scripts too: `bench.engine` is `__main__` in the bench.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Iterator
from pathlib import Path

from bench.replica import (
    GRAPH,
    calls,
    forced_cycles,
    migrate,
    scripts_of,
    seed,
    seed_runs,
    settle,
    void,
    with_app,
    write_plugins,
)
from bench.scratch import Rate, Server, fetch, in_child, postmaster_of
from harvestd.service.app import App

ROWS = 20
WAYS = ("together", "plain")
"""Rows and checkpoint in one `db.transaction()`; or `db.upsert`, and the record covers later."""

SCHEMA = """\
CREATE TABLE IF NOT EXISTS noop.item (
    tenant_id text NOT NULL, id bigint NOT NULL, title text NOT NULL, score bigint NOT NULL,
    updated_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, id));
"""
SCRIPT = """\
from datetime import timedelta
from bench.writing import note_call, rows_of
resources = ["{name}"]
dependencies = {needs}
visibility_lag = timedelta(0)
async def run(env, db, tenant_id, start_date, end_date):
    rows = rows_of({number}, note_call(), end_date)
"""
CALLS = {
    "together": """\
    async with db.transaction():
        await db.upsert("item", rows, ["id"])
        await db.checkpoint(end_date)
""",
    "plain": """\
    await db.upsert("item", rows, ["id"])
""",
}


def note_call() -> int:
    """Which call of a script of this process it is."""
    calls.total += 1
    return calls.total


def rows_of(script: int, score: int, at: object) -> Iterator[dict[str, object]]:
    """Always the same keys for one script of a tenant, and other values in each."""
    for number in range(ROWS * script, ROWS * (script + 1)):
        yield {"id": number, "title": f"item number {number}", "score": score, "updated_at": at}


def measure_writing(database: Server, way: str, tenants: int, seconds: float) -> Rate:
    """Runs of the whole daemon in a process of its own; every row is there before the clock."""
    plugins = write_plugins(
        database.folder / f"writing {way}",
        {
            "noop/schema.sql": SCHEMA,
            **scripts_of(SCRIPT + CALLS[way]),
        },
    )
    return in_child(_writing_in_child, database, plugins, tenants, seconds)


def _writing_in_child(database: Server, plugins: Path, tenants: int, seconds: float) -> Rate:
    migrate(database)
    postmaster = postmaster_of(database.url)

    async def again_and_again(app: App) -> Rate:
        await to_thread(seed, database, tenants)
        await to_thread(seed_runs, database, never_ran=True)
        await forced_cycles(app, postmaster, 0.0)
        await to_thread(settle, database)
        return await forced_cycles(app, postmaster, seconds)

    rate = with_app(database, plugins, again_and_again)
    check_writing(database, tenants, calls.total)
    return rate


def check_writing(database: Server, tenants: int, expected: int) -> None:
    """Every call wrote its rows and was recorded with its window, or the figure is void."""
    [row] = fetch(
        database.admin_url,
        "SELECT sum(run.fence) AS claims, sum(run.rows_written) AS written,"
        " count(*) FILTER (WHERE run.status <> 'COMPLETED') AS others,"
        " count(*) FILTER (WHERE (SELECT max(item.updated_at) FROM noop.item AS item"
        "   WHERE item.tenant_id = run.tenant_id) < run.last_fetched_data_date) AS ahead,"
        " (SELECT count(*) FROM noop.item) AS rows FROM public.data_source_run AS run",
    )
    rows = ROWS * len(GRAPH) * tenants
    wanted = (expected, ROWS * expected, 0, 0, rows)
    if tuple(row) != wanted:
        raise void(database, f"{expected} calls; {dict(row)} instead of {wanted}")
