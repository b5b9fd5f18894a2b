"""The ``db`` that a script receives: one tenant, one run, one window.

Tables without a schema are the data source's own.  The tenant id is never the
author's job, and the server holds whatever is sent to the run's tenant, schema
and fence (`loading/seats.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from harvestd.database.step import step
from harvestd.errors import WriteRefused
from harvestd.loading.arguments import as_sent
from harvestd.loading.blame import refused_by_server
from harvestd.loading.bookmarks import bookmark_text, checked_bookmark
from harvestd.loading.covering import check_date, refused_date
from harvestd.loading.fenced import Fenced
from harvestd.loading.joined import RawConnection
from harvestd.loading.rows import batches
from harvestd.loading.seats import Binding
from harvestd.loading.shapes import Shapes
from harvestd.loading.spool import Spool
from harvestd.loading.sweep import Keys, Swept, keep_keys, make_sweep, run_sweep
from harvestd.loading.unknown import Unknown, known_keys
from harvestd.loading.writes import (
    TENANT_ID,
    Group,
    TableShape,
    append_statement,
    arrays_for,
    checked_name,
)

OneRow = Mapping[str, object] | Sequence[object]
Rows = Iterable[OneRow] | AsyncIterable[OneRow]


@dataclass(slots=True)
class Written:
    """How many rows an upsert inserted, changed, and found as they were.

    ``duplicates``: rows that were given before in the same batch, under the same key.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0

    @property
    def rows(self) -> int:
        """Rows that the database did not have like this before."""
        return self.inserted + self.updated


