"""db.stream: any number of rows, a page at a time, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from functools import partial

import pytest

from harvestd.database.pool import Database
from harvestd.errors import DatabaseError, RunError, Unreachable
from harvestd.loading.fenced import PAGE_BYTES, PAGE_ROWS, PAGE_ROWS_FIRST, next_page_rows
from tests.builders import query
from tests.loading.dbs import Shop, a_shop
from tests.processes import wait_until

SCHEMA = """
CREATE TABLE shop.item (tenant_id text, id bigint, n bigint, PRIMARY KEY (tenant_id, id));
"""
ALL = "SELECT id, n FROM item WHERE id >= $1 ORDER BY id"
OPEN = "SELECT count(*) FROM pg_cursors WHERE name LIKE 'harvestd%'"
COUNT = 2 * PAGE_ROWS + 1


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica with two seats, and rows of two tenants."""
    async with a_shop(database, database_url, SCHEMA) as found:
        for tenant_id in ("acme", "globex"):
            db = await found.db_of(tenant_id, script="fill")
            await db.upsert("item", ({"id": n, "n": 0} for n in range(COUNT)), ["id"])
        yield found


async def test_pages_make_up_all_rows_of_this_tenant_in_their_order(shop: Shop) -> None:
    db = await shop.db_of("acme")
    assert [row["id"] async for row in db.stream(ALL, 0)] == list(range(COUNT))
    assert [row["id"] async for row in db.stream(ALL, COUNT - 2)] == [COUNT - 2, COUNT - 1]
    assert [row async for row in db.stream(ALL, COUNT)] == []


