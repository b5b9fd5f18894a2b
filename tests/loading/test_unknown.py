"""Rows as authors give them: tuples, keys that the table has no column for, the same key twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from harvestd.database.pool import Database
from harvestd.errors import WriteRefused
from tests.loading.dbs import DAY, Shop, a_shop

SCHEMA = """
CREATE TABLE shop.item (tenant_id text, id bigint, title text, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.whole (
    tenant_id text, id bigint, title text, raw jsonb, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.visit (tenant_id text, at text, raw jsonb);
"""


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """Tables with and without a column ``raw``."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


async def raws(shop: Shop, table: str) -> list[Any]:
    """Each row's ``raw``, by id."""
    rows = await shop.rows(f"SELECT raw FROM shop.{table} ORDER BY 1")
    return [None if raw is None else json.loads(raw) for (raw,) in rows]


async def test_what_has_no_column_goes_into_raw(shop: Shop) -> None:
    db = await shop.db_of("acme")
    rows = [
        {"id": 1, "title": "a", "nodeId": "x", "Labels": [1, {"b": None}]},
        {"id": 2, "title": "b"},
    ]
    written = await db.upsert("whole", rows, ["id"])
    assert (written.inserted, written.unchanged) == (2, 0)
    assert await raws(shop, "whole") == [{"nodeId": "x", "Labels": [1, {"b": None}]}, None]
    again = await db.upsert("whole", rows, ["id"])
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 2)


async def test_copied_rows_keep_theirs_too(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.handed_from is not None
    db = shop.db(binding)
    await db.copy("visit", [{"at": "now", "by": "x"}], binding.handed_from + DAY / 2)
    assert await raws(shop, "visit") == [{"by": "x"}]


async def test_where_nothing_keeps_a_key_the_error_names_it_and_the_ways_out(shop: Shop) -> None:
    db = await shop.db_of("acme")
    with pytest.raises(WriteRefused) as refused:
        await db.upsert("item", [{"id": 1, "node_id": "canary"}], ["id"])
    told = f"{refused.value.what} {refused.value.why} {refused.value.next_step}"
    assert "node_id" in told
    assert "raw jsonb" in told
    assert "discard" in told
    assert "canary" not in told


async def test_frozen_means_refused_though_there_is_a_raw(shop: Shop) -> None:
    db = await shop.db_of("acme")
    with pytest.raises(WriteRefused, match="column extra of") as refused:
        await db.upsert("whole", [{"id": 1, "extra": 1}], ["id"], unknown="freeze")
    assert "let raw take it" in str(refused.value.next_step)
    with pytest.raises(WriteRefused, match="column extra of"):  # whose would it be?
        await db.upsert("whole", [{"id": 1, "raw": {}, "extra": 1}], ["id"])
    with pytest.raises(WriteRefused, match="unknown is given as 'ignore'"):
        await db.upsert("whole", [{"id": 1}], ["id"], unknown="ignore")  # type: ignore[arg-type]
    assert await raws(shop, "whole") == []


async def test_discarded_means_left_out(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for table in ("item", "whole"):
        written = await db.upsert(table, [{"id": 1, "extra": 1}], ["id"], unknown="discard")
        assert written.inserted == 1
    assert await raws(shop, "whole") == [None]


@pytest.mark.parametrize("name", ["tenant_id", "written_at", "deleted_at"])
@pytest.mark.parametrize("unknown", [None, "freeze", "discard"])
async def test_the_frameworks_columns_are_never_taken_for_unknown_ones(
    shop: Shop, name: str, unknown: Any
) -> None:
    db = await shop.db_of("acme")
    with pytest.raises(WriteRefused, match=f"column {name} of"):
        await db.upsert("whole", [{"id": 1, name: "globex"}], ["id"], unknown=unknown)


class Item(NamedTuple):
    """As an author may have it."""

    id: int
    title: str


async def test_rows_may_be_tuples_whose_columns_are_named(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await db.upsert("item", [(1, "a"), [2, "b"]], ["id"], columns=["id", "title"])
    await db.upsert("item", [Item(3, "c")], ["id"])
    stored = await shop.rows("SELECT id, title FROM shop.item ORDER BY id")
    assert stored == [(1, "a"), (2, "b"), (3, "c")]
    with pytest.raises(WriteRefused, match="tuple of 1 values"):
        await db.upsert("item", [(1,)], ["id"], columns=["id", "title"])
    with pytest.raises(WriteRefused, match="tuple of 2 values"):
        await db.upsert("item", [(1, "a")], ["id"])


async def test_the_last_of_two_rows_with_one_key_wins_and_the_other_is_counted(shop: Shop) -> None:
    db = await shop.db_of("acme")
    rows = [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}, {"id": 1, "title": "c"}]
    written = await db.upsert("item", rows, ["id"])
    assert (written.inserted, written.updated, written.duplicates) == (2, 0, 1)
    stored = await shop.rows("SELECT id, title FROM shop.item ORDER BY id")
    assert stored == [(1, "c"), (2, "b")]
