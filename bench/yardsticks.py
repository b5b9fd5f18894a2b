"""What the daemon is held against: pgbench, the bare SQL, and the specification's literal way."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

import asyncpg

from bench.scratch import Meter, Rate, Server, execute, fetch, postmaster_behind, postmaster_of
from harvestd.database.embedded_programs import find_package
from harvestd.database.statements import load_statements
from harvestd.errors import HarvestdError

CLIENTS = 20
SCALE = 10
"""Of pgbench: 1,000,000 rows; more than its 20 clients get in each other's way in."""
BATCH = 200
"""Runs that the bare SQL claims by one statement (research: perf 1)."""

LITERAL_TABLE = """
CREATE SCHEMA literal;
CREATE TABLE literal.data_source_run (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id text NOT NULL, data_source text NOT NULL, script text NOT NULL,
    status text NOT NULL, started_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz, error text, last_fetched_data_date timestamptz,
    UNIQUE (tenant_id, data_source, script));
CREATE INDEX ON literal.data_source_run (tenant_id);
CREATE INDEX ON literal.data_source_run (data_source);
CREATE INDEX ON literal.data_source_run (tenant_id, data_source);
"""
LITERAL_LOCK = """
SELECT id FROM literal.data_source_run
WHERE tenant_id = $1 AND data_source = $2 AND script = $3 FOR UPDATE SKIP LOCKED
"""
LITERAL_LAST_RUN = """
SELECT last_fetched_data_date FROM literal.data_source_run
WHERE tenant_id = $1 AND data_source = $2 AND script = $3
"""
LITERAL_START = """
INSERT INTO literal.data_source_run (tenant_id, data_source, script, status, started_at)
VALUES ($1, $2, $3, 'RUNNING', now())
ON CONFLICT (tenant_id, data_source, script)
DO UPDATE SET status = 'RUNNING', started_at = now(), completed_at = NULL, error = NULL
"""
LITERAL_END = """
UPDATE literal.data_source_run
SET status = 'COMPLETED', completed_at = now(), last_fetched_data_date = now()
WHERE tenant_id = $1 AND data_source = $2 AND script = $3
"""

CLAIMED = (
    "run_no bigint, answer text, fence bigint, origin timestamptz, covered_from timestamptz, "
    "covered_to timestamptz, pieces tstzmultirange, started_at timestamptz, failures integer, "
    "was_completed boolean"
)


def find_pgbench() -> Path | None:
    """The embedded server's own, a system's newest, or the one on PATH."""
    beside = [program.with_name("pgbench") for program in _shipped_programs()]
    systems = Path("/usr/lib/postgresql").glob("*/bin/pgbench")
    newest = sorted(systems, key=lambda path: path.parts[-3].zfill(4), reverse=True)
    on_path = shutil.which("pgbench")
    places = [*beside, *newest, *([Path(on_path)] if on_path else [])]
    return next((place for place in places if os.access(place, os.X_OK)), None)


def _shipped_programs() -> Iterator[Path]:
    try:
        yield from sorted(find_package().glob("pginstall*/bin/postgres"), reverse=True)
    except HarvestdError:
        return


def prepare_pgbench(program: Path, server: Server, *, scale: int = SCALE) -> None:
    """Make pgbench's own tables in this database."""
    _pgbench(program, server.url, "--initialize", f"--scale={scale}", "--quiet")


def run_pgbench(program: Path, server: Server, *, seconds: float, clients: int = CLIENTS) -> Rate:
    """``pgbench -N``: each client one small durable transaction at a time, prepared statements."""
    options = ("--skip-some-updates", f"--client={clients}", "--no-vacuum")
    return _timed(program, server, *options, seconds=seconds)


def prepare_bare_sql(server: Server) -> UUID:
    """Wrap the daemon's own claim and record in functions; the replica that will hold the runs."""
    known = load_statements()
    replica_id = uuid4()
    execute(
        server.url,
        f"CREATE FUNCTION public.bench_claim(uuid, jsonb) "
        f"RETURNS TABLE ({CLAIMED}) LANGUAGE sql AS $body${known['claim_runs']}$body$",
        f"CREATE FUNCTION public.bench_record(uuid, jsonb) "
        f"RETURNS SETOF bigint LANGUAGE sql AS $body${known['record_attempts']}$body$",
        "INSERT INTO harvestd.replica (replica_id, host, pid, version) "
        f"VALUES ('{replica_id}', 'bench', 0, '0')",
    )
    return replica_id


