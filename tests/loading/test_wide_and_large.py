"""Rows at the edges of what is taken: two hundred columns, values of megabytes, slow producers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harvestd.database.pool import Database
from harvestd.errors import WriteRefused
from harvestd.loading.columns import VALUE_BYTES_MAX
from harvestd.loading.rows import BATCH_ROWS_MAX
from tests.loading.dbs import Shop, a_shop

COLUMNS = 200
NAMES = [f"c{number:03}" for number in range(COLUMNS)]
SCHEMA = f"""
CREATE TABLE shop.wide (
    tenant_id text, id bigint, {", ".join(f"{name} text" for name in NAMES)},
    PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.item (tenant_id text, id bigint, body text, PRIMARY KEY (tenant_id, id));
"""


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A wide table, and one for long texts; two seats."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


def wide(number: int, *, word: str = "x") -> dict[str, object]:
    """A row of all columns, each with a value of its own."""
    return {"id": number, **{name: f"{word} {number} {name}" for name in NAMES}}


async def both_seats_are_free(shop: Shop) -> None:
    others = [await shop.db_of(tenant) for tenant in ("globex", "initech")]
    async with asyncio.timeout(20), others[0].transaction(), others[1].transaction():
        pass


async def test_two_hundred_columns_are_written_changed_and_found_unchanged(shop: Shop) -> None:
    db = await shop.db_of("acme")
    count = BATCH_ROWS_MAX + 1
    first = await db.upsert("wide", (wide(n) for n in range(count)), ["id"])
    second = await db.upsert("wide", (wide(n) for n in range(count)), ["id"])
    changed = [wide(7) | {"c199": "changed"}, *(wide(n) for n in range(8, count))]
    third = await db.upsert("wide", changed, ["id"])
    assert (first.inserted, second.unchanged) == (count, count)
    assert (third.updated, third.unchanged) == (1, count - 8)
    ((stored,),) = await shop.rows("SELECT to_jsonb(w) ->> 'c199' FROM shop.wide AS w WHERE id = 7")
    assert stored == "changed"


async def test_rows_that_each_lack_other_columns_keep_what_they_do_not_name(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await db.upsert("wide", [wide(n) for n in range(COLUMNS)], ["id"])
    each: list[dict[str, object]] = [{"id": n, NAMES[n]: "new"} for n in range(COLUMNS)]
    written = await db.upsert("wide", each, ["id"])
    assert written.updated == COLUMNS
    ((kept, new),) = await shop.rows("SELECT c000, c005 FROM shop.wide WHERE id = 5")
    assert (kept, new) == ("x 5 c000", "new")


async def test_a_value_of_the_largest_size_is_stored_and_one_byte_more_is_refused(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")
    await db.upsert("item", [{"id": 1, "body": "x" * VALUE_BYTES_MAX}], ["id"])
    assert await db.fetchval("SELECT length(body) FROM item") == VALUE_BYTES_MAX
    with pytest.raises(WriteRefused, match=r"column body \(text\)"):
        await db.upsert("item", [{"id": 2, "body": "x" * (VALUE_BYTES_MAX + 1)}], ["id"])


@pytest.mark.parametrize("batches_before", [0, 2])
async def test_a_producer_that_raises_loses_no_batch_and_keeps_no_seat(
    shop: Shop, batches_before: int
) -> None:
    db = await shop.db_of("acme")
    whole = batches_before * BATCH_ROWS_MAX

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for number in range(whole + 10):
            yield {"id": number}
        raise ConnectionResetError("of the upstream's")

    with pytest.raises(ConnectionResetError, match="upstream"):
        await db.upsert("item", rows(), ["id"])
    assert await shop.rows("SELECT count(*)::int FROM shop.item") == [(whole,)]
    await both_seats_are_free(shop)


async def test_a_slow_producer_holds_no_seat_while_it_is_waited_for(shop: Shop) -> None:
    db, reached, go_on = await shop.db_of("acme"), asyncio.Event(), asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for number in range(2 * BATCH_ROWS_MAX + 1):
            yield {"id": number}
        reached.set()
        await go_on.wait()

    upserting = asyncio.create_task(db.upsert("item", rows(), ["id"]))
    async with asyncio.timeout(20):
        await reached.wait()
        await both_seats_are_free(shop)
        go_on.set()
        written = await upserting
    assert written.inserted == 2 * BATCH_ROWS_MAX + 1
