"""db.upsert: a batch is written while the next one is read, and each counts by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from harvestd.database import step
from harvestd.database.pool import Database
from harvestd.errors import WriteRefused
from harvestd.loading.facade import rows_written_by
from harvestd.loading.rows import BATCH_ROWS_MAX
from tests.loading.dbs import Shop, a_shop

SCHEMA = "CREATE TABLE shop.item (tenant_id text, id bigint, PRIMARY KEY (tenant_id, id));"
COUNT = "SELECT count(*)::int FROM shop.item"


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica, and a table to upsert to."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


def items(count: int, *, then: object = None) -> Iterator[dict[str, object]]:
    """``count`` rows, and one whose key is ``then``, if that is given."""
    for number in range(count):
        yield {"id": number}
    if then is not None:
        yield {"id": then}


async def test_the_next_batch_is_read_while_the_one_before_it_is_written(shop: Shop) -> None:
    db = await shop.db_of("acme")
    read, writing, read_on = 0, asyncio.Event(), asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, object]]:
        nonlocal read
        for row in items(2 * BATCH_ROWS_MAX):
            read += 1
            if read == BATCH_ROWS_MAX + 2:  # the first of the second batch filled the first one
                async with asyncio.timeout(20):
                    await writing.wait()
                read_on.set()
            yield row

    async def hold_the_first(name: str) -> None:
        if name == "write" and not writing.is_set():
            writing.set()
            async with asyncio.timeout(20):
                await read_on.wait()

    step.hook = hold_the_first
    try:
        written = await db.upsert("item", rows(), ["id"])
    finally:
        step.hook = None
    assert (written.inserted, rows_written_by(db)) == (2_000, 2_000)
    assert await shop.rows(COUNT) == [(2_000,)]


async def test_a_batch_that_was_sent_stays_and_counts_when_a_later_one_is_refused(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")

    with pytest.raises(WriteRefused, match="column id"):
        await db.upsert("item", items(BATCH_ROWS_MAX, then="no number"), ["id"])

    assert await shop.rows(COUNT) == [(rows_written_by(db),)] == [(BATCH_ROWS_MAX,)]


async def test_the_error_of_a_batch_reaches_the_caller_though_the_next_is_read_already(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")

    async def refuse(name: str) -> None:
        if name == "write":
            raise OSError("the first one fails")

    step.hook = refuse
    try:
        with pytest.raises(OSError, match="the first one fails"):
            await db.upsert("item", items(3 * BATCH_ROWS_MAX), ["id"])
    finally:
        step.hook = None
    assert await shop.rows(COUNT) == [(0,)]


async def test_an_upsert_that_is_cancelled_leaves_no_batch_under_way(shop: Shop) -> None:
    db, writing = await shop.db_of("acme"), asyncio.Event()

    async def hang(name: str) -> None:
        if name == "write":
            writing.set()
            await asyncio.Event().wait()

    step.hook = hang
    try:
        before = asyncio.all_tasks()
        upserting = asyncio.create_task(db.upsert("item", items(2 * BATCH_ROWS_MAX), ["id"]))
        async with asyncio.timeout(20):
            await writing.wait()
        upserting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upserting
        assert asyncio.all_tasks() == before
    finally:
        step.hook = None


async def test_batches_inside_a_transaction_belong_to_it(shop: Shop) -> None:
    db = await shop.db_of("acme")

    with pytest.raises(OSError, match="at the end"):
        async with db.transaction():
            await db.upsert("item", items(3 * BATCH_ROWS_MAX), ["id"])
            raise OSError("at the end")

    assert (await shop.rows(COUNT), rows_written_by(db)) == ([(0,)], 0)
