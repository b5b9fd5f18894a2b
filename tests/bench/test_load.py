"""The load bench loads the rows that it times.  Nothing here looks at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import load, loaders
from bench.loaders import LOADERS, Loader
from bench.scratch import Rate, Server
from bench.upserting import Loaded
from tests.builders import query

ROWS = 2_500
"""More than two batches of db.upsert."""
PEER_ROWS = 120


async def test_the_server_alone_writes_every_row_twice(bench_server: Server) -> None:
    measured = await asyncio.to_thread(loaders.measure_server, bench_server, ROWS)

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
    assert rows == [{"tenant_id": "t1", "score": 1, "rows": ROWS, "author": "somebody 0"}]
    assert {rate.done for rate in measured.walled.values()} == {ROWS}
    assert sorted(measured.walled) == ["again", "fresh", "rewritten", "unchanged"]


@pytest.mark.parametrize("bare_first", [False, True], ids=["wall first", "wall last"])
async def test_the_wall_is_all_that_sets_the_two_sides_apart(
    bench_server: Server, bare_first: bool
) -> None:
    measured = await asyncio.to_thread(load.measure_daemon, bench_server, 10, bare_first=bare_first)

    walls = await query(
        bench_server.admin_url,
        "SELECT relnamespace::regnamespace::text AS place, relforcerowsecurity AS forced,"
        " relhastriggers AS fenced FROM pg_class WHERE relname = 'item' AND relkind = 'r'"
        " ORDER BY 1",
    )
    columns = await query(
        bench_server.admin_url,
        "SELECT count(DISTINCT table_schema) AS tables, count(*) AS columns"
        " FROM information_schema.columns"
        " WHERE table_name = 'item' GROUP BY column_name, data_type, is_nullable",
    )
    assert walls == [
        {"place": "noop", "forced": True, "fenced": True},
        {"place": "unwalled", "forced": False, "fenced": False},
    ]
    assert columns == [{"tables": 2, "columns": 2}] * 10
    assert [rate.done for rate in measured.bare.values()] == [10, 10]


async def test_rows_that_are_as_they_were_leave_no_dead_tuple_and_others_one_each(
    bench_server: Server,
) -> None:
    measured = await asyncio.to_thread(load.measure_daemon, bench_server, ROWS)

    dead = measured.dead_tuples
    assert dead["unchanged"] == 0
    assert dead["again"] == dead["rewritten"] == ROWS


async def test_both_sides_load_the_same_rows(bench_server: Server) -> None:
    await asyncio.to_thread(loaders.measure_server, bench_server, ROWS)
    await asyncio.to_thread(load.measure_daemon, bench_server, ROWS)

    columns = "tenant_id, id, title, size, score, created_at, updated_at, payload"
    different = await query(
        bench_server.admin_url,
        f"(SELECT {columns} FROM public.target EXCEPT SELECT {columns} FROM noop.item) UNION ALL"
        f" (SELECT {columns} FROM noop.item EXCEPT SELECT {columns} FROM public.target)",
    )
    assert different == []


async def test_row_by_row_commits_what_it_counts(bench_server: Server) -> None:
    await asyncio.to_thread(loaders.prepare_target, bench_server, 0)

    rate = await asyncio.to_thread(loaders.run_row_by_row, bench_server.url, 50, 60.0)

    [row] = await query(bench_server.url, "SELECT count(*) AS rows FROM public.target")
    assert rate.done == row["rows"] == 50


async def test_a_plain_copy_brings_every_row(bench_server: Server) -> None:
    await asyncio.to_thread(loaders.prepare_target, bench_server, 0)

    await asyncio.to_thread(loaders.run_copy, bench_server.url, ROWS)

    await asyncio.to_thread(loaders.check_target, bench_server, "public.target", ROWS, score=0)


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS, ids=[loader.way for loader in LOADERS])
async def test_another_loader_brings_every_row_of_each_pass(
    bench_server: Server, peers_python: Path, loader: Loader
) -> None:
    # Each pass is checked before the next begins: twice the rows would not get through.
    measured = await asyncio.to_thread(
        loaders.measure_loader, peers_python, bench_server, loader, PEER_ROWS
    )

    [row] = await query(
        bench_server.admin_url, "SELECT count(*) AS rows, max(score) AS score FROM peer.item"
    )
    assert row == {"rows": PEER_ROWS, "score": len(loader.passes) - 1}
    assert {one: rate.done for one, rate in measured.items()} == dict.fromkeys(
        loader.passes, PEER_ROWS
    )


async def test_what_another_loader_complains_of_is_shown(
    bench_server: Server, peers_python: Path
) -> None:
    nobody = Loader("nobody", "nobody", 1.0)

    with pytest.raises(RuntimeError, match=r"nobody, fresh: (?s:.*)invalid choice"):
        await asyncio.to_thread(loaders.measure_loader, peers_python, bench_server, nobody, 1)


async def test_a_load_is_void_when_rows_are_missing_or_of_another_pass(
    bench_server: Server,
) -> None:
    await asyncio.to_thread(load.measure_daemon, bench_server, 10)

    for rows, score in ((11, 1), (10, 0)):
        with pytest.raises(RuntimeError, match=r"void: noop\.item has"):
            await asyncio.to_thread(
                loaders.check_target, bench_server, "noop.item", rows, score=score
            )


def test_other_loaders_that_are_not_installed_are_said_to_be_missing() -> None:
    def two() -> dict[str, list[Rate]]:
        return {one: [Rate(10, 1.0, 0.1, 0.1)] for one in ("fresh", "again")}

    rate = Rate(10, 1.0, 0.1, 0.1)
    report = load.Report(
        server=two(),
        daemon={**two(), "unchanged": [rate], "rewritten": [rate]},
        bare=two(),
        loaded=[Loaded(added_mb={"tenth": 1.0, "fresh": 2.0}, dead_tuples={"unchanged": 0})],
        copy=[rate],
        literal=[rate],
    )

    missing = [line for line in load.written(report).splitlines() if "missing" in line]
    # Both passes of dlt's three ways, and new rows alone of the rest.
    assert len(missing) == 2 * 3 + len(loaders.OTHERS)
    assert missing[0].split()[:4] == ["9", "db.upsert", "/", "dlt"]
