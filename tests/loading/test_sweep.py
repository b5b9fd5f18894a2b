"""db.sweep: what a complete listing no longer holds is marked as deleted, and nothing else."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from harvestd.database import step
from harvestd.database.pool import Database
from harvestd.errors import LeaseLost, WriteRefused
from harvestd.loading.facade import Db, rows_written_by
from harvestd.loading.spool import MEMORY_BYTES_MAX
from harvestd.loading.sweep import Swept
from tests.builders import query
from tests.clusters import Cluster, database_of
from tests.loading.dbs import Shop, a_shop

TYPES = ("text", "bigint", "uuid", "timestamptz", "numeric(6,1)", "shop.mood")
SCHEMA = """
CREATE TYPE shop.mood AS ENUM ('calm', 'cross', 'glad');
CREATE TABLE shop.label (tenant_id text, repository_id bigint, name text, color text,
    PRIMARY KEY (tenant_id, repository_id, name));
CREATE TABLE shop.item (tenant_id text, id bigint, shelf text, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.plan (tenant_id text PRIMARY KEY, name text);
CREATE TABLE shop.event (tenant_id text, n bigint);
CREATE TABLE shop.ticket (tenant_id text NOT NULL, number int, id text,
    UNIQUE (tenant_id, number));
ALTER TABLE shop.ticket ADD PRIMARY KEY (tenant_id, id);
""" + "".join(
    f"CREATE TABLE shop.t{n} (tenant_id text, id {type_}, PRIMARY KEY (tenant_id, id));\n"
    for n, type_ in enumerate(TYPES)
)


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica, and tables to sweep."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


async def put_items(db: Db, ids: Sequence[int]) -> None:
    """Rows of shop.item."""
    await db.upsert("item", ({"id": n, "shelf": "a"} for n in ids), key=["id"])


async def marked(shop: Shop, table: str = "item", key: str = "id") -> list[Any]:
    """Tenant and key of the rows that are marked."""
    return await shop.rows(
        f"SELECT tenant_id, {key} FROM shop.{table} WHERE deleted_at IS NOT NULL ORDER BY 1, 2"
    )


async def test_what_is_not_seen_is_marked_and_another_tenants_same_keys_are_not(
    shop: Shop,
) -> None:
    acme, globex = [await shop.db_of(tenant_id) for tenant_id in ("acme", "globex")]
    for db in (acme, globex):
        await put_items(db, range(12))

    assert await acme.sweep("item", {}, range(1, 12)) == Swept(marked=1, restored=0, live=11)

    assert await marked(shop) == [("acme", 0)]
    assert (rows_written_by(acme), rows_written_by(globex)) == (13, 12)
    again = await acme.sweep("item", {}, range(1, 12))
    assert again == Swept(marked=0, restored=0, live=11)


async def test_a_scope_limits_the_sweep_and_names_nothing_by_null_too(shop: Shop) -> None:
    db = await shop.db_of("acme")
    rows = [
        {"repository_id": number, "name": name, "color": color}
        for number in (7, 8)
        for name, color in (("bug", None), ("new", "red"), ("old", None))
    ]
    await db.upsert("label", rows, key=["repository_id", "name"])

    assert await db.sweep("label", {"repository_id": 7}, [(7, "bug"), (7, "new")]) == (
        Swept(marked=1, restored=0, live=2)
    )
    nameless = await db.sweep("label", {"repository_id": 8, "color": None}, [(8, "old")])

    assert nameless == Swept(marked=1, restored=0, live=1)
    assert await marked(shop, "label", "repository_id, name") == [
        ("acme", 7, "old"),
        ("acme", 8, "bug"),
    ]


@pytest.mark.parametrize(
    ("number", "keys"),
    [
        (0, ["a", "Ä'\\", "c"]),
        (1, [1, 2**62, -3]),
        (2, [UUID(int=1), "00000000-0000-0000-0000-000000000002", UUID(int=3)]),
        (3, [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]),
        (4, [1, 2.54, 3.0]),
        (5, ["calm", "cross", "glad"]),
    ],
)
async def test_keys_of_every_type_are_found_alone_and_in_tuples(
    shop: Shop, number: int, keys: list[object]
) -> None:
    db, table = await shop.db_of("acme"), f"t{number}"
    await db.upsert(table, [{"id": key} for key in keys], key=["id"])

    assert (await db.sweep(table, {}, keys)).marked == 0
    assert (await db.sweep(table, {"id": keys[2]}, ())).marked == 1
    assert (await db.sweep(table, {}, [(key,) for key in [*keys, *keys]])).restored == 1
    assert await marked(shop, table) == []


async def test_a_mark_goes_with_the_next_upsert_or_listing_that_has_the_row(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await put_items(db, range(3))
    await db.sweep("item", {}, [2])
    written = "SELECT id, written_at, xmin::text FROM shop.item ORDER BY id"
    before = await shop.rows(written)

    await put_items(db, [1])
    assert await marked(shop) == [("acme", 0)]
    assert await db.sweep("item", {}, [0, 1, 2]) == Swept(marked=0, restored=1, live=3)

    after = await shop.rows(written)
    assert [now[1] > then[1] for now, then in zip(after, before, strict=True)] == [
        True,
        True,
        False,
    ]
    assert after[2] == before[2]  # neither marked nor changed: not written again


async def test_a_row_written_since_the_sweep_began_is_newer_than_the_listing(shop: Shop) -> None:
    db, other = await shop.db_of("acme"), await shop.db_of("acme", script="other")
    await put_items(db, [1, 2, 3])
    async with AsyncExitStack() as stack:
        # Its transaction began before the sweep; what it writes may still be newer.
        await stack.enter_async_context(other.transaction())
        await other.fetchval("SELECT 1")

        async def listing() -> AsyncIterator[int]:
            yield 1
            await put_items(db, [4])
            await other.upsert("item", [{"id": 2, "shelf": "b"}, {"id": 5}], key=["id"])
            await stack.aclose()

        swept = await db.sweep("item", {}, listing())

    assert swept == Swept(marked=1, restored=0, live=4)
    assert await marked(shop) == [("acme", 3)]


async def test_more_than_a_tenth_is_marked_only_by_force_and_the_numbers_are_told(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")
    await put_items(db, range(1_200))

    with pytest.raises(WriteRefused) as refused:
        await db.sweep("item", {}, range(121, 1_200))

    assert "mark 121 of 1,200 live rows" in refused.value.what
    assert refused.value.why.startswith("120 may vanish at once")
    assert "force=True" in refused.value.next_step
    assert await marked(shop) == []
    assert (await db.sweep("item", {}, range(120, 1_200))).marked == 120
    forced = await db.sweep("item", {}, (), force=True)
    assert forced == Swept(marked=1_080, restored=0, live=0)


async def test_a_refusal_that_the_script_catches_leaves_its_transaction_whole(shop: Shop) -> None:
    db = await shop.db_of("acme")
    async with db.transaction():
        await put_items(db, range(20))
        with pytest.raises(WriteRefused):
            await db.sweep("item", {}, ())
        for _ in range(2):
            await db.sweep("item", {}, range(10), force=True)
        await db.set_bookmark("swept", value=True)

    assert len(await marked(shop)) == 10
    assert await db.bookmark("swept") is True
    assert rows_written_by(db) == 30


async def test_a_listing_that_breaks_off_marks_nothing(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await put_items(db, range(3))

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("the upstream's")

    with pytest.raises(ConnectionError, match="the upstream's"):
        await db.sweep("item", {}, broken(), force=True)
    assert await marked(shop) == []


async def test_a_run_that_was_taken_over_marks_nothing(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await put_items(db, range(2))

    async def take_over(name: str) -> None:
        if name == "sweep":
            await query(shop.url, "UPDATE data_source_run SET fence = fence + 1")

    step.hook = take_over
    try:
        with pytest.raises(LeaseLost):
            await db.sweep("item", {}, [1])
    finally:
        step.hook = None
    assert await marked(shop) == []


async def test_keys_are_those_of_the_primary_key_whichever_was_made_first(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await db.upsert("ticket", [{"id": "a"}, {"id": "b"}], key=["id"])

    assert (await db.sweep("ticket", {}, ["a"])).marked == 1
    assert await marked(shop, "ticket") == [("acme", "b")]


@pytest.mark.parametrize(
    ("table", "scope", "seen", "said"),
    [
        ("event", {}, [1], "cannot be swept"),
        ("plan", {}, [()], "cannot be swept"),
        ("nothing", {}, [1], "there is no table shop.nothing"),
        ("tickets", {}, [1], "there is no table shop.tickets: did you mean ticket?"),
        ("item", 7, [1], "the scope of a sweep is given as int"),
        ("item", {"tenant_id": "globex"}, [1], "cannot be limited by tenant_id"),
        ("item", {"written_at": None}, [1], "cannot be limited by written_at"),
        ("item", {"colour": "red"}, [1], "cannot be limited by colour"),
        ("item", {"id": "seven"}, [1], "cannot take a value of type str"),
        ("item", {}, [1, None], "column id is None"),
        ("item", {}, ["1"], "cannot take a value of type str"),
        ("item", {}, [(1, 2)], "tuple of 2 values"),
        ("item", {}, [{"id": 1, "shelf": "a"}], "with more than id"),
        ("label", {}, ["bug"], "a row is given as str"),
        ("item", {}, "12", "rows are given as str"),
    ],
)
async def test_what_is_no_sweep_is_refused(
    shop: Shop, table: str, scope: Any, seen: Any, said: str
) -> None:
    db = await shop.db_of("acme")
    await put_items(db, [1])

    with pytest.raises(WriteRefused) as refused:
        await db.sweep(table, scope, seen, force=True)

    assert said in refused.value.what
    assert await marked(shop) == []


async def test_a_hundred_thousand_keys_are_compared_in_bounded_memory_whatever_is_estimated(
    shop: Shop, server: Cluster
) -> None:
    db = await shop.db_of("acme")
    for tenant_id in ("globex", "acme"):
        await query(
            shop.url,
            "INSERT INTO shop.item (tenant_id, id, shelf, written_at)"
            " SELECT $1, n, 'a', now() - interval '1 hour' FROM generate_series(1, 100000) AS n",
            tenant_id,
        )
        if tenant_id == "globex":  # whose rows are the only ones that the planner knows of
            await query(server.admin_url(database_of(shop.url)), "ANALYZE shop.item")
    tracemalloc.start()
    try:
        async with asyncio.timeout(60):  # compared one by one it would take hours
            swept = await db.sweep("item", {}, (n for n in range(5_001, 105_001)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert swept == Swept(marked=5_000, restored=0, live=95_000)
    assert peak < 2 * MEMORY_BYTES_MAX
    assert await shop.rows(
        "SELECT tenant_id, count(*) FROM shop.item WHERE deleted_at IS NOT NULL GROUP BY 1"
    ) == [("acme", 5_000)]
