"""Many runs write the same rows in different orders: none waits for another in a circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harvestd.database.pool import Database
from harvestd.errors import DatabaseError
from harvestd.loading.facade import Db
from harvestd.loading.rows import BATCH_ROWS_MAX
from tests.loading.dbs import Shop, a_shop

SCHEMA = """
CREATE TABLE shop.item (
    tenant_id text, kind text COLLATE "C", id bigint, n bigint,
    PRIMARY KEY (tenant_id, kind, id));
"""
ROUNDS, WRITERS, ROWS = 6, 3, 900
KEY = ("kind", "id")


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica with a seat for each writer."""
    async with a_shop(database, database_url, SCHEMA, seats_max=WRITERS) as found:
        yield found


async def test_runs_that_write_the_same_rows_in_any_order_never_deadlock(shop: Shop) -> None:
    dbs = [await shop.db_of("acme", script=f"writer{number}") for number in range(WRITERS)]
    keys = [{"kind": f"kind {n % 7}", "id": n} for n in range(ROWS)]
    chance = random.Random(5)

    async def write(db: Db, n: int) -> None:
        rows = [{**key, "n": n} for key in chance.sample(keys, ROWS)]
        written = await db.upsert("item", rows, ["kind", "id"])
        assert written.inserted + written.updated + written.unchanged == ROWS

    for turn in range(ROUNDS):
        await asyncio.gather(*(write(db, WRITERS * turn + n) for n, db in enumerate(dbs)))
    assert await shop.rows("SELECT count(*)::int FROM shop.item") == [(ROWS,)]


async def test_a_sweep_and_upserts_of_another_run_never_deadlock(shop: Shop) -> None:
    sweeping, *writing = [await shop.db_of("acme", script=f"of{n}") for n in range(WRITERS)]
    keys: list[dict[str, Any]] = [{"kind": f"kind {n % 7}", "id": n} for n in range(ROWS)]
    chance = random.Random(6)
    await sweeping.upsert("item", keys, ["kind", "id"])

    async def write(db: Db, n: int) -> None:
        await db.upsert("item", [{**key, "n": n} for key in chance.sample(keys, ROWS)], list(KEY))

    for turn in range(ROUNDS):  # every other listing has other rows: what it marked is restored
        listed = [(key["kind"], key["id"]) for key in keys if key["id"] % 2 == turn % 2]
        await asyncio.gather(
            *(write(db, WRITERS * turn + n) for n, db in enumerate(writing)),
            sweeping.sweep("item", {}, chance.sample(listed, len(listed)), force=True),
        )
    assert await shop.rows("SELECT count(*)::int FROM shop.item") == [(ROWS,)]


async def test_calls_of_one_run_take_turns_and_never_deadlock(shop: Shop) -> None:
    db = await shop.db_of("acme")
    keys = [{"kind": "a", "id": n, "n": 1} for n in range(ROWS)]

    async def in_a_transaction() -> None:
        async with db.transaction():
            await db.upsert("item", keys, ["kind", "id"])
            await db.upsert("item", keys[::-1], ["kind", "id"])

    async with asyncio.timeout(30):
        await asyncio.gather(
            in_a_transaction(),
            db.upsert("item", keys[::-1], ["kind", "id"]),
            in_a_transaction(),
            db.sweep("item", {}, [("a", n) for n in range(ROWS)]),
        )
    assert await shop.rows("SELECT count(*)::int FROM shop.item") == [(ROWS,)]


async def test_several_batches_in_the_order_of_the_key_never_deadlock_in_transactions(
    shop: Shop,
) -> None:
    dbs = [await shop.db_of("acme", script=f"writer{number}") for number in range(WRITERS)]
    count = 2 * BATCH_ROWS_MAX + 1

    async def write(db: Db, n: int) -> None:
        async with db.transaction():  # what the first batch has locked stays locked in the others
            rows = ({"kind": "a", "id": number, "n": n} for number in range(count))
            await db.upsert("item", rows, list(KEY))

    for turn in range(2):
        await asyncio.gather(*(write(db, WRITERS * turn + n) for n, db in enumerate(dbs)))
    assert await shop.rows("SELECT count(*)::int FROM shop.item") == [(count,)]


async def test_transactions_that_do_wait_in_a_circle_say_so_and_one_of_them_is_whole(
    shop: Shop,
) -> None:
    dbs = [await shop.db_of("acme", script=f"writer{number}") for number in range(2)]
    first_writes = asyncio.Barrier(2)

    async def write(db: Db, ids: list[int]) -> None:
        async with db.transaction():
            for number in ids:
                await db.upsert("item", [{"kind": "a", "id": number, "n": 1}], ["kind", "id"])
                if number == ids[0]:
                    await first_writes.wait()

    async with asyncio.timeout(30):
        ends = await asyncio.gather(
            write(dbs[0], [1, 2]), write(dbs[1], [2, 1]), return_exceptions=True
        )
    (refused,) = [end for end in ends if end is not None]
    assert isinstance(refused, DatabaseError)
    assert "waited for rows of each other" in refused.what
    assert await shop.rows("SELECT count(*)::int FROM shop.item") == [(2,)]
