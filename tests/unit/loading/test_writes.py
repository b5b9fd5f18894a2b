"""Upserts as text and arrays, without a server."""

from __future__ import annotations

import json
import tracemalloc
from collections import namedtuple
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.errors import WriteRefused
from harvestd.loading.columns import Column
from harvestd.loading.rows import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Row, batches
from harvestd.loading.writes import (
    Group,
    TableShape,
    arrays_for,
    checked_name,
    quoted,
    upsert_statement,
)


def a_shape(
    columns: str = "id:integer title:text body:text",
    keys: Sequence[tuple[str, ...]] = (("tenant_id", "id"),),
    framework: bool = True,
) -> TableShape:
    """github.issue with ``columns`` (name:type), its keys, and the framework's columns."""
    pairs = [("tenant_id", "text"), *(tuple(one.split(":")) for one in columns.split())]
    if framework:
        pairs += [(name, "timestamp with time zone") for name in ("written_at", "deleted_at")]
    found = {
        name: Column(
            name,
            type_,
            is_array=type_.endswith("[]"),
            generated=name == "computed",
            in_key=any(name in key for key in keys),
        )
        for name, type_ in pairs
    }
    return TableShape("github", "issue", found, tuple(keys))


def elements(array: object) -> list[object]:
    """Of an array of numbers, which is one text, or of texts."""
    return array if isinstance(array, list) else json.loads(f"[{str(array)[1:-1]}]")


def applied(batch: Sequence[Row], key: str = "id") -> dict[object, dict[str, object]]:
    """What a table holds after the rows were upserted one by one."""
    table: dict[object, dict[str, object]] = {}
    for row in batch:
        table.setdefault(row[key], {}).update(row)
    return table


def test_the_statement_writes_only_rows_that_changed() -> None:
    statement = upsert_statement(a_shape(), ["title", "id"], ["id"])

    assert statement == (
        """\
WITH written AS (
    INSERT INTO "github"."issue" AS stored ("tenant_id", "id", "title")
    SELECT $1::text, incoming."id", incoming."title"
    FROM (SELECT unnest($2::text::int4[]) AS "id", unnest($3::text[]) AS "title") AS incoming
    ORDER BY 2
    ON CONFLICT ("tenant_id", "id") DO UPDATE
    SET "title" = excluded."title", deleted_at = NULL, written_at = statement_timestamp()
    WHERE ROW(stored."title")::record *<> ROW(excluded."title")::record """
        """OR stored.deleted_at IS NOT NULL
    RETURNING (stored.xmax = 0) AS fresh
)
SELECT count(*) FILTER (WHERE fresh) AS inserted, count(*) FILTER (WHERE NOT fresh) AS updated
FROM written"""
    )


def test_a_table_of_keys_alone_is_only_unmarked() -> None:
    marked = upsert_statement(a_shape("id:integer"), ["id"], ["id"])
    plain = upsert_statement(a_shape("id:integer", framework=False), ["id"], ["id"])

    assert "SET deleted_at = NULL, written_at = statement_timestamp()\n    WHERE stored." in marked
    assert "DO NOTHING" in plain


def test_the_key_may_be_given_in_any_order() -> None:
    shape = a_shape("repository:text sha:text n:integer", [("tenant_id", "repository", "sha")])

    texts = {
        upsert_statement(shape, ["n", "sha", "repository"], key)
        for key in (["sha", "repository"], ["repository", "sha"])
    }

    assert len(texts) == 1
    assert 'ON CONFLICT ("tenant_id", "repository", "sha")' in texts.pop()


def test_a_table_with_one_row_a_tenant_has_an_empty_key() -> None:
    shape = a_shape("plan:text", [("tenant_id",)])

    assert 'ON CONFLICT ("tenant_id")' in upsert_statement(shape, ["plan"], [])
    assert arrays_for(shape, [], [{"plan": "a"}, {"plan": "b"}]) == [Group(("plan",), 1, [["b"]])]


@pytest.mark.parametrize(
    ("columns", "key", "said"),
    [
        (["id", "titel"], ["id"], "no such column; it has id, title, body"),
        (["id", "title"], ["title"], "its keys, each with the tenant id"),
        (["id", "title"], ["id", "title"], "key=['id']"),
        (["id", "title"], [], "key=['id']"),
        (["id", "title"], ["id", "tenant_id"], "never the author's job"),
        (["id", "tenant_id"], ["id"], "never the author's job"),
        (["id", "written_at"], ["id"], "harvestd keeps it itself"),
        (["id", "deleted_at"], ["id"], "harvestd keeps it itself"),
        (["title"], ["id"], "lacks id"),
        (["id", 'a"; DROP TABLE b'], ["id"], "is no name of a column"),
        (["id"], ["a b"], "is no name of a column"),
    ],
)
def test_what_may_not_be_written_is_refused_with_a_way_out(
    columns: list[str], key: list[str], said: str
) -> None:
    with pytest.raises(WriteRefused, match="next:") as caught:
        upsert_statement(a_shape(), columns, key)

    assert said in str(caught.value)


