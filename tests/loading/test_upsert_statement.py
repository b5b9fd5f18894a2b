"""Upserts by arrays on a real server: what they write, leave alone and count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from harvestd.errors import WriteRefused
from tests.loading.tables import Connection, connected, shape_of, upsert

FRAMEWORK = "written_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz"


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    """A connection to a database with the empty schema ``probe``."""
    async with connected(empty_database) as found:
        yield found


async def a_table(connection: Connection, columns: str, key: str = "tenant_id, id") -> None:
    """Make ``probe.issue`` with ``columns`` and the framework's."""
    await connection.execute(
        f"CREATE TABLE probe.issue (tenant_id text NOT NULL, {columns}, {FRAMEWORK},"
        f" PRIMARY KEY ({key}))"
    )


async def rows_of(connection: Connection, columns: str) -> list[tuple[Any, ...]]:
    """Those columns of ``probe.issue``, by its first two."""
    found = await connection.fetch(f"SELECT {columns} FROM probe.issue ORDER BY tenant_id, id")
    return [tuple(row) for row in found]


async def test_new_changed_and_unchanged_rows_are_told_apart(connection: Connection) -> None:
    await a_table(connection, "id integer, title text")
    shape = await shape_of(connection, "issue")

    first = await upsert(connection, shape, [{"id": 1, "title": "a"}, {"id": 2, "title": None}])
    before = await rows_of(connection, "id, xmin::text, written_at")
    again = await upsert(
        connection,
        shape,
        [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}, {"id": 3, "title": "c"}],
    )

    assert (first, again) == ((2, 0), (1, 1))
    assert (await rows_of(connection, "id, xmin::text, written_at"))[0] == before[0]
    assert await rows_of(connection, "title") == [("a",), ("b",), ("c",)]


async def test_the_same_rows_of_another_tenant_are_other_rows(connection: Connection) -> None:
    await a_table(connection, "id integer, title text")
    shape = await shape_of(connection, "issue")

    for tenant_id in ("acme", "globex"):
        rows = [{"id": 1, "title": tenant_id}]
        assert await upsert(connection, shape, rows, tenant_id=tenant_id) == (1, 0)

    assert await rows_of(connection, "tenant_id, title") == [("acme",) * 2, ("globex",) * 2]


async def test_a_row_marked_as_deleted_comes_back_even_unchanged(connection: Connection) -> None:
    await a_table(connection, "id integer, title text")
    shape = await shape_of(connection, "issue")
    await upsert(connection, shape, [{"id": 1, "title": "a"}])
    await connection.execute("UPDATE probe.issue SET deleted_at = now(), written_at = '-infinity'")

    assert await upsert(connection, shape, [{"id": 1, "title": "a"}]) == (0, 1)
    assert await rows_of(connection, "deleted_at IS NULL, isfinite(written_at)") == [(True, True)]


async def test_a_table_of_keys_alone_counts_only_new_and_unmarked_rows(
    connection: Connection,
) -> None:
    await a_table(connection, "id integer, label text", key="tenant_id, id, label")
    shape = await shape_of(connection, "issue")
    rows = [{"id": 1, "label": "bug"}, {"id": 1, "label": "urgent"}]

    assert await upsert(connection, shape, rows, key=["label", "id"]) == (2, 0)
    assert await upsert(connection, shape, rows, key=["label", "id"]) == (0, 0)
    await connection.execute("UPDATE probe.issue SET deleted_at = now() WHERE label = 'bug'")
    assert await upsert(connection, shape, rows, key=["label", "id"]) == (0, 1)


async def test_a_column_that_a_row_lacks_keeps_its_value_or_gets_its_default(
    connection: Connection,
) -> None:
    await a_table(connection, "id integer, title text DEFAULT 'untitled', body text")
    shape = await shape_of(connection, "issue")
    await upsert(connection, shape, [{"id": 1, "title": "a", "body": "b"}])

    written = await upsert(connection, shape, [{"id": 1, "body": "c"}, {"id": 2, "body": "d"}])

    assert written == (1, 1)
    assert await rows_of(connection, "title, body") == [("a", "c"), ("untitled", "d")]


async def test_rows_with_one_key_in_a_batch_are_written_as_one(connection: Connection) -> None:
    await a_table(connection, "id numeric, title text, body text")
    shape = await shape_of(connection, "issue")

    written = await upsert(
        connection,
        shape,
        [{"id": 1, "title": "a", "body": "b"}, {"id": 1.0, "title": "c"}, {"id": 1, "body": "d"}],
    )

    assert written == (1, 0)
    assert await rows_of(connection, "title, body") == [("c", "d")]


