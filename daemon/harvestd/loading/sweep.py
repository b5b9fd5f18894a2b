"""Marking as deleted what a complete listing no longer holds.

The listed keys go into a temporary table; the rows of the scope are compared with it on the
server.  ``written_at`` is the moment of the statement that wrote a row, so one written since the
sweep began is newer than the listing, whatever transaction wrote it, and is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from harvestd.errors import WriteRefused
from harvestd.loading.blame import refused_by_server
from harvestd.loading.rows import batches
from harvestd.loading.spool import Spool
from harvestd.loading.values import converter, parameter_type, selected
from harvestd.loading.writes import (
    FRAMEWORK_COLUMNS,
    TENANT_ID,
    TableShape,
    arrays_for,
    checked_name,
    listed,
    quoted,
    select_arrays,
)

Keys = Iterable[object] | AsyncIterable[object]

VANISHING_ONE_IN = 10
"""A tenth of the live rows may vanish at once: a listing that was cut short loses more."""
VANISHING_FEW = 5
"""So many may in a scope too small for tenths, but never more than half of it, rounded up."""

SEEN = "pg_temp.harvestd_seen"


@dataclass(frozen=True, slots=True)
class Swept:
    """Rows that a sweep marked as deleted, and whose mark it took back; then the live ones."""

    marked: int
    restored: int
    live: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep's statements, and the values of its scope: ``$3`` onwards.

    ``$1`` is the tenant id, ``$2`` when the sweep began.
    """

    stage: str
    index: str
    lock: str
    count: str
    mark: str
    restore: str
    values: tuple[object, ...]