async def test_writes_go_between_the_rows_and_change_none_that_are_still_to_come(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")
    seen = []
    async for row in db.stream(ALL, 0):
        seen.append(row["n"])
        if row["id"] % PAGE_ROWS == 0:
            changed = [{"id": n, "n": 1} for n in range(COUNT)]
            async with db.transaction() as connection:
                await db.upsert("item", changed, ["id"])
                await connection.fetchval("SELECT 1")
    assert seen == [0] * COUNT
    assert await db.fetchval("SELECT sum(n)::int FROM item") == COUNT


async def test_two_streams_and_gathered_writes_share_the_runs_seat(shop: Shop) -> None:
    db = await shop.db_of("acme")

    async def read() -> int:
        return len([row async for row in db.stream(ALL, 0)])

    async def write() -> None:
        await db.upsert("item", [{"id": 0, "n": 7}], ["id"])

    async with asyncio.timeout(20):
        results = await asyncio.gather(read(), write(), read())
    assert (results[0], results[2]) == (COUNT, COUNT)
    # The seat is free again: both of them can be had at once.
    other, third = await shop.db_of("globex"), await shop.db_of("initech")
    async with asyncio.timeout(20), other.transaction(), third.transaction():
        pass


async def test_a_stream_that_is_left_early_gives_its_seat_back_without_a_cursor(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")
    async with aclosing(db.stream(ALL, 0)) as rows:
        async for _ in rows:
            pid = await db.fetchval("SELECT pg_backend_pid()")
            assert await db.fetchval(OPEN) == 1
            break
    assert await db.fetchval("SELECT pg_backend_pid()") == pid
    assert await db.fetchval(OPEN) == 0


async def test_a_stream_may_be_forgotten_or_end_inside_a_transaction(shop: Shop) -> None:
    db = await shop.db_of("acme")
    rows = db.stream(ALL, 0)
    async with asyncio.timeout(20):
        await anext(rows)
        async with db.transaction():
            assert len([row async for row in rows]) == COUNT - 1
        async with db.transaction():
            assert len([row async for row in db.stream(ALL, 0)]) == COUNT
            assert await db.fetchval(OPEN) == 0
        assert await db.fetchval(OPEN) == 0


async def test_a_stream_ends_with_its_run_whose_seat_others_get_clean(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    db = shop.db(binding)
    rows = db.stream(ALL, 0)
    await anext(rows)
    await db._fenced.end()
    with pytest.raises(RunError, match="after its run"):
        for _ in range(COUNT):
            await anext(rows)
    others = [await shop.db_of(tenant) for tenant in ("globex", "initech")]
    async with asyncio.timeout(20), others[0].transaction(), others[1].transaction() as second:
        assert await second.fetchval(OPEN) == 0


async def test_a_backend_that_dies_under_a_stream_ends_it_and_not_the_run(shop: Shop) -> None:
    db = await shop.db_of("acme")
    rows = db.stream(ALL, 0)
    await anext(rows)
    pid = await db.fetchval("SELECT pg_backend_pid()")
    await query(shop.url, "SELECT pg_terminate_backend($1, 5000)", pid)
    # The stream is gone; the run's other calls have a new backend at once.
    with suppress(Unreachable):  # where its end was not heard of yet
        await db.fetchval("SELECT 1")
    assert await db.fetchval("SELECT pg_backend_pid()") != pid
    with pytest.raises(DatabaseError, match="stream ended with its database connection"):
        async for _ in rows:
            pass
    assert await db.fetchval("SELECT count(*)::int FROM item") == COUNT


async def test_a_cancelled_reader_frees_the_seat(shop: Shop) -> None:
    db = await shop.db_of("acme")

    async def read() -> None:
        async with aclosing(db.stream(ALL, 0)) as rows:
            async for _ in rows:
                await db.fetchval("SELECT pg_sleep(60)")

    reading = asyncio.create_task(read())
    async with asyncio.timeout(20):
        sleeps = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        await wait_until(partial(query, shop.url, sleeps), "its query is under way")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert await db.fetchval("SELECT count(*)::int FROM item") == COUNT


async def test_what_is_no_query_is_refused_by_its_name(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for statement in ("DELETE FROM item", "SELECT 1; SELECT 2", "SELECT nothing"):
        with pytest.raises(DatabaseError):
            async for _ in db.stream(statement):
                pass
    assert await db.fetchval("SELECT count(*)::int FROM item") == COUNT


def test_pages_grow_while_rows_are_small_and_are_bounded_by_their_bytes() -> None:
    small, large = [(1, "x")] * PAGE_ROWS, [("x" * (PAGE_BYTES // 4),)]
    asked = PAGE_ROWS_FIRST
    sizes = []
    for _ in range(3):
        asked = next_page_rows(small[:asked], asked)
        sizes.append(asked)
    assert sizes == [64, 512, PAGE_ROWS]
    assert next_page_rows(large * 8, 8) == 4
    assert next_page_rows([("x" * 8 * PAGE_BYTES,)], 512) == 1
    assert next_page_rows([], 64) == PAGE_ROWS


async def test_a_page_of_large_rows_is_small(shop: Shop) -> None:
    db = await shop.db_of("acme")
    sizes = [
        len(row["text"])
        async for row in db.stream("SELECT repeat('x', 400000) AS text FROM item LIMIT 40")
    ]
    assert sizes == [400_000] * 40


@pytest.mark.parametrize(
    "value", ["'0044-03-15 BC'::date", "'20000-01-01'::timestamptz", "'24:00'::time"]
)
async def test_what_python_has_no_word_for_is_told_and_the_run_goes_on(
    shop: Shop, value: str
) -> None:
    db = await shop.db_of("acme")
    with pytest.raises(RunError, match="cannot be read") as refused:
        await db.fetchval(f"SELECT {value}")
    assert "as text" in str(refused.value.next_step)
    with pytest.raises(RunError, match="cannot be read"):
        async for _ in db.stream(f"SELECT {value} AS at"):
            pass
    async with db.transaction() as connection:
        with pytest.raises(RunError, match="cannot be read"):
            await connection.fetchval(f"SELECT {value}")
        assert await connection.fetchval("SELECT 1") == 1
    assert await db.fetchval(f"SELECT ({value})::text")


async def test_an_argument_of_the_wrong_type_is_the_authors_mistake(shop: Shop) -> None:
    db = await shop.db_of("acme")
    with pytest.raises(Exception) as refused:
        await db.fetchval("SELECT $1::int", "canary")
    assert not isinstance(refused.value, Unreachable)
    assert "canary" not in str(refused.value)