@pytest.mark.parametrize("key", [None, "id", 7])
def test_a_key_that_is_no_list_is_told_what_it_is_for(key: Any) -> None:
    with pytest.raises(WriteRefused, match=r"upsert needs one; next: key="):
        upsert_statement(a_shape(), ["id"], key)


def test_a_computed_column_cannot_be_set() -> None:
    with pytest.raises(WriteRefused, match="computes"):
        upsert_statement(a_shape("id:integer computed:text"), ["id", "computed"], ["id"])


def test_a_column_of_another_key_cannot_be_set_because_its_changes_would_be_lost() -> None:
    shape = a_shape("id:integer number:integer", [("tenant_id", "id"), ("tenant_id", "number")])

    with pytest.raises(WriteRefused, match="part of another unique key"):
        upsert_statement(shape, ["id", "number"], ["id"])


def test_a_table_without_key_takes_no_upsert() -> None:
    with pytest.raises(WriteRefused, match="only be appended"):
        upsert_statement(a_shape(keys=()), ["id"], ["id"])


@pytest.mark.parametrize(
    "name", ["", "Issue", "1st", "a" * 64, "a-b", "a.b", "é", "a\0", '"a"', "a\n", "_a", "ａ"]
)
def test_a_name_outside_the_allow_list_is_refused(name: str) -> None:
    with pytest.raises(WriteRefused, match="no name of a table"):
        checked_name(name, "table")


def test_a_name_of_63_letters_digits_and_underscores_is_taken() -> None:
    assert checked_name("a1_" * 21, "table") == "a1_" * 21


def test_a_quote_in_an_identifier_is_doubled() -> None:
    assert quoted('a"b') == '"a""b"'


def test_of_rows_with_one_key_the_later_wins() -> None:
    batch: list[Row] = [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}, {"id": 1, "title": "c"}]

    groups = arrays_for(a_shape(), ["id"], batch)

    assert groups == [Group(("id", "title"), 2, ["{1,2}", ["c", "b"]])]


def test_a_column_that_a_row_lacks_keeps_what_an_earlier_row_gave() -> None:
    batch: list[Row] = [
        {"id": 1, "title": "a"},
        {"id": 1, "body": "b"},
        {"title": "c", "id": 1},
        {"id": 2, "body": None},
    ]

    assert arrays_for(a_shape(), ["id"], batch) == [
        Group(("id", "title", "body"), 1, ["{1}", ["c"], ["b"]]),
        Group(("id", "body"), 1, ["{2}", [None]]),
    ]


def test_rows_with_their_columns_in_another_order_are_one_group() -> None:
    groups = arrays_for(a_shape(), ["id"], [{"id": 1, "title": "a"}, {"title": "b", "id": 2}])

    assert groups == [Group(("id", "title"), 2, ["{1,2}", ["a", "b"]])]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.integers(0, 5)},
            optional={"title": st.sampled_from("abc"), "body": st.none() | st.just("x")},
        )
    )
)
def test_groups_hold_each_key_once_and_say_what_the_rows_said_one_by_one(batch: list[Row]) -> None:
    groups = arrays_for(a_shape(), ["id"], batch)
    rows = [
        dict(zip(group.columns, values, strict=True))
        for group in groups
        for values in zip(*map(elements, group.arrays), strict=True)
    ]

    assert {row["id"]: row for row in rows} == applied(batch)
    assert len(rows) == len(applied(batch))
    assert len({group.columns for group in groups}) == len(groups)


def test_one_key_spelled_in_two_ways_is_one_row() -> None:
    numbers = a_shape("id:numeric title:text")
    uuids = a_shape("id:uuid title:text")
    spelled = "0f8fad5b-d9cb-469f-a165-70867728950e"

    (by_number,) = arrays_for(
        numbers, ["id"], [{"id": Decimal("1.0"), "title": "a"}, {"id": 1, "title": "b"}]
    )
    (by_uuid,) = arrays_for(
        uuids, ["id"], [{"id": spelled, "title": "a"}, {"id": spelled.upper(), "title": "b"}]
    )

    assert by_number.arrays[1] == ["b"]
    assert by_uuid.arrays[1] == ["b"]


