"""The driver's traps (research: relsec 4.2, D1 to D9): each is refused by us, in every call.

The error names table, column, key and type, and never the value: not in its text, not in what
it is chained to, not in what the log makes of it.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from string import ascii_letters
from typing import Any

import pytest

from harvestd.database.pool import Database
from harvestd.errors import HarvestdError, WriteRefused
from harvestd.loading.columns import VALUE_BYTES_MAX
from harvestd.loading.facade import Written
from harvestd.observing.tracebacks import describe, summary
from tests.loading.dbs import Shop, a_shop

SECRET = "s3cr3t"
DIGITS = "31337"
TYPES = {
    "words": "text",
    "short": "varchar(12)",
    "payload": "jsonb",
    "plain": "json",
    "amount": "numeric",
    "price": "numeric(6,2)",
    "small": "smallint",
    "whole": "integer",
    "large": "bigint",
    "single": "real",
    "double": "double precision",
    "flag": "boolean",
    "at": "timestamptz",
    "local": "timestamp",
    "day": "date",
    "clock": "time",
    "parts": "bytea",
    "uid": "uuid",
    "names": "text[]",
    "moments": "timestamptz[]",
    "mood": "shop.mood",
    "percent": "shop.percent",
    "address": "inet",
    "during": "interval",
    "span": "int8range",
}
COLUMNS = ", ".join(f"{name} {type_}" for name, type_ in TYPES.items())
SCHEMA = f"""
CREATE TYPE shop.mood AS ENUM ('calm', 'cross');
CREATE DOMAIN shop.percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE shop.item (tenant_id text, id bigint, {COLUMNS}, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.event (tenant_id text, id bigint, {COLUMNS});
CREATE TABLE shop.named (tenant_id text, name text, PRIMARY KEY (tenant_id, name));
CREATE TABLE shop.bound (tenant_id text, id bigint, n integer NOT NULL CONSTRAINT positive CHECK
    (n > 0), PRIMARY KEY (tenant_id, id));
"""
ROWS = "SELECT (SELECT count(*) FROM shop.item) + (SELECT count(*) FROM shop.event)"


def deep(levels: int) -> object:
    """A list in a list in a list."""
    made: list[object] = [SECRET]
    for _ in range(levels):
        made = [made]
    return made


# What is refused, and for which column.
TRAPS: dict[str, list[tuple[str, Any]]] = {
    "D1": [
        ("words", f"{SECRET}\0"),
        ("short", f"{SECRET}\0"),
        ("payload", {"a": [f"{SECRET}\0"]}),
        ("payload", {f"{SECRET}\0": 1}),
        ("plain", f"{SECRET}\0"),
        ("names", [f"{SECRET}\0"]),
    ],
    "D2": [
        ("words", f"{SECRET}\ud800"),
        ("words", SECRET.encode()),
        ("payload", {f"{SECRET}\udfff": 1}),
        ("names", [SECRET, f"{SECRET}\ud800"]),
        ("mood", f"{SECRET}\ud800"),
    ],
    "D3": [
        ("payload", {SECRET: float("nan")}),
        ("payload", [SECRET, float("-inf")]),
        ("plain", {SECRET: float("nan")}),
        ("payload", {SECRET: {1: "a", "1": "b"}}),
        ("payload", {SECRET: Decimal("31337.5")}),
    ],
    "D4": [
        ("amount", Decimal(f"{DIGITS}e131072")),
        ("amount", Decimal(f"{DIGITS}e-20000")),
        ("whole", 31337.75),
        ("large", 31337.0),
        ("large", True),
        ("small", 31337_0),
        ("whole", 31337 << 32),
        ("large", 31337 << 64),
        ("double", 31337 << 60 | 1),
        ("single", 31337e300),
        ("flag", 31337),
        ("at", datetime.max.replace(tzinfo=UTC)),
        ("at", datetime.min.replace(tzinfo=UTC)),
        ("local", datetime.max),  # noqa: DTZ901 - the bound itself
        ("day", date.max),
        ("day", date.min),
        ("day", datetime(2031, 3, 7, tzinfo=UTC)),
        ("moments", [datetime.max.replace(tzinfo=UTC)]),
    ],
    "D6": [
        ("words", SECRET * (1 + VALUE_BYTES_MAX // len(SECRET))),
        ("parts", SECRET.encode() * (1 + VALUE_BYTES_MAX // len(SECRET))),
        ("payload", [SECRET * (1 + VALUE_BYTES_MAX // len(SECRET))]),
        ("payload", deep(600)),
        ("payload", deep(200_000)),
        ("amount", 31337 * 10**5_000),
        ("payload", {SECRET: 31337 * 10**5_000}),
        ("short", SECRET * 3),
    ],
    "D7": [
        ("at", datetime(2031, 3, 7)),  # noqa: DTZ001 - naive, and to be refused or kept so
        ("local", datetime(2031, 3, 7, tzinfo=UTC)),
        ("clock", time(3, 13, 37, tzinfo=timezone(timedelta(hours=2)))),
        ("moments", [datetime(2031, 3, 7)]),  # noqa: DTZ001 - naive, and to be refused or kept so
    ],
    # Only the server knows these types; what it says is told again without the value.
    "the server's": [
        ("price", Decimal("31337.25")),
        ("mood", SECRET),
        ("percent", 31337),
        ("address", SECRET),
        ("during", SECRET),
        ("span", f"[{SECRET},9)"),
    ],
}


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A table with a key, and one without, that have all columns."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


Call = Callable[[str, object], Awaitable[object]]


async def calls_of(shop: Shop) -> dict[str, Call]:
    """Each way in which a script gives a value for a column."""
    db, binding = await shop.db_of("acme"), await shop.claims_run_of("acme", script="copier")
    assert binding.covers is not None
    copier, until = shop.db(binding), binding.covers.end
    return {
        "item, dicts": lambda name, value: db.upsert("item", [{"id": 2, name: value}], ["id"]),
        "item, tuples": lambda name, value: db.upsert(
            "item", [(2, value)], ["id"], columns=["id", name]
        ),
        "event, dicts": lambda name, value: copier.copy("event", [{"id": 2, name: value}], until),
        "event, tuples": lambda name, value: copier.copy(
            "event", [(value, 2)], until, columns=[name, "id"]
        ),
    }


def assert_untold(error: HarvestdError, value: object) -> None:
    """Neither the error, nor its chain, nor the log's lines of it quote ``value``."""
    told = "".join(traceback.format_exception(error)) + str(describe(error)) + str(summary(error))
    spelled = [str(value)] if isinstance(value, datetime | date | time | float) else []
    assert [mark for mark in [SECRET, DIGITS, *spelled] if mark in told] == []
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("trap", TRAPS)
async def test_what_would_be_another_value_is_refused_by_name_and_never_told(
    shop: Shop, trap: str
) -> None:
    types = dict(
        await shop.rows(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'shop.item'::regclass AND attnum > 0"
        )
    )
    for way, call in (await calls_of(shop)).items():
        for name, value in TRAPS[trap]:
            with pytest.raises(WriteRefused) as refused:
                await call(name, value)
            what = refused.value.what
            place = "" if trap == "the server's" else ", row 1 of a batch of 1"
            table = "shop.item, key id" if way.startswith("item") else "shop.event"
            assert what.startswith(f"{table}{place}: "), (way, what)
            assert f"column {name} ({types[name]})" in what
            assert_untold(refused.value, value)
    assert await shop.rows(ROWS) == [(0,)]


@pytest.mark.parametrize("trap", ["D1", "D2", "D4", "D7"])
async def test_the_keys_and_the_scope_of_a_sweep_are_checked_as_rows_are(
    shop: Shop, trap: str
) -> None:
    db = await shop.db_of("acme")
    for name, value in TRAPS[trap]:
        with pytest.raises(WriteRefused) as refused:
            await db.sweep("item", {name: value}, [])
        assert refused.value.what.startswith(f"the scope of a sweep of shop.item: column {name} (")
        assert_untold(refused.value, value)
        if isinstance(value, str):
            with pytest.raises(WriteRefused) as refused:
                await db.sweep("named", {}, ["a", value])
            told = "shop.named, key name, row 2 of a batch of 2: column name (text)"
            assert refused.value.what.startswith(told)
            assert_untold(refused.value, value)


BOOKMARKS = [(trap, value) for trap in TRAPS for name, value in TRAPS[trap] if name == "payload"]


async def test_a_bookmark_is_checked_as_a_document_is(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await db.set_bookmark("7", {"page": 1})

    for _, value in BOOKMARKS:
        with pytest.raises(WriteRefused) as refused:
            await db.set_bookmark("7", value)
        assert refused.value.what == "bookmark '7' (jsonb) cannot take this value"
        assert_untold(refused.value, value)
    for name in ("", "a\0", "a\ud800", "x" * 1_001, 7, None):
        for call in (db.bookmark, lambda name: db.set_bookmark(name, 1)):
            with pytest.raises(WriteRefused, match="no name of a bookmark"):
                await call(name)  # type: ignore[arg-type]

    assert await db.bookmark("7") == {"page": 1}
    await db.set_bookmark("é" * 500, [1, "two", None])
    assert await db.bookmark("é" * 500) == [1, "two", None]


async def test_a_refused_row_is_found_by_its_number(shop: Shop) -> None:
    db = await shop.db_of("acme")
    rows: list[dict[str, Any]] = [{"id": n, "words": "a"} for n in range(900)]

    for number, wrong in ((417, {"words": 5}), (12, {"id": None}), (900, {"flag": 1, "at": None})):
        given = [*rows]
        given[number - 1] = given[number - 1] | wrong
        with pytest.raises(WriteRefused) as refused:
            await db.upsert("item", given, ["id"])
        place = f"shop.item, key id, row {number} of a batch of 900: column {next(iter(wrong))} "
        assert refused.value.what.startswith(place)
    assert await shop.rows(ROWS) == [(0,)]


async def test_what_a_constraint_or_an_index_refuses_is_named(shop: Shop) -> None:
    db = await shop.db_of("acme")
    chance = random.Random(4)
    key = "".join(chance.choices(ascii_letters, k=16_000))  # D6: it cannot be pressed to a third

    with pytest.raises(WriteRefused) as refused:
        await db.upsert("named", [{"name": key}], ["name"])
    assert "shop.named, key name: PostgreSQL refused a value" in refused.value.what
    assert "too long for an index" in refused.value.why
    assert key not in "".join(traceback.format_exception(refused.value))
    for row, said in (
        ({"id": 1, "n": -31337}, "constraint positive"),
        ({"id": 1, "n": None}, "for column n (integer)"),
        ({"id": 1}, "for column n (integer)"),
    ):
        with pytest.raises(WriteRefused) as refused:
            await db.upsert("bound", [row], ["id"])
        assert refused.value.what.startswith("shop.bound, key id: PostgreSQL refused a value")
        assert said in str(refused.value)
        assert_untold(refused.value, row)


@pytest.mark.parametrize(
    "name", ["", "a\0b", "x" * 70, 'a"b', "a;b", "Größe", "A", "1a", "a b", 7, None, b"id"]
)
async def test_d8_a_name_is_of_the_list_or_refused_and_none_is_cut(shop: Shop, name: Any) -> None:
    db, binding = await shop.db_of("acme"), await shop.claims_run_of("acme", script="copier")
    assert binding.covers is not None
    copier, until = shop.db(binding), binding.covers.end
    for call in (
        lambda: db.upsert(name, [{"id": 1}], ["id"]),
        lambda: db.upsert("item", [{"id": 1}], [name]),
        lambda: db.upsert("item", [{"id": 1, name: 1}], ["id"]),
        lambda: db.upsert("item", [(1, 1)], ["id"], columns=["id", name]),
        lambda: copier.copy(name, [{"id": 1}], until),
        lambda: copier.copy("event", [{name: 1}], until),
        lambda: copier.copy("event", [(1,)], until, columns=[name]),
        lambda: db.sweep(name, {}, [1]),
        lambda: db.sweep("item", {name: 1}, [1]),
    ):
        with pytest.raises(WriteRefused, match=r"is no name of a (table|column)"):
            await call()
    assert await shop.rows(ROWS) == [(0,)]


async def test_d9_of_rows_with_one_key_the_last_wins_and_the_others_are_counted(
    shop: Shop,
) -> None:
    db = await shop.db_of("acme")
    tuples = [(1, "a"), (2, "b"), (1, "c")]

    assert await db.upsert("item", tuples[:3], ["id"], columns=("id", "words")) == (
        Written(inserted=2, duplicates=1)
    )
    given: list[dict[str, object]] = [
        {"id": 1, "words": "d"},
        {"id": 1, "whole": 5},
        {"id": 1, "words": "e"},
    ]
    assert await db.upsert("item", given, ["id"]) == Written(updated=1, duplicates=2)

    stored = await db.fetch("SELECT id, words, whole FROM item ORDER BY id")
    assert [tuple(row) for row in stored] == [(1, "e", 5), (2, "b", None)]


@pytest.mark.parametrize("columns", ["n", 7, ["id", "id"], ["id", "words", "id"], None])
async def test_columns_that_would_lose_a_value_are_refused(shop: Shop, columns: Any) -> None:
    db, binding = await shop.db_of("acme"), await shop.claims_run_of("acme", script="copier")
    assert binding.covers is not None
    with pytest.raises(WriteRefused, match=r"columns (names|are given as)"):
        await db.upsert("item", [(1, "a", 2)], ["id"], columns=columns)
    with pytest.raises(WriteRefused, match=r"columns (names|are given as)"):
        await shop.db(binding).copy("event", [(1, "a", 2)], binding.covers.end, columns=columns)
    assert await shop.rows(ROWS) == [(0,)]