def run_bare_sql(program: Path, server: Server, replica_id: UUID, *, seconds: float) -> Rate:
    """The daemon's two statements and nothing else: two clients, 200 runs by a statement."""
    [row] = fetch(
        server.url, "SELECT min(run_no) AS low, count(*) AS runs FROM public.data_source_run"
    )
    size = min(BATCH, row["runs"] // 2)
    script = server.folder / "bare.sql"
    script.write_text(
        _bare_script(replica_id, row["low"], size, row["runs"] // (2 * size)), encoding="utf-8"
    )
    rate = _timed(program, server, "--client=2", f"--file={script}", "--no-vacuum", seconds=seconds)
    return Rate(rate.done * size, rate.seconds, rate.client_seconds, rate.server_seconds)


def _bare_script(replica_id: UUID, low: int, size: int, pages: int) -> str:
    covered = """'{["' || now() - interval '1 hour' || '","' || now() || '")}'"""
    ending = (
        "run_no, fence, 'COMPLETED', 'completed', NULL, NULL, 0, false, NULL, 0,"
        f" {covered}, 1, 0, 'hash', false"
    )
    listed = f"FROM public.data_source_run WHERE run_no BETWEEN :first AND :first + {size - 1}"
    asked = f"(SELECT jsonb_agg(jsonb_build_array(run_no, fence, 'hash')) {listed})"
    endings = f"(SELECT jsonb_agg(jsonb_build_array({ending})) {listed})"
    return (
        f"\\set first {low} + {size} * (2 * random(0, {pages - 1}) + :client_id)\n"
        f"SELECT count(*) FROM public.bench_claim('{replica_id}', {asked});\n"
        f"SELECT count(*) FROM public.bench_record('{replica_id}', {endings});\n"
    )


def _timed(program: Path, server: Server, *options: str, seconds: float) -> Rate:
    meter = Meter(postmaster_of(server.url))
    # pgbench counts whole seconds.
    duration = f"--time={max(1, round(seconds))}"
    said = _pgbench(program, server.url, "--protocol=prepared", duration, *options)
    cost = meter.rate(1)
    done = re.search(r"transactions actually processed: (\d+)", said)
    rate = re.search(r"tps = ([\d.]+)", said)
    if done is None or rate is None or int(done[1]) == 0:
        raise RuntimeError(f"pgbench did nothing:\n{said}")
    return Rate(int(done[1]), int(done[1]) / float(rate[1]), 0.0, cost.server_seconds)


def _pgbench(program: Path, url: str, *options: str) -> str:
    """What it says.  The password goes by the environment, never on the command line."""
    parts = urlsplit(url)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PGHOST": parse_qs(parts.query)["host"][0],
        "PGPORT": "5432",
        "PGUSER": parts.username or "",
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
    }
    done = subprocess.run(
        [program, *options], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def prepare_literal_way(server: Server, tenants: int, graph: dict[str, set[str]]) -> None:
    """The specification's table with its indexes; its rows are there, or nothing would ever run."""
    scripts = ", ".join(f"('{script}')" for script in graph)
    execute(
        server.url,
        LITERAL_TABLE,
        "INSERT INTO literal.data_source_run (tenant_id, data_source, script, status)"
        f" SELECT 't' || n, 'noop', script, 'COMPLETED' FROM generate_series(1, {tenants}) AS n,"
        f" (VALUES {scripts}) AS script (script)",
    )
    execute(server.admin_url, "VACUUM ANALYZE literal.data_source_run", "CHECKPOINT")


def run_literal_way(url: str, tenants: int, graph: dict[str, set[str]], seconds: float) -> Rate:
    """One transaction a script, held open while it runs, on 20 connections."""
    return asyncio.run(_literal_way(url, tenants, graph, seconds))


async def _literal_way(url: str, tenants: int, graph: dict[str, set[str]], seconds: float) -> Rate:
    order = list(TopologicalSorter(graph).static_order())
    due = cycle(f"t{number}" for number in range(1, tenants + 1))
    connections = [await asyncpg.connect(url) for _ in range(CLIENTS)]
    try:
        meter = Meter(await postmaster_behind(connections[0]))

        async def work(connection: asyncpg.Connection[Any]) -> int:
            done = 0
            while meter.seconds < seconds:
                tenant_id = next(due)
                for script in order:
                    done += await _literal_run(connection, tenant_id, script)
            return done

        return meter.rate(sum(await asyncio.gather(*map(work, connections))))
    finally:
        for connection in connections:
            await connection.close()


async def _literal_run(connection: asyncpg.Connection[Any], tenant_id: str, script: str) -> int:
    """1 when it ran; 0 when another connection holds the row."""
    key = (tenant_id, "noop", script)
    async with connection.transaction():
        if await connection.fetchrow(LITERAL_LOCK, *key) is None:
            return 0
        await connection.fetchrow(LITERAL_LAST_RUN, *key)
        await connection.execute(LITERAL_START, *key)
        await _no_op()
        await connection.execute(LITERAL_END, *key)
    return 1


async def _no_op() -> None:
    pass