@pytest.mark.parametrize(
    ("type_", "before", "after"),
    [
        ("json", {"a": 1}, {"a": 2}),
        ("json", [1, 2], [1, 3]),
        ("point", "(1,2)", "(1,3)"),
        ("interval", "1 day", "24 hours"),
        ("numeric", 1, 1.0),
        ("probe.folded", "Acme", "ACME"),
        ("jsonb", {"a": [1, None]}, {"a": [None, 1]}),
        ("text[]", [["a", "b"], ["c", "d"]], ["a", "b", "c", "d"]),
        ("bytea", b"", None),
    ],
)
async def test_every_change_is_seen_also_where_a_type_has_no_or_a_lax_equality(
    connection: Connection, type_: str, before: object, after: object
) -> None:
    await connection.execute(
        'CREATE DOMAIN probe.folded AS text CHECK (lower(VALUE) = lower(VALUE COLLATE "C"))'
    )
    await a_table(connection, f"id integer, value {type_}, other integer")
    shape = await shape_of(connection, "issue")
    assert await upsert(connection, shape, [{"id": 1, "value": before, "other": 1}]) == (1, 0)

    assert await upsert(connection, shape, [{"id": 1, "value": before, "other": 1}]) == (0, 0)
    assert await upsert(connection, shape, [{"id": 1, "value": after, "other": 1}]) == (0, 1)
    assert await upsert(connection, shape, [{"id": 1, "value": after}]) == (0, 0)


@pytest.mark.parametrize(
    "type_",
    ["probe.short", "bit varying(3)", "probe.short[]", "bit(3)", "probe.letters"],
)
async def test_the_server_refuses_what_is_too_long_instead_of_cutting_it(
    connection: Connection, type_: str
) -> None:
    await connection.execute(
        "CREATE DOMAIN probe.short AS character varying(3);"
        "CREATE DOMAIN probe.letters AS character varying(3)[]"
    )
    await a_table(connection, f"id integer, value {type_}")
    shape = await shape_of(connection, "issue")
    fitting: object = ["101"] if shape.columns["value"].is_array else "101"
    longer: object = ["10110"] if shape.columns["value"].is_array else "10110"
    assert await upsert(connection, shape, [{"id": 1, "value": fitting}]) == (1, 0)

    with pytest.raises(asyncpg.DataError):
        await upsert(connection, shape, [{"id": 1, "value": longer}])


async def test_names_that_are_words_of_sql_are_only_names(connection: Connection) -> None:
    await a_table(connection, 'id integer, "user" text, "order" integer, "select" boolean')
    shape = await shape_of(connection, "issue")

    row = {"id": 1, "user": "'; DROP TABLE probe.issue; --", "order": 2, "select": True}

    assert await upsert(connection, shape, [row]) == (1, 0)
    assert await rows_of(connection, '"user", "order", "select"') == [(row["user"], 2, True)]


async def test_a_computed_column_is_left_to_the_database(connection: Connection) -> None:
    await a_table(connection, "id integer, cents integer GENERATED ALWAYS AS (id * 100) STORED")
    shape = await shape_of(connection, "issue")

    assert await upsert(connection, shape, [{"id": 3}]) == (1, 0)
    assert await rows_of(connection, "cents") == [(300,)]
    with pytest.raises(WriteRefused, match="computes"):
        await upsert(connection, shape, [{"id": 3, "cents": 1}])


async def test_of_two_keys_either_finds_the_row_but_the_other_is_not_changed(
    connection: Connection,
) -> None:
    await a_table(connection, "id integer, number integer, title text, UNIQUE (number, tenant_id)")
    shape = await shape_of(connection, "issue")

    with pytest.raises(WriteRefused, match="another unique key"):
        await upsert(connection, shape, [{"id": 1, "number": 1, "title": "a"}])
    assert await upsert(connection, shape, [{"id": 1, "title": "a"}]) == (1, 0)


async def test_a_thousand_rows_of_every_plain_type_go_in_one_statement(
    connection: Connection,
) -> None:
    await a_table(connection, "id bigint, parents text[], payload jsonb, at timestamptz")
    shape = await shape_of(connection, "issue")
    rows = [{"id": n, "parents": [str(n)] * (n % 3), "payload": {"n": n}} for n in range(1000)]

    assert await upsert(connection, shape, rows) == (1000, 0)
    assert await upsert(connection, shape, rows[::-1]) == (0, 0)
    found = await rows_of(connection, "parents, payload::text")
    assert found[2] == (["2", "2"], '{"n": 2}')
