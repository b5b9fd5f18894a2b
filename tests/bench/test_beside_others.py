"""What the engine bench measures besides no-op runs does the work that it times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import peers, writing
from bench.peers import PGQUEUER, PROCRASTINATE, Peer
from bench.replica import GRAPH
from bench.scratch import Server
from bench.takeover import TENANTS, measure_takeover
from tests.builders import query


@pytest.mark.parametrize("way", writing.WAYS)
async def test_runs_that_write_have_every_row_and_their_ledger_there(
    bench_server: Server, way: str
) -> None:
    rate = await asyncio.to_thread(writing.measure_writing, bench_server, way, 2, 0.0)

    [row] = await query(
        bench_server.admin_url,
        "SELECT count(*) AS rows, count(DISTINCT (tenant_id, score)) AS calls FROM noop.item",
    )
    runs = 2 * len(GRAPH)
    assert rate.done == runs
    assert (row["rows"], row["calls"]) == (writing.ROWS * runs, runs)
    with pytest.raises(RuntimeError, match="void: 11 calls"):
        await asyncio.to_thread(writing.check_writing, bench_server, 2, runs + 1)


@pytest.mark.parametrize("peer", [PGQUEUER, PROCRASTINATE], ids=["pgqueuer", "procrastinate"])
async def test_a_peer_works_off_every_job_it_counts(
    bench_server: Server, peers_python: Path, peer: Peer
) -> None:
    measured = await asyncio.to_thread(peers.measure, peers_python, bench_server, peer, 2, 30)

    assert measured.whole.done == measured.drain.done == 30
    assert 0 < measured.drain.seconds < measured.whole.seconds


@pytest.mark.slow
async def test_what_a_killed_replica_held_is_begun_by_the_other(bench_server: Server) -> None:
    takeover = await asyncio.to_thread(
        measure_takeover, bench_server, lease_seconds=3.0, interval_seconds=1.0
    )

    assert TENANTS / 2 <= takeover.runs <= TENANTS
    assert 0 < takeover.first_seconds <= takeover.last_seconds
