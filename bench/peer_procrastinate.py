"""procrastinate at work: no-op jobs deferred, then worked off, by workers of one process.

A program of its own, run by the interpreter of the peers' environment (bench/peers.py): nothing of
harvestd is there.  The database comes by BENCH_DATABASE_URL; it prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

from procrastinate import App, PsycopgConnector

DEFER_BATCH = 1_000
JOBS_AT_ONCE = 10
"""Of each worker; of a worker that is alone twice as many."""


async def measure(url: str, jobs: int, workers: int) -> dict[str, float]:
    """Seconds of both parts, and CPU seconds of this process for all."""
    at_once = JOBS_AT_ONCE if workers > 1 else 2 * JOBS_AT_ONCE
    # A connection for each job at work, as far as they help, and one for each that listens.
    connector = PsycopgConnector(conninfo=url, min_size=workers, max_size=20 + workers)
    app = App(connector=connector)
    done = 0

    async def no_op() -> None:
        nonlocal done
        done += 1

    task = app.task(name="noop")(no_op)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        cpu, began = time.process_time(), time.perf_counter()
        for first in range(0, jobs, DEFER_BATCH):
            await task.batch_defer_async(*({} for _ in range(min(DEFER_BATCH, jobs - first))))
        deferred = time.perf_counter()
        cpu_defer = time.process_time() - cpu
        await connector.execute_query_async("ANALYZE")
        cpu, draining = time.process_time(), time.perf_counter()
        await asyncio.gather(
            *(
                app.run_worker_async(
                    name=f"worker {number}",
                    concurrency=at_once,
                    wait=False,
                    install_signal_handlers=False,
                    listen_notify=False,
                )
                for number in range(workers)
            )
        )
        drained = time.perf_counter()
        cpu_drain = time.process_time() - cpu
        row = await connector.execute_query_one_async(
            "SELECT count(*) AS succeeded FROM procrastinate_jobs WHERE status = 'succeeded'"
        )
    if (done, row["succeeded"]) != (jobs, jobs):
        raise RuntimeError(f"{jobs} jobs, {done} calls, {row['succeeded']} succeeded")
    return {
        "enqueue_seconds": deferred - began,
        "drain_seconds": drained - draining,
        "client_seconds": cpu_defer + cpu_drain,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--setting", type=int, required=True, help="workers in the process")
    options = parser.parse_args()
    work = measure(os.environ["BENCH_DATABASE_URL"], options.jobs, options.setting)
    print(json.dumps(asyncio.run(work)))
