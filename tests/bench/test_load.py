"""The load bench loads the rows that it times.  Nothing here looks at a time."""

from __future__ import annotations

import asyncio

import pytest

from bench import load
from bench.scratch import Server
from tests.builders import query

ROWS = 2_500
"""More than two batches of db.upsert."""


async def test_the_server_alone_writes_every_row_twice(bench_server: Server) -> None:
    measured = await asyncio.to_thread(load.measure_server, bench_server, ROWS)

    rows = await query(
        bench_server.url, "SELECT score, count(*) AS rows FROM public.target GROUP BY 1"
    )
    assert rows == [{"score": 1, "rows": ROWS}]
    assert {one: rate.done for one, rate in measured.items()} == {"fresh": ROWS, "again": ROWS}


async def test_the_daemon_loads_every_row_behind_the_wall(bench_server: Server) -> None:
    measured = await asyncio.to_thread(load.measure_daemon, bench_server, ROWS)

    rows = await query(
        bench_server.admin_url,
        "SELECT tenant_id, score, count(*) AS rows, min(payload ->> 'author') AS author"
        " FROM noop.item GROUP BY 1, 2",
    )
    [wall] = await query(
        bench_server.admin_url,
        "SELECT relforcerowsecurity AS forced, relhastriggers AS fenced FROM pg_class"
        " WHERE oid = 'noop.item'::regclass",
    )
    assert rows == [{"tenant_id": "t1", "score": 1, "rows": ROWS, "author": "somebody 0"}]
    assert wall == {"forced": True, "fenced": True}
    assert {rate.done for rate in measured.values()} == {ROWS}
    assert list(measured) == ["fresh", "again"]


async def test_both_sides_load_the_same_rows(bench_server: Server) -> None:
    await asyncio.to_thread(load.measure_server, bench_server, ROWS)
    await asyncio.to_thread(load.measure_daemon, bench_server, ROWS)

    columns = "tenant_id, id, title, size, score, created_at, updated_at, payload"
    different = await query(
        bench_server.admin_url,
        f"(SELECT {columns} FROM public.target EXCEPT SELECT {columns} FROM noop.item) UNION ALL"
        f" (SELECT {columns} FROM noop.item EXCEPT SELECT {columns} FROM public.target)",
    )
    assert different == []


async def test_row_by_row_commits_what_it_counts(bench_server: Server) -> None:
    await asyncio.to_thread(load.prepare_target, bench_server, 0)

    rate = await asyncio.to_thread(load.run_row_by_row, bench_server.url, 50, 60.0)

    [row] = await query(bench_server.url, "SELECT count(*) AS rows FROM public.target")
    assert rate.done == row["rows"] == 50


async def test_a_load_is_void_when_rows_are_missing(bench_server: Server) -> None:
    await asyncio.to_thread(load.measure_daemon, bench_server, 10)

    with pytest.raises(RuntimeError, match="11 rows were sent"):
        await asyncio.to_thread(load.check_rows, bench_server, 11)
