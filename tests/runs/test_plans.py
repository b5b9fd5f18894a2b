"""How PostgreSQL finds the rows: what runs for every run or beat never scans the run table."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from harvestd.database.pool import Database, closing
from harvestd.planning.window import Ledger
from harvestd.runs.claims import Claim, _values, as_json
from harvestd.terms import RunKey
from tests.builders import an_ending

RUN_TABLE = "data_source_run"
TENANTS = 3_000
"""Enough that a scan would be the wrong plan."""
NOW = datetime(2026, 1, 5, tzinfo=UTC)
SEED = (
    f"INSERT INTO tenant (id, name) SELECT 't' || n, '' FROM generate_series(1, {TENANTS}) AS n",
    "INSERT INTO data_source_run (tenant_id, data_source, script, origin)"
    " SELECT tenant.id, 'probe', 'main', now() FROM tenant",
    "ANALYZE tenant, data_source_run",
)


@pytest.fixture
async def connection(
    database: Database, database_url: str
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """To a database with many runs."""
    async with closing(await asyncpg.connect(database_url)) as opened:
        for statement in SEED:
            await opened.execute(statement)
        yield opened


def asked(name: str) -> list[Any]:
    """The arguments of a statement, of its usual size."""
    me, run_nos, fences = uuid4(), [1, 2, 3], [0, 0, 0]
    key, ledger = RunKey("t1", "probe", "main"), Ledger(NOW)
    claims = [Claim(key, run_no, 0, ledger, NOW, 0, was_completed=False) for run_no in run_nos]
    endings = as_json([_values(claim, an_ending()) for claim in claims])
    every: dict[str, list[Any]] = {
        "beat": [me, run_nos, fences, True],
        "claim_runs": [me, as_json([(run_no, 0, "x") for run_no in run_nos])],
        "cover_windows": [run_nos, fences, ["{}"] * 3],
        "give_back_runs": [me, run_nos],
        "give_back_strays": [me, run_nos, fences],
        "hold_run": [1],
        "list_due_runs": [NOW, NOW, me, 100],
        "mark_blocked_runs": [run_nos, fences, ["x"] * 3, [None] * 3],
        "read_tenant_runs": [["t1", "t2"], NOW, NOW],
        "read_tenants": [run_nos],
        "record_attempts": [me, endings],
    }
    return every[name]


async def scans_of(connection: asyncpg.Connection[Any], database: Database, name: str) -> list[str]:
    """How the statement gets at the run table, each time that it does."""
    sql = database.statements[name]
    (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) {sql}", *asked(name))
    return [
        node["Node Type"]
        for node in nodes(json.loads(row[0])[0]["Plan"])
        if node.get("Relation Name") == RUN_TABLE and "Scan" in node["Node Type"]
    ]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan and everything below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize(
    "name",
    [
        "beat",
        "claim_runs",
        "cover_windows",
        "give_back_runs",
        "give_back_strays",
        "hold_run",
        "mark_blocked_runs",
        "read_tenant_runs",
        "read_tenants",
        "record_attempts",
    ],
)
async def test_what_is_asked_of_some_runs_finds_them_by_an_index(
    connection: asyncpg.Connection[Any], database: Database, name: str
) -> None:
    scans = await scans_of(connection, database, name)

    assert scans
    assert not [scan for scan in scans if "Seq" in scan], scans


async def test_the_due_list_is_one_scan_of_the_run_table(
    connection: asyncpg.Connection[Any], database: Database
) -> None:
    assert await scans_of(connection, database, "list_due_runs") == ["Seq Scan"]


async def test_nothing_that_changes_with_a_run_is_indexed(
    connection: asyncpg.Connection[Any],
) -> None:
    indexed = await connection.fetch(
        "SELECT DISTINCT attribute.attname::text AS name FROM pg_index AS made"
        " JOIN pg_attribute AS attribute ON attribute.attrelid = made.indrelid"
        " AND attribute.attnum = ANY (made.indkey) WHERE made.indrelid = $1::regclass",
        RUN_TABLE,
    )
    changing = {
        "blocked_by", "completed_at", "covered", "due_at", "error", "failures", "fence",
        "last_fetched_data_date", "not_before", "reason", "replica_id", "rows_written",
        "started_at", "status",
    }  # fmt: skip
    assert not changing & {row["name"] for row in indexed}