class Db:
    """What ``run(env, db, tenant_id, start_date, end_date)`` works with."""

    def __init__(self, fenced: Fenced, shapes: Shapes) -> None:
        self._fenced = fenced
        self._shapes = shapes
        self._rows_written = 0

    async def upsert(
        self,
        table: str,
        rows: Rows,
        key: Sequence[str],
        *,
        columns: Sequence[str] = (),
        unknown: Unknown | None = None,
    ) -> Written:
        """Insert ``rows``, or change those whose ``key`` is there already.

        A row is a dict, a named tuple, or a tuple of the values of ``columns``.  What the table
        has no column for goes into its column ``raw`` (jsonb), as one object; where it has none,
        or with ``unknown="freeze"``, such a row is refused; ``"discard"`` leaves it out.

        Streamed in bounded batches, each one transaction, so any number of rows fits; while one
        is written the next is read.  The database connection is not held while ``rows`` is waited
        for.  Rows that are as they were are not written again; of two rows with one key in a
        batch the last wins; a column that a dict lacks is left alone.

        Raises: WriteRefused (names the column, never the value), LeaseLost, Unreachable.
        """
        shape = await self._shapes.of(self._fenced.source, checked_name(table, "table"))
        written = Written()
        sending: asyncio.Task[None] | None = None
        try:
            async with aclosing(batches(rows, columns=columns)) as stream:
                async for batch in stream:
                    groups = arrays_for(shape, key, known_keys(shape, batch, unknown))
                    written.duplicates += len(batch) - sum(group.rows for group in groups)
                    if sending is not None:
                        await sending
                    # While the server takes this batch the next one is read and checked.
                    sending = asyncio.create_task(self._upsert(shape, key, groups, written))
                    await asyncio.sleep(0)
            if sending is not None:
                await sending
        except BaseException as error:
            # What was sent is not taken back because ``rows`` fails after it; unless we are to end.
            if sending is not None:
                if isinstance(error, asyncio.CancelledError):
                    sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            raise
        return written

    async def _upsert(
        self, shape: TableShape, key: Sequence[str], groups: Sequence[Group], written: Written
    ) -> None:
        """Send one batch, and count it."""
        for group in groups:
            statement = self._shapes.upsert(shape, group.columns, key)
            await step("write")
            async with self._fenced.seat() as seat:
                sent = (self._fenced.tenant_id, *group.arrays)
                with refused_by_server(shape, group.columns, key):
                    row = await seat.connection.fetchrow(statement, *sent)
            assert row is not None
            changed = row["inserted"] + row["updated"]
            written.inserted += row["inserted"]
            written.updated += row["updated"]
            written.unchanged += group.rows - changed
            # At once: what was committed counts even if a later batch fails.
            self._rows_written += changed

    async def copy(
        self,
        table: str,
        rows: Rows,
        until: datetime,
        *,
        columns: Sequence[str] = (),
        unknown: Unknown | None = None,
    ) -> int:
        """Append ``rows`` to a table without a key, and cover source time up to ``until``.

        ``rows``, ``columns`` and ``unknown`` as in ``upsert``.

        All rows and the coverage commit in one transaction, so that a crash neither loses nor
        doubles one.  They are read first, in bounded batches (a temporary file takes what is
        beyond 4 MiB), then sent; the database is not held while ``rows`` is waited for.
        ``until`` as in ``checkpoint``.  Inside ``transaction()`` it joins that one: so commit
        several tables that are covered together.  Answers how many rows were appended.

        Raises: WriteRefused (the table has a key; the script is a snapshot, or looks back; a
        value does not fit), WindowRefused, LeaseLost, Unreachable, RunError (no room).
        """
        check_date(until, "copy")
        shape = await self._shapes.of(self._fenced.source, checked_name(table, "table"))
        _check_appends(shape, self._fenced.binding)
        appended = 0
        with Spool() as kept:
            async with aclosing(batches(rows, columns=columns)) as stream:
                async for batch in stream:
                    for group in arrays_for(shape, None, known_keys(shape, batch, unknown)):
                        kept.add(group)
                    await asyncio.sleep(0)  # a list never waits, and others have their turn
            async with self._fenced.seat() as seat, seat.connection.transaction():
                for group in kept:
                    await step("write")
                    statement = append_statement(shape, group.columns)
                    sent = (self._fenced.tenant_id, *group.arrays)
                    with refused_by_server(shape, group.columns, None):
                        await seat.connection.execute(statement, *sent)
                    appended += group.rows
                await step("checkpoint")
                with refused_date(self._fenced.binding, until, "copy"):
                    await seat.connection.execute("SELECT harvestd_api.checkpoint($1)", until)
        self._rows_written += appended
        return appended

    async def sweep(
        self, table: str, scope: Mapping[str, object], seen: Keys, *, force: bool = False
    ) -> Swept:
        """Mark rows of ``scope`` as deleted that a complete listing no longer holds.

        ``scope``: what the listing is complete for, as column -> value (``{}``: all of the
        tenant's rows).  ``seen``: the listed keys, from any iterable; each a tuple of the primary
        key's columns in their order without the tenant id, or of one column its value.  Give the
        listing itself (a generator) rather than what was listed before: rows that are not seen
        get ``deleted_at``, except those written since this call began.  A seen row that is marked
        is live again.  It is one transaction at the end, which joins an open ``transaction()``;
        the database is not held while ``seen`` is waited for.

        Refused when more than a tenth of the scope's live rows would vanish (5 of fewer than 60,
        but at most half, rounded up), unless ``force``.  Answers marked, restored, live.

        Raises: WriteRefused, LeaseLost, Unreachable, RunError (no room for the keys).
        """
        shape = await self._shapes.of(self._fenced.source, checked_name(table, "table"))
        sweep = make_sweep(shape, scope)
        async with self._fenced.seat() as seat:
            began = await seat.connection.fetchval("SELECT pg_catalog.clock_timestamp()")
        with Spool() as keys:
            await keep_keys(shape, seen, keys)
            await step("sweep")
            async with self._fenced.seat() as seat, seat.connection.transaction():
                swept = await run_sweep(
                    seat.connection,
                    shape,
                    sweep,
                    keys,
                    tenant_id=self._fenced.tenant_id,
                    began=began,
                    force=force,
                )
        self._rows_written += swept.marked + swept.restored
        return swept

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[RawConnection]:
        """A connection inside one transaction; ``db`` calls made inside it join it.

        Also from gathered tasks.  Use it to commit rows together with a bookmark or checkpoint.
        """
        rows_before = self._rows_written
        try:
            async with self._fenced.transaction() as connection:
                # Calls outside take turns with this block: whatever is counted in it is its own.
                rows_before = self._rows_written
                yield connection
        except BaseException:
            self._rows_written = rows_before
            raise

    async def checkpoint(self, date: datetime) -> None:
        """Source time up to ``date`` is loaded: the next attempt begins there.

        ``date`` is aware, after the window's start and at most its end.  Inside
        ``transaction()`` it commits together with the rows.

        Raises: WindowRefused, LeaseLost, Unreachable.
        """
        check_date(date, "checkpoint")
        await step("checkpoint")
        async with self._fenced.seat() as seat:
            with refused_date(self._fenced.binding, date, "checkpoint"):
                await seat.connection.execute("SELECT harvestd_api.checkpoint($1)", date)

    async def bookmark(self, name: str) -> Any:
        """The JSON value kept under ``name`` for this run, or None."""
        checked = checked_bookmark(name)
        async with self._fenced.seat() as seat:
            text = await seat.connection.fetchval("SELECT harvestd_api.bookmark($1)", checked)
        return None if text is None else json.loads(text)

    async def set_bookmark(self, name: str, value: object) -> None:
        """Keep a small JSON ``value`` under ``name``; None removes it.

        Name it by the id of what it is about (a repository, a project), never by a name or an
        index.  Inside ``transaction()`` it commits together with the rows.

        Raises: WriteRefused (names the bookmark, never the value), LeaseLost, Unreachable.
        """
        text = bookmark_text(checked_bookmark(name), value)
        await step("bookmark")
        async with self._fenced.seat() as seat:
            await seat.connection.execute(
                "SELECT harvestd_api.set_bookmark($1, $2::jsonb)", name, text
            )

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows of a query over this tenant's rows of every data source."""
        async with self._fenced.seat() as seat:
            sent = await as_sent(seat, self._fenced.source, query, arguments)
            return await seat.connection.fetch(query, *sent)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self._fenced.seat() as seat:
            sent = await as_sent(seat, self._fenced.source, query, arguments)
            return await seat.connection.fetchrow(query, *sent)

    async def stream(self, query: str, *arguments: object) -> AsyncGenerator[asyncpg.Record, None]:
        """Rows as `fetch` gives them, read in pages: any number fits.

        They are those of the moment it began.  ``db`` may write between them.  A connection is
        kept until the last row, so do not wait long for others in between.
        """
        async with self._fenced.cursor(query, *arguments) as cursor:
            while page := await cursor.page():
                for row in page:
                    yield row

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self._fenced.seat() as seat:
            sent = await as_sent(seat, self._fenced.source, query, arguments)
            return await seat.connection.fetchval(query, *sent)


def _check_appends(shape: TableShape, binding: Binding) -> None:
    """Raise WriteRefused where appended rows would be there twice after the next window."""
    what = why = next_step = ""
    if shape.unique_keys:
        key = [name for name in shape.unique_keys[0] if name != TENANT_ID]
        what, why = f"copy only appends, and {shape} has the key {key}", "its rows can be found"
        next_step = f"await db.upsert({shape.table!r}, rows, key={key})"
    elif binding.covers is None or binding.handed_from is None:
        what = "a snapshot script cannot copy"
        why = "it has no windows to cover: each of its runs would append every row again"
        next_step = "give the table a key and upsert, or leave catch_up = False out"
    elif binding.handed_from < binding.covers.start:
        what = "a script with lookback cannot copy"
        why = "it reads each row again in the next window, and would append it again"
        next_step = "give the table a key and upsert, or leave lookback out"
    if what:
        raise WriteRefused(what, why=why, next_step=next_step)


def rows_written_by(db: Db) -> int:
    """Rows that ``db`` inserted or changed so far; for the runner, not for authors."""
    return db._rows_written
