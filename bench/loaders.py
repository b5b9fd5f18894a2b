"""Yardsticks of a load: PostgreSQL alone, plain COPY, row by row, and other programs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import orjson

from bench.items import COLUMNS, KEY, PASSES, TENANT, UPSERT, rows_of
from bench.peers import HERE
from bench.scratch import Meter, Rate, Server, execute, fetch, postmaster_behind, postmaster_of

SERVER_ROWS = """
CREATE TABLE public.incoming AS
SELECT 't1' AS tenant_id, n AS id, 'item number ' || n AS title, n % 1000 AS size, 0 AS score,
       timestamptz '2026-01-01Z' + n * interval '1 s' AS created_at,
       timestamptz '2026-01-01Z' + n * interval '1 s' AS updated_at,
       jsonb_build_object('labels', '["one", "two", "three"]'::jsonb, 'state', 'open',
                          'author', 'somebody ' || n % 97, 'body', repeat('x', 40)) AS payload
FROM generate_series(1, {rows}) AS n
"""
SERVER_UPSERT = f"""
INSERT INTO public.target
SELECT tenant_id, id, title, size, score + {{version}}, created_at, updated_at, payload
FROM public.incoming
{UPSERT}
"""
ROW_BY_ROW = f"INSERT INTO public.target VALUES ($1, $2, $3, $4, $5, $6, $7, $8) {UPSERT}"


@dataclass(frozen=True, slots=True)
class Loader:
    """Another program's way to load rows."""

    name: str
    way: str
    """As `peer_loaders.py` calls it."""
    share: float
    """Of the rows, so that it takes some seconds."""
    passes: Sequence[str] = PASSES


DLT_DICTS = Loader("dlt 1.31, dicts", "dlt_dicts", 0.1)
DLT_ARROW = Loader("dlt 1.31, Arrow by CSV", "dlt_arrow_csv", 0.4)
DLT_PARQUET = Loader("dlt 1.31, Arrow by ADBC", "dlt_arrow_parquet", 0.4)
OTHERS = (
    Loader("psycopg executemany", "psycopg_executemany", 0.2),
    Loader("pandas to_sql", "pandas_to_sql", 0.1, ("fresh",)),
    Loader("pandas to_sql by COPY", "pandas_copy", 0.2, ("fresh",)),
)
LOADERS = (DLT_DICTS, DLT_ARROW, DLT_PARQUET, *OTHERS)


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
    check_target(database, "public.target", rows, score=1)
    return measured


def run_copy(url: str, rows: int) -> Rate:
    """One plain COPY of the rows into the table with its key, no wall: fresh rows only."""
    return asyncio.run(_copy(url, rows))


async def _copy(url: str, rows: int) -> Rate:
    connection = await asyncpg.connect(url)
    try:
        meter = Meter(await postmaster_behind(connection))
        records = _records(rows)
        await connection.copy_records_to_table("target", schema_name="public", records=records)
        return meter.rate(rows)
    finally:
        await connection.close()


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
            for record in _records(rows):
                await upsert.fetch(*record)
                done += 1
                if meter.seconds > seconds:
                    break
        return meter.rate(done)
    finally:
        await connection.close()


def _records(rows: int) -> Iterator[tuple[object, ...]]:
    for row in rows_of(rows, score=0):
        payload = orjson.dumps(row.pop("payload")).decode()
        yield (TENANT, *row.values(), payload)


def measure_loader(python: Path, database: Server, loader: Loader, rows: int) -> dict[str, Rate]:
    """The passes of another program, in a process of its own; all rows are there after each."""
    postmaster = postmaster_of(database.url)
    measured = {}
    with (
        tempfile.TemporaryFile("w+") as complaints,
        tempfile.TemporaryDirectory(dir=database.folder) as folder,
        subprocess.Popen(
            # -P: the modules beside the program are none of its own, but bench.items is.
            [python, "-P", HERE / "peer_loaders.py", f"--way={loader.way}", f"--rows={rows}"],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "PYTHONPATH": str(HERE.parent),
                "BENCH_DATABASE_URL": libpq_url(database.url),
                "HOME": folder,
                "DLT_DATA_DIR": folder,
            },
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as peer,
    ):
        assert peer.stdin is not None
        assert peer.stdout is not None
        for score, one in enumerate(loader.passes):
            ready = peer.stdout.readline()
            execute(database.admin_url, "CHECKPOINT")
            meter = Meter(postmaster)
            answer = ""
            if ready:
                peer.stdin.write("go\n")
                peer.stdin.flush()
                answer = peer.stdout.readline()
            server_seconds = meter.rate(rows).server_seconds
            if not answer:
                peer.wait()
                complaints.seek(0)
                raise RuntimeError(f"{loader.name}, {one}: it failed\n{complaints.read()[-2000:]}")
            said = json.loads(answer)
            measured[one] = Rate(rows, said["seconds"], said["client_seconds"], server_seconds)
            check_target(database, "peer.item", rows, score=score)
    return measured


def libpq_url(url: str) -> str:
    """``url`` with the folder of its socket in the host's place, where all look for it."""
    parts = urlsplit(url)
    place = parse_qs(parts.query)
    if "host" not in place:
        return url
    user = parts.netloc.rpartition("@")[0]
    [host], [port] = place["host"], place.get("port", ["5432"])
    return f"postgresql://{user}@{quote(host, safe='')}:{port}{parts.path}"


def check_target(database: Server, table: str, rows: int, *, score: int) -> None:
    """Every row of the last pass is there, once and whole, or the figure is void."""
    [found] = fetch(
        database.admin_url,
        f"SELECT count(*), count(DISTINCT ({', '.join(KEY)})), min(score), max(id),"
        " count(DISTINCT payload ->> 'author'), count(updated_at),"
        f" count(*) FILTER (WHERE tenant_id = '{TENANT}') FROM {table}",
    )
    wanted = (rows, rows, score, rows, min(rows, 97), rows, rows)
    if tuple(found) != wanted:
        raise RuntimeError(f"the figure is void: {table} has {tuple(found)} instead of {wanted}")