def test_none_in_a_key_is_refused_since_it_would_be_added_again_each_time() -> None:
    with pytest.raises(
        WriteRefused, match=r"github\.issue, key id, row 2 of .*: column id is None"
    ):
        arrays_for(a_shape(), ["id"], [{"id": 1}, {"id": None}])


def test_a_refused_value_is_named_by_table_key_row_and_column_and_not_quoted() -> None:
    with pytest.raises(WriteRefused) as caught:
        arrays_for(a_shape(), ["id"], [{"id": 1, "title": b"canary"}])

    assert caught.value.what.startswith(
        "github.issue, key id, row 1 of a batch of 1: column title (text)"
    )
    assert "canary" not in str(caught.value)


def test_a_refused_column_is_told_with_its_table_once() -> None:
    with pytest.raises(WriteRefused) as caught:
        arrays_for(a_shape(), ["id"], [{"id": 1, "titel": "a"}])

    assert caught.value.what == "column titel of github.issue cannot be set"


def test_a_row_whose_names_are_no_text_is_refused() -> None:
    with pytest.raises(WriteRefused, match="no name of a column"):
        arrays_for(a_shape(), ["id"], [{"id": 1, 7: "a"}])  # type: ignore[dict-item]


async def collected(rows: object, columns: Sequence[str] = ()) -> list[list[Row]]:
    return [batch async for batch in batches(rows, columns=columns)]  # type: ignore[arg-type]


async def test_a_batch_ends_at_its_bound_of_rows_and_none_is_lost() -> None:
    found = await collected({"id": number} for number in range(2 * BATCH_ROWS_MAX + 1))

    assert [len(batch) for batch in found] == [BATCH_ROWS_MAX, BATCH_ROWS_MAX, 1]
    assert [row["id"] for batch in found for row in batch] == list(range(2 * BATCH_ROWS_MAX + 1))


async def test_a_batch_ends_at_its_bound_of_bytes_and_a_larger_row_is_alone() -> None:
    third, larger = BATCH_BYTES_MAX // 3, BATCH_BYTES_MAX + 1
    sizes = [third, third, third, larger, 5, 5]

    found = await collected({"body": "x" * size} for size in sizes)

    assert [len(batch) for batch in found] == [3, 1, 2]


async def test_an_asynchronous_producer_is_read_as_it_yields() -> None:
    async def produce() -> AsyncIterator[Row]:
        for number in range(BATCH_ROWS_MAX + 5):
            yield {"id": number}

    assert [len(batch) for batch in await collected(produce())] == [BATCH_ROWS_MAX, 5]


async def test_a_producer_may_use_one_dict_again_and_again() -> None:
    def produce() -> Iterator[Row]:
        row: dict[str, object] = {}
        for number in range(3):
            row["id"] = number
            yield row

    assert await collected(produce()) == [[{"id": 0}, {"id": 1}, {"id": 2}]]


async def test_named_tuples_and_tuples_with_named_columns_are_rows() -> None:
    pair = namedtuple("pair", ["id", "title"])

    assert await collected([pair(1, "a")]) == [[{"id": 1, "title": "a"}]]
    assert await collected([(1, "a")], ["id", "title"]) == [[{"id": 1, "title": "a"}]]


@pytest.mark.parametrize(
    "rows",
    [{"id": 1}, "canary", b"canary", 7, None, [("canary", 1)], ["canary"], [None], [7]],
)
async def test_what_is_no_rows_is_refused_and_not_quoted(rows: object) -> None:
    with pytest.raises(WriteRefused, match="next:") as caught:
        await collected(rows)

    assert "canary" not in str(caught.value)


async def test_no_rows_make_no_batch() -> None:
    assert await collected([]) == []


async def test_a_row_that_is_too_large_or_holds_itself_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    circle.append(circle)

    for value in (circle, ["x" * 1_000_000] * 40, {"a": {"b": "x" * 40_000_000}}):
        with pytest.raises(WriteRefused, match="more than 33,554,432 bytes"):
            await collected([{"body": value}])


async def test_memory_stays_bounded_however_many_rows_there_are() -> None:
    def produce() -> Iterator[Row]:
        for number in range(300):
            yield {"id": number, "body": "x" * 100_000 + str(number)}

    tracemalloc.start()
    try:
        async for batch in batches(produce()):
            assert len(batch) <= 41
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * BATCH_BYTES_MAX
