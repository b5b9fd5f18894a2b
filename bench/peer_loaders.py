"""Other ways to load the rows, each at its best setting: dlt, psycopg, pandas.

A program of its own, run by the interpreter of the peers' environment (bench/loaders.py): nothing
of harvestd is there.  The database comes by BENCH_DATABASE_URL.  It says "ready" before each pass,
begins at a line from standard input, and then prints one line of JSON.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.items import CHANGING, COLUMNS, KEY, PASSES, UPSERT, pages, tenant_rows

ARROW_ROWS = 20_000
PAGE_ROWS = 1_000
NAMES = (*KEY, *CHANGING)

Load = Callable[[int], None]
"""All rows with this score."""


def dlt_dicts(url: str, rows: int) -> tuple[Load, ...]:
    """Dicts in pages, by CSV files: a tenth faster than dlt's usual INSERT statements."""

    def given(rows: int, score: int) -> Iterator[object]:
        yield from pages(tenant_rows(rows, score=score), PAGE_ROWS)

    return _dlt(url, rows, given, "csv")


def dlt_arrow_csv(url: str, rows: int) -> tuple[Load, ...]:
    """Arrow tables, by CSV files."""
    return _dlt(url, rows, _arrow, "csv")


def dlt_arrow_parquet(url: str, rows: int) -> tuple[Load, ...]:
    """Arrow tables, by Parquet files and ADBC, which can fill json columns but no jsonb."""
    return _dlt(url, rows, _arrow, "parquet")


def _arrow(rows: int, score: int) -> list[object]:
    import pyarrow

    return [
        pyarrow.Table.from_pylist([{**row, "payload": json.dumps(row["payload"])} for row in page])
        for page in pages(tenant_rows(rows, score=score), ARROW_ROWS)
    ]


def _dlt(
    url: str, rows: int, given: Callable[[int, int], Any], file_format: str
) -> tuple[Load, ...]:
    # Nothing calls out, nothing is read from the machine, and warnings are none of ours.
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    # One process that normalises: a second one takes longer (tried).  Four threads that load.
    os.environ |= {"NORMALIZE__WORKERS": "1", "LOAD__WORKERS": "4"}
    import dlt

    pipeline = dlt.pipeline(
        "peer",
        pipelines_dir=os.environ["DLT_DATA_DIR"],
        destination=dlt.destinations.postgres(url),
        dataset_name="peer",
    )

    def run(data: object) -> None:
        resource = dlt.resource(
            data,
            name="item",
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            primary_key=list(KEY),
            columns={"payload": {"data_type": "json"}},
        )
        pipeline.run(resource, loader_file_format=file_format)

    run(given(1, 0))  # its own tables, its imports, and the table itself are there
    made = iter([given(rows, score) for score in range(len(PASSES))])
    return tuple(lambda score: run(next(made)) for _ in PASSES)


def psycopg_executemany(url: str, rows: int) -> tuple[Load, ...]:
    """An upsert a row, pipelined by psycopg's C code, in one transaction."""
    import psycopg
    from psycopg.types.json import Jsonb

    connection = psycopg.connect(url)
    connection.execute("CREATE SCHEMA peer")
    connection.execute(f"CREATE TABLE peer.item ({COLUMNS})")
    connection.commit()
    upsert = f"INSERT INTO peer.item VALUES ({', '.join(['%s'] * len(NAMES))}) {UPSERT}"

    def load(score: int) -> None:
        with connection.cursor() as cursor:
            for page in pages(tenant_rows(rows, score=score), PAGE_ROWS):
                cursor.executemany(
                    upsert, [(*[*row.values()][:-1], Jsonb(row["payload"])) for row in page]
                )
        connection.commit()

    return tuple(load for _ in PASSES)


def pandas_to_sql(url: str, rows: int) -> tuple[Load, ...]:
    """As everybody calls it: INSERT statements by SQLAlchemy and psycopg."""
    return _pandas(url, rows, None)


def pandas_copy(url: str, rows: int) -> tuple[Load, ...]:
    """By the function for COPY that pandas' documentation gives."""
    return _pandas(url, rows, _copy_for_pandas)


def _copy_for_pandas(table: Any, connection: Any, names: list[str], rows: Any) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    columns = ", ".join(f'"{name}"' for name in names)
    statement = f"COPY {table.schema}.{table.name} ({columns}) FROM STDIN WITH CSV"
    with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(text.getvalue())


def _pandas(url: str, rows: int, method: Any) -> tuple[Load, ...]:
    import pandas
    import psycopg
    import sqlalchemy
    from sqlalchemy.dialects.postgresql import JSONB

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA peer")
        connection.exec_driver_sql(f"CREATE TABLE peer.item ({COLUMNS})")
    # What is inserted as JSONB is spelled by SQLAlchemy; what is copied, by us.
    spell = (lambda row: row) if method is None else _spelled
    frame = pandas.DataFrame([spell(row) for row in tenant_rows(rows, score=0)])
    options = {"schema": "peer", "index": False, "if_exists": "append", "method": method}

    def load(score: int) -> None:
        with engine.begin() as connection:
            frame.to_sql("item", connection, dtype={"payload": JSONB}, **options)

    return (load,)


def _spelled(row: dict[str, object]) -> dict[str, object]:
    return {**row, "payload": json.dumps(row["payload"])}


WAYS = {
    way.__name__: way
    for way in (
        dlt_dicts,
        dlt_arrow_csv,
        dlt_arrow_parquet,
        psycopg_executemany,
        pandas_to_sql,
        pandas_copy,
    )
}


def main() -> None:
    """Each pass of one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    # Whatever else is printed here is not our answer.
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for score, load in enumerate(WAYS[options.way](os.environ["BENCH_DATABASE_URL"], options.rows)):
        print("ready", file=said)
        sys.stdin.readline()
        began, cpu = time.perf_counter(), time.process_time()
        load(score)
        seconds, client_seconds = time.perf_counter() - began, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "client_seconds": client_seconds}), file=said)


if __name__ == "__main__":
    main()
