"""pgqueuer at work: no-op jobs enqueued, then drained, by one process with uvloop.

A program of its own, run by the interpreter of the peers' environment (bench/peers.py): nothing of
harvestd is there.  The database comes by BENCH_DATABASE_URL; it prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import asyncpg
import uvloop
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.types import QueueExecutionMode

ENQUEUE_BATCH = 1_000


async def measure(url: str, jobs: int, batch: int) -> dict[str, float]:
    """Seconds of both parts, and CPU seconds of this process for all."""
    connection = await asyncpg.connect(url)
    peer = QueueManager(Queries.from_asyncpg_connection(connection))
    done = 0

    async def no_op(job: object) -> None:
        nonlocal done
        done += 1

    peer.entrypoint("noop")(no_op)
    await peer.queries.install()
    cpu, began = time.process_time(), time.perf_counter()
    for first in range(0, jobs, ENQUEUE_BATCH):
        size = min(ENQUEUE_BATCH, jobs - first)
        await peer.queries.enqueue(["noop"] * size, [None] * size, [0] * size)
    enqueued = time.perf_counter()
    cpu_enqueue = time.process_time() - cpu
    await connection.execute("ANALYZE")
    cpu, draining = time.process_time(), time.perf_counter()
    await peer.run(batch_size=batch, mode=QueueExecutionMode.drain)
    drained = time.perf_counter()
    cpu_drain = time.process_time() - cpu
    connection = await asyncpg.connect(url)
    left = await connection.fetchval("SELECT count(*) FROM pgqueuer")
    await connection.close()
    if (done, left) != (jobs, 0):
        raise RuntimeError(f"{jobs} jobs, {done} calls, {left} left over")
    return {
        "enqueue_seconds": enqueued - began,
        "drain_seconds": drained - draining,
        "client_seconds": cpu_enqueue + cpu_drain,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--setting", type=int, required=True, help="jobs fetched by one statement")
    options = parser.parse_args()
    work = measure(os.environ["BENCH_DATABASE_URL"], options.jobs, options.setting)
    print(json.dumps(uvloop.run(work)))