def vanishing_max(live: int) -> int:
    """How many of ``live`` rows a sweep may mark without being forced."""
    return max(live // VANISHING_ONE_IN, min(VANISHING_FEW, (live + 1) // 2))


def sweep_key(shape: TableShape) -> tuple[str, ...]:
    """The columns of a listed key: the primary key's, or the first key's, but for the tenant id.

    Raises: WriteRefused, when the table has none.
    """
    key = tuple(name for name in (*shape.unique_keys, ())[0] if name != TENANT_ID)
    if not key:
        raise WriteRefused(
            f"{shape} cannot be swept",
            why="it has no key, or one row a tenant: no listing says which of its rows are there",
            next_step=f"PRIMARY KEY ({TENANT_ID}, ...) in schema.sql",
        )
    return key


def make_sweep(shape: TableShape, scope: Mapping[str, object]) -> Sweep:
    """The sweep of the rows of ``shape`` whose columns have the values of ``scope``.

    Raises: WriteRefused.
    """
    key = sweep_key(shape)
    if not isinstance(scope, Mapping):
        raise WriteRefused(
            f"the scope of a sweep is given as {type(scope).__name__[:60]}",
            why="it says which rows the listing is complete for: a column's value each",
            next_step='{"repository_id": 7}, or {} for all of the tenant\'s rows',
        )
    conditions = [f"stored.{TENANT_ID} = $1::text"]
    values: list[object] = []
    for name, value in scope.items():
        condition, sent = _scope_condition(shape, name, value, len(values) + 3)
        conditions.append(condition)
        values += sent
    return _sweep_statements(shape, key, " AND ".join(conditions), tuple(values))


def _sweep_statements(
    shape: TableShape, key: Sequence[str], within: str, values: tuple[object, ...]
) -> Sweep:
    table = f"{quoted(shape.schema)}.{quoted(shape.table)}"
    same = " AND ".join(f"seen.{quoted(name)} = stored.{quoted(name)}" for name in key)
    seen = f"EXISTS (SELECT FROM {SEEN} AS seen WHERE {same})"
    live = f"{within} AND stored.deleted_at IS NULL"
    gone = f"{live} AND stored.written_at < $2::timestamptz AND NOT {seen}"
    # Made from the table's own columns: the same types, which compare as its key does.
    stage = f"""\
CREATE TEMPORARY TABLE {SEEN} ON COMMIT DROP AS
SELECT {listed(TENANT_ID, *key)} FROM {table} WITH NO DATA"""  # noqa: S608 - names are quoted
    # Without it a table whose statistics are old is compared row by row, all with all.
    index = f"CREATE INDEX ON {SEEN} ({listed(*key)}); ANALYZE {SEEN}"
    restorable = f"{within} AND stored.deleted_at < $2::timestamptz AND {seen}"
    # In the order of the key, as an upsert writes: the two wait for each other, never in a circle.
    lock = f"""\
SELECT count(*)
FROM (SELECT FROM {table} AS stored
      WHERE {gone} OR {restorable}
      ORDER BY {", ".join(f"stored.{quoted(name)}" for name in key)}
      FOR NO KEY UPDATE) AS locked"""  # noqa: S608 - as above
    count = f"""\
SELECT (SELECT count(*) FROM {table} AS stored WHERE {live}) AS live,
       (SELECT count(*) FROM {table} AS stored WHERE {gone}) AS gone"""  # noqa: S608 - as above
    mark = f"""\
WITH marked AS (
    UPDATE {table} AS stored
    SET deleted_at = statement_timestamp()
    WHERE {gone}
    RETURNING 1
)
SELECT count(*) FROM marked"""  # noqa: S608 - as above
    restore = f"""\
WITH restored AS (
    UPDATE {table} AS stored
    SET deleted_at = NULL, written_at = statement_timestamp()
    WHERE {restorable}
    RETURNING 1
)
SELECT count(*) FROM restored"""  # noqa: S608 - as above
    return Sweep(stage, index, lock, count, mark, restore, values)


def _scope_condition(
    shape: TableShape, name: str, value: object, number: int
) -> tuple[str, tuple[object, ...]]:
    """The condition for one column of a scope, and its parameter, ``$number``, if it has one."""
    column = shape.columns.get(checked_name(name, "column"))
    if column is None or name in (TENANT_ID, *FRAMEWORK_COLUMNS):
        own = [one for one in shape.columns if one not in (TENANT_ID, *FRAMEWORK_COLUMNS)]
        raise WriteRefused(
            f"a sweep of {shape} cannot be limited by {name}",
            why=f"a scope names columns of the source's own; the table has {', '.join(own)}",
            next_step="the tenant's rows alone are swept in any case",
        )
    stored = f"stored.{quoted(name)}"
    if value is None:
        return f"{stored} IS NULL", ()
    parameter = selected(column, f"${number}::{parameter_type(column)}")
    try:
        return f"{stored} = {parameter}", (converter(column)(value),)
    except WriteRefused as error:
        raise WriteRefused(
            f"the scope of a sweep of {shape}: {error.what}",
            why=error.why,
            next_step=error.next_step,
        ) from None


async def keep_keys(shape: TableShape, seen: Keys, keys: Spool) -> None:
    """Put the listed keys into ``keys``, checked and converted.  Raises: WriteRefused."""
    key = sweep_key(shape)
    async with aclosing(batches(seen, columns=key)) as stream:
        async for batch in stream:
            for group in arrays_for(shape, key, batch):
                if len(group.columns) > len(key):
                    raise WriteRefused(
                        f"a key of {shape} is given with more than {', '.join(key)}",
                        next_step="give keys as tuples of those, in this order",
                    )
                keys.add(group)
            await asyncio.sleep(0)  # a list never waits for anything, and others have their turn


async def run_sweep(
    connection: asyncpg.Connection[Any],
    shape: TableShape,
    sweep: Sweep,
    keys: Spool,
    *,
    tenant_id: str,
    began: datetime,
    force: bool,
) -> Swept:
    """Sweep, inside the transaction of ``connection``.

    Raises: WriteRefused, when more rows would vanish than may, unless ``force``.
    """
    arguments = (tenant_id, began, *sweep.values)
    await connection.execute(sweep.stage)
    for columns, _, arrays in keys:
        staged = (
            f"INSERT INTO {SEEN} ({listed(TENANT_ID, *columns)}) {select_arrays(shape, columns)}"
        )
        with refused_by_server(shape, columns, columns):
            await connection.execute(staged, tenant_id, *arrays)
    await connection.execute(sweep.index)
    await connection.fetchval(sweep.lock, *arguments)
    count = await connection.fetchrow(sweep.count, *arguments)
    assert count is not None
    if not force:
        _check_vanishing(shape, count["live"], count["gone"])
    marked = await connection.fetchval(sweep.mark, *arguments)
    restored = await connection.fetchval(sweep.restore, *arguments)
    # The transaction may be the script's own, with another sweep to come.
    await connection.execute(f"DROP TABLE {SEEN}")
    return Swept(marked, restored, live=count["live"] - marked + restored)


def _check_vanishing(shape: TableShape, live: int, gone: int) -> None:
    allowed = vanishing_max(live)
    if gone > allowed:
        raise WriteRefused(
            f"a sweep of {shape} would mark {gone:,} of {live:,} live rows as deleted",
            why=f"{allowed:,} may vanish at once: a listing that was cut short looks the same",
            next_step="see whether the listing was complete; sweep with force=True where it "
            "cannot be cut short, or where so many are gone",
        )
