"""The same values by every call of `db` that takes any: what is stored is what was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from harvestd.database.pool import Database
from harvestd.loading.facade import Db, Written
from harvestd.loading.sweep import Swept
from tests.loading.dbs import Shop, a_shop

# Each type's edges, and a value between; all of them different.
VALUES: dict[str, list[Any]] = {
    "boolean": [False, True],
    "smallint": [-(1 << 15), 0, (1 << 15) - 1],
    "integer": [-(1 << 31), 0, (1 << 31) - 1],
    "bigint": [-(1 << 63), 0, (1 << 63) - 1],
    "real": [-3.4028234663852886e38, 0.5, 1.401298464324817e-45],
    "double precision": [-1.7976931348623157e308, 0.1, 5e-324, float("inf"), float("-inf")],
    "numeric": [Decimal(10) ** 131_071, Decimal("0.1"), Decimal(1).scaleb(-16_383), -(10**4_299)],
    "numeric(6,2)": [Decimal("-9999.99"), Decimal("0.01"), 12],
    "text": ["", "NULL", "{}", '"\\', "é\U0001f600", "a\tb\n", "x" * 2_000],
    "character varying(3)": ["", "abc", "éé\U0001f600"],
    "bytea": [b"", b"\0\xff", bytes(range(256))],
    "uuid": [UUID(int=0), UUID(int=(1 << 128) - 1)],
    "date": [date(1, 1, 2), date(2024, 2, 29), date(9999, 12, 30)],
    "timestamp with time zone": [
        datetime(1, 1, 1, 0, 0, 0, 1, UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_998, UTC),
    ],
    "timestamp without time zone": [
        datetime(1, 1, 1, 0, 0, 0, 1),  # noqa: DTZ001 - naive, and to be refused or kept so
        datetime(9999, 12, 31, 23, 59, 59, 999_998),  # noqa: DTZ001 - naive, and to be refused or kept so
    ],
    "time without time zone": [time(0), time(23, 59, 59, 999_999)],
    "interval": [timedelta(days=-99_999), timedelta(microseconds=1)],
    "jsonb": [{}, [], "text", 0, True, {"a": [None, {"é": 1.5}]}],
    "text[]": [[], ["a", None, "NULL"], [["a", "b"], ["c", 'd"']]],
    "bigint[]": [[], [1, None, -(1 << 63)]],
    "shop.mood": ["calm", 'so "so"'],
    "shop.percent": [0, 100],
    "int8range": ["[1,5)", "empty"],
}
NUMBERED = list(enumerate(VALUES))
SCHEMA = """
CREATE TYPE shop.mood AS ENUM ('calm', 'so "so"');
CREATE DOMAIN shop.percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
""" + "".join(
    f"""
CREATE TABLE shop.item{n} (tenant_id text, id bigint, value {type_}, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.event{n} (tenant_id text, id bigint, value {type_});
CREATE TABLE shop.key{n} (tenant_id text, value {type_}, PRIMARY KEY (tenant_id, value));
"""
    for n, type_ in NUMBERED
)


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """Three tables of each type: with a key, without one, and whose key it is."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


async def spelled(shop: Shop, table: str) -> list[tuple[int, str]]:
    """What is stored, as the server spells it."""
    return await shop.rows(f"SELECT id, value::text FROM shop.{table} ORDER BY id")


async def test_dicts_and_tuples_upserted_and_copied_are_stored_alike(shop: Shop) -> None:
    db, binding = await shop.db_of("acme"), await shop.claims_run_of("acme", script="copier")
    assert binding.covers is not None
    copier, half = shop.db(binding), (binding.covers.end - binding.covers.start) / 2
    for n, type_ in NUMBERED:
        values = [*VALUES[type_], None]
        dicts: list[dict[str, object]] = [{"id": i, "value": one} for i, one in enumerate(values)]
        tuples: list[Sequence[object]] = [(one, i) for i, one in enumerate(values)]
        columns = ["value", "id"]

        assert await db.upsert(f"item{n}", dicts, ["id"]) == Written(inserted=len(values))
        stored = await spelled(shop, f"item{n}")
        again = await db.upsert(f"item{n}", tuples, ["id"], columns=columns)
        assert again == Written(unchanged=len(values)), type_
        await copier.copy(f"event{n}", dicts, binding.covers.start + half)
        assert await spelled(shop, f"event{n}") == stored, type_
        await copier.copy(f"event{n}", tuples, binding.covers.start + half, columns=columns)
        assert (
            await shop.rows(
                f"SELECT id, value::text FROM shop.event{n} GROUP BY 1, 2 HAVING count(*) = 2"
                " ORDER BY id"
            )
            == stored
        ), type_


async def sweeps(db: Db, n: int, values: list[Any]) -> None:
    """What is listed stays, the rest is marked, and what is listed again is restored."""
    table = f"key{n}"
    rows = [{"value": one} for one in values]
    assert await db.upsert(table, rows, ["value"]) == Written(inserted=len(values))
    assert (await db.sweep(table, {}, [(one,) for one in values])) == Swept(0, 0, len(values))
    assert (await db.sweep(table, {}, [(values[0],)], force=True)).marked == len(values) - 1
    assert (await db.sweep(table, {}, [(one,) for one in values])).restored == len(values) - 1
    for value in values:
        assert (await db.sweep(table, {"value": value}, [])).marked == 1


async def test_a_sweep_finds_keys_and_scopes_of_every_type(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for n, type_ in NUMBERED:
        # An entry of an index has a third of a page.
        await sweeps(db, n, [one for one in VALUES[type_] if type_ != "numeric" or abs(one) < 1])


SENT = [n for n, type_ in NUMBERED if type_ not in ("jsonb", "int8range", "numeric(6,2)")]


async def test_an_argument_finds_the_row_that_has_the_value(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for n, type_ in NUMBERED:
        if n not in SENT:
            continue
        rows = [{"id": i, "value": one} for i, one in enumerate(VALUES[type_])]
        await db.upsert(f"item{n}", rows, ["id"])
        query = f"SELECT id FROM item{n} WHERE value = $1"
        for row in rows:
            assert await db.fetchval(query, row["value"]) == row["id"], type_
            async with db.transaction() as connection:
                assert await connection.fetchval(query, row["value"]) == row["id"], type_
            assert [one["id"] async for one in db.stream(query, row["value"])] == [row["id"]]


async def test_a_bookmark_comes_back_equal(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for value in [*VALUES["jsonb"], *VALUES["text"], 0.1, [[[]]], "é" * 100_000]:
        await db.set_bookmark("7", value)
        assert await db.bookmark("7") == value
    await db.set_bookmark("7", None)
    assert await db.bookmark("7") is None
