"""Producers that are slow, raise, never end or are cancelled: nothing lost, half or leaked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from harvestd.database import step
from harvestd.database.pool import Database
from harvestd.errors import WriteRefused
from harvestd.loading.facade import Db, rows_written_by
from harvestd.loading.rows import BATCH_ROWS_MAX
from harvestd.loading.seats import Binding
from tests.loading.dbs import Shop, a_shop

SCHEMA = """
CREATE TABLE shop.item (tenant_id text, id bigint, body text, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.event (tenant_id text, id bigint, body text);
"""
ROWS = 2 * BATCH_ROWS_MAX + BATCH_ROWS_MAX // 2
BODY = "x" * 3_000  # so that what is kept until its transaction is kept in a file
CALLS = ("upsert", "copy", "sweep")


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica with two seats, and tables with and without a key."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


class Producer:
    """ROWS rows, then whatever ``then`` does; knows whether it was closed."""

    def __init__(self, call: str, then: str) -> None:
        self._sweeps = call == "sweep"
        self._then = then
        self.here = asyncio.Event()
        self.closed = False

    def row(self, number: int) -> Any:
        """A row, or for a sweep a key."""
        return number if self._sweeps else {"id": number, "body": BODY}

    async def rows(self) -> AsyncIterator[Any]:
        """As an upstream gives them."""
        try:
            for number in range(ROWS):
                yield self.row(number)
            self.here.set()
            if self._then == "raises":
                raise ConnectionResetError("of the upstream's")
            if self._then == "waits":
                await asyncio.Event().wait()
            if self._then == "is wrong":
                yield "no number" if self._sweeps else {"id": "no number"}
                for number in range(ROWS, 2 * ROWS):  # beyond the batch with the wrong one
                    yield self.row(number)
        finally:
            await asyncio.sleep(0)  # as a client does when it closes its connection
            self.closed = True

    def endless(self) -> Iterator[Any]:
        """The same without an end, never waiting; whoever asks for it is cancelled under way."""
        task = asyncio.current_task()
        assert task is not None
        try:
            number = 0
            while True:
                yield self.row(number)
                number += 1
                if number == ROWS:
                    self.here.set()
                    task.cancel()
        finally:
            self.closed = True


async def give(db: Db, binding: Binding, call: str, rows: Any, *, inside: bool) -> object:
    """Call ``call`` with ``rows``, perhaps inside a transaction."""
    assert binding.covers is not None
    async with db.transaction() if inside else nullcontext():
        if call == "upsert":
            return await db.upsert("item", rows, ["id"])
        if call == "copy":
            return await db.copy("event", rows, binding.covers.end)
        return await db.sweep("item", {}, rows, force=True)


@asynccontextmanager
async def nothing_left(shop: Shop) -> AsyncIterator[None]:
    """Afterwards there is no task, transaction, temporary table or file more than before."""
    tasks, files = asyncio.all_tasks(), temporary_files()
    yield
    assert asyncio.all_tasks() == tasks
    assert temporary_files() == files
    await both_seats_are_free(shop)
    ((busy, sessions),) = await shop.rows(
        "SELECT count(*) FILTER (WHERE state <> 'idle') AS busy, count(*) AS all"
        " FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename ~ '_seat_' AND pid <> pg_backend_pid()"
    )
    assert (busy, sessions) == (0, 2)
    assert await shop.rows("SELECT relname::text FROM pg_class WHERE relpersistence = 't'") == []


def temporary_files() -> int:
    """How many files without a name this process holds."""
    held = 0
    for found in Path("/proc/self/fd").glob("*"):
        try:
            held += "(deleted)" in os.readlink(found)
        except OSError:
            continue
    return held


async def both_seats_are_free(shop: Shop) -> None:
    """Two other runs get one each."""
    others = [await shop.db_of(tenant, script=f"s{next(NUMBERS)}") for tenant in ("globex", "umb")]
    async with asyncio.timeout(20), others[0].transaction(), others[1].transaction():
        pass


NUMBERS = iter(range(10_000))
FOUND = """
SELECT (SELECT count(*) FROM shop.item) AS items, (SELECT count(*) FROM shop.event) AS events,
    (SELECT count(*) FROM shop.item WHERE deleted_at IS NOT NULL) AS marked
"""


async def check_whole(shop: Shop, db: Db, binding: Binding, call: str, *, inside: bool) -> None:
    """No half of anything is there, and what is given again is there whole."""
    whole = 2 * BATCH_ROWS_MAX if call == "upsert" and not inside else 0
    first = ROWS if call == "sweep" else 0
    assert await shop.rows(FOUND) == [(whole + first, 0, 0)]
    assert rows_written_by(db) == whole + first
    assert await shop.covered(binding) is None

    producer = Producer(call, "ends")
    await give(db, binding, call, producer.rows(), inside=inside)

    assert producer.closed
    events = ROWS if call == "copy" else 0
    assert await shop.rows(FOUND) == [(ROWS - events, events, 0)]
    assert rows_written_by(db) == ROWS


async def a_run_with(shop: Shop, call: str) -> tuple[Db, Binding]:
    """A run; for a sweep with the rows that it goes through."""
    binding = await shop.claims_run_of("acme")
    db = shop.db(binding)
    if call == "sweep":
        await db.upsert("item", ({"id": number} for number in range(ROWS)), ["id"])
    await both_seats_are_free(shop)
    return db, binding


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("call", CALLS)
async def test_a_producer_that_raises_or_gives_a_wrong_row_is_closed_and_leaves_nothing_half(
    shop: Shop, call: str, inside: bool
) -> None:
    db, binding = await a_run_with(shop, call)
    errors: dict[str, type[Exception]] = {"raises": ConnectionResetError, "is wrong": WriteRefused}
    async with nothing_left(shop):
        for then, error in errors.items():
            producer = Producer(call, then)
            with pytest.raises(error):
                await give(db, binding, call, producer.rows(), inside=inside)
            assert producer.closed
    await check_whole(shop, db, binding, call, inside=inside)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("call", CALLS)
async def test_a_slow_producer_holds_no_seat_and_can_be_cancelled(
    shop: Shop, call: str, inside: bool
) -> None:
    db, binding = await a_run_with(shop, call)
    async with nothing_left(shop):
        producer = Producer(call, "waits")
        giving = asyncio.create_task(give(db, binding, call, producer.rows(), inside=inside))
        async with asyncio.timeout(30):
            await producer.here.wait()
            if not inside:
                await both_seats_are_free(shop)
        giving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving
        assert producer.closed
    await check_whole(shop, db, binding, call, inside=inside)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("call", CALLS)
async def test_a_producer_without_end_is_ended_by_the_cancellation(
    shop: Shop, call: str, inside: bool
) -> None:
    db, binding = await a_run_with(shop, call)
    producer = Producer(call, "")

    async def endlessly() -> None:
        await give(db, binding, call, producer.endless(), inside=inside)

    async with nothing_left(shop):
        giving = asyncio.create_task(endlessly())
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await giving
        assert producer.closed
    written = [(count, 0, 0) for count in range(0, 3 * BATCH_ROWS_MAX, BATCH_ROWS_MAX)]
    (found,) = await shop.rows(FOUND)
    assert found in ([(ROWS, 0, 0)] if call == "sweep" else [written[0]] if inside else written)
    assert found[0] == rows_written_by(db)


@pytest.mark.parametrize(
    ("call", "at"),
    [("upsert", "write"), ("copy", "write"), ("copy", "checkpoint"), ("sweep", "sweep")],
)
async def test_a_producer_is_closed_when_its_rows_are_cancelled_on_their_way(
    shop: Shop, call: str, at: str
) -> None:
    db, binding = await a_run_with(shop, call)
    here, producer = asyncio.Event(), Producer(call, "ends")

    async def stop(name: str) -> None:
        if name == at:
            here.set()
            await asyncio.Event().wait()

    async with nothing_left(shop):
        step.hook = stop
        try:
            giving = asyncio.create_task(give(db, binding, call, producer.rows(), inside=False))
            async with asyncio.timeout(30):
                await here.wait()
            giving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await giving
        finally:
            step.hook = None
        assert producer.closed
