"""Arguments of a script's own SQL: sent as they are, or refused by their number in every call."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from harvestd.database.pool import Database
from harvestd.errors import HarvestdError, RunError
from harvestd.loading.facade import Db
from harvestd.loading.joined import RawConnection
from tests.loading.dbs import Shop, a_shop

SCHEMA = """
CREATE TABLE shop.item (tenant_id text, id bigint, amount numeric, PRIMARY KEY (tenant_id, id));
"""
SECRET = "s3cr3t"
REFUSED: list[tuple[str, object]] = [
    ("text", f"{SECRET}\0"),
    ("text", f"{SECRET}\ud800"),
    ("text", SECRET.encode()),
    ("text", 31337),
    ("text", SECRET * 2_000_000),
    ("text[]", [[SECRET, f"{SECRET}\0"]]),
    ("integer", 31337.5),
    ("integer", True),
    ("integer", 31337 << 32),
    ("integer", SECRET),
    ("bigint[]", {1, 31337.5}),
    ("double precision", 31337 << 60 | 1),
    ("real", 31337e300),
    ("numeric", Decimal("31337e131072")),
    ("numeric", "31337e131072"),
    ("boolean", 31337),
    ("timestamptz", datetime(2031, 3, 7)),  # noqa: DTZ001 - naive, and to be refused or kept so
    ("timestamptz", date(2031, 3, 7)),
    ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    ("timestamptz[]", [None, datetime(2031, 3, 7)]),  # noqa: DTZ001 - naive, and to be refused or kept so
    ("timestamp", datetime(2031, 3, 7, tzinfo=UTC)),
    ("date", datetime(2031, 3, 7, tzinfo=UTC)),
    ("date", date.max),
    ("uuid", SECRET),
    ("time", time(20, 31, tzinfo=UTC)),
    ("jsonb", {SECRET: 1}),
    ("inet", SECRET),
    ("integer[]", SECRET),
    ("integer[]", 31337),
]
ACCEPTED: list[tuple[str, Any]] = [
    ("text", "é\U0001f600"),
    ("varchar(9)", ""),
    ("integer", -5),
    ("integer", None),
    ("bigint[]", [[1, None], [3, 4]]),
    ("double precision", 7),
    ("numeric", Decimal("1.50")),
    ("boolean", False),
    ("timestamptz", datetime(2026, 1, 5, 3, 4, 5, 6, UTC)),
    ("timestamp", datetime(2026, 1, 5)),  # noqa: DTZ001 - naive, and to be refused or kept so
    ("date", date(2026, 1, 5)),
    ("time", time(3, 4)),
    ("uuid", UUID(int=7)),
    ("bytea", b"\0\xff"),
    ("jsonb", '{"a": 1}'),
    ("text[]", []),
]

INSIDE = ("execute", "executemany", "fetch", "fetchrow", "fetchval")
Ask = Callable[..., Awaitable[object]]


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A table to ask for."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


def asking(db: Db) -> dict[str, Ask]:
    """Each call of `db` that takes SQL."""

    async def stream(query: str, *arguments: object) -> object:
        return [row async for row in db.stream(query, *arguments)]

    return {"fetch": db.fetch, "fetchrow": db.fetchrow, "fetchval": db.fetchval, "stream": stream}


def asking_inside(connection: RawConnection, way: str) -> Ask:
    """A call of the connection inside `db.transaction()`; of executemany, its second row."""

    async def executemany(query: str, *arguments: object) -> object:
        await connection.executemany(query, [(None,), arguments])
        return None

    found: Ask = executemany if way == "executemany" else getattr(connection, way)
    return found


def assert_untold(error: HarvestdError) -> None:
    """Nothing of a value is in the error or its chain."""
    told = "".join(traceback.format_exception(error))
    assert [mark for mark in (SECRET, "31337", "2031", "20:31") if mark in told] == []
    assert error.__suppress_context__ or error.__context__ is None


async def test_what_would_be_another_value_is_refused_by_its_number(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for way, ask in asking(db).items():
        for type_, value in REFUSED:
            with pytest.raises(RunError) as refused:
                await ask(f"SELECT $1::{type_}", value)
            assert "argument $1 " in refused.value.what, (way, type_)
            assert_untold(refused.value)
    for type_, value in REFUSED:
        for way in INSIDE:
            with pytest.raises(RunError) as refused:
                async with db.transaction() as connection:
                    await asking_inside(connection, way)(f"SELECT $1::{type_}", value)
            assert "argument $1 " in refused.value.what, (way, type_)
            assert_untold(refused.value)


async def test_everything_else_comes_back_as_it_was_sent(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for type_, value in ACCEPTED:
        assert await db.fetchval(f"SELECT $1::{type_}", value) == value
        async with db.transaction() as connection:
            assert await connection.fetchval(f"SELECT $1::{type_}", value) == value
        assert [row[0] async for row in db.stream(f"SELECT $1::{type_}", value)] == [value]


async def test_a_float_is_found_again_among_decimals_by_its_shortest_spelling(shop: Shop) -> None:
    db = await shop.db_of("acme")
    await db.upsert("item", [{"id": 1, "amount": 0.1}], ["id"])

    assert await db.fetchval("SELECT id FROM item WHERE amount = $1", 0.1) == 1
    async with db.transaction() as connection:
        await connection.executemany(
            "UPDATE item SET amount = $2 WHERE id = $1", ((n, n / 10) for n in (1, 2))
        )
    assert await db.fetchval("SELECT amount::text FROM item") == "0.1"


@pytest.mark.parametrize(
    ("query", "arguments", "said"),
    [
        ("SELECT $1::int", (), "with 1 arguments is given 0"),
        ("SELECT 1", (1,), "with 0 arguments is given 1"),
        ("SELECT $1::int, $2::int", (1,), "with 2 arguments is given 1"),
        ("SELECT '\0'", (), "holds a character"),
        ("SELECT '\ud800'", (), "holds a character"),
        (7, (), "given as int"),
        ("SELECT $1::text[]", (["x" * 1_000_000] * 40,), "more than 33,554,432 bytes"),
    ],
)
async def test_what_is_no_query_is_said_and_not_taken_for_a_lost_connection(
    shop: Shop, query: Any, arguments: tuple[object, ...], said: str
) -> None:
    db = await shop.db_of("acme")
    backend = await db.fetchval("SELECT pg_backend_pid()")

    for ask in asking(db).values():
        with pytest.raises(RunError) as refused:
            await ask(query, *arguments)
        assert said in refused.value.what
    assert await db.fetchval("SELECT pg_backend_pid()") == backend


async def test_several_statements_without_arguments_still_go_in_one_call(shop: Shop) -> None:
    db = await shop.db_of("acme")
    async with db.transaction() as connection:
        await connection.execute(
            "INSERT INTO item (id) VALUES (1); INSERT INTO item (id) VALUES (2)"
        )
    assert await db.fetchval("SELECT count(*) FROM item") == 2


async def test_d5_what_python_cannot_hold_is_said_and_can_be_read_as_text(shop: Shop) -> None:
    db = await shop.db_of("acme")
    for value in (
        "timestamptz '0044-03-15 BC'",
        "timestamptz '20000-01-01 UTC'",
        "date '20000-01-01'",
        "time '24:00'",
    ):
        with pytest.raises(RunError, match="cannot be read") as refused:
            await db.fetch(f"SELECT {value}")
        assert "as text" in refused.value.next_step
        assert await db.fetchval(f"SELECT ({value})::text") is not None
    # As docs/plugins.md says: a moment without a zone is none that the column holds.
    for value, read in (("infinity", datetime.max), ("-infinity", datetime.min)):  # noqa: DTZ901 - the bound itself
        assert await db.fetchval(f"SELECT timestamptz '{value}'") == read
