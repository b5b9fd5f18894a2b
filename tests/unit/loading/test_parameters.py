"""Columns as the texts that are sent for them, without a server."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest

from harvestd.errors import WriteRefused
from harvestd.loading.parameters import parameter, sent
from tests.unit.loading.columns import a_column

NOON = datetime(2026, 7, 4, 12, 0, 0, 5, tzinfo=UTC)


class Moment(datetime):
    """As pandas has one of its own."""


class Day(date):
    """A date that orjson does not know."""


class Identifier(UUID):
    """A UUID that orjson does not know."""


class Level(int, Enum):
    """Its value is not the number that it is."""

    def __new__(cls, number: int, label: str) -> Level:
        made = int.__new__(cls, number)
        made._value_ = label
        return made

    HIGH = (3, "high")


class Priority(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("type_", "values", "literal"),
    [
        ("boolean", [True, None, False], "{true,null,false}"),
        ("bigint", [-(1 << 63), None, (1 << 63) - 1], f"{{{-(1 << 63)},null,{(1 << 63) - 1}}}"),
        ("integer", [Level.HIGH, Priority.HIGH, 4], "{3,3,4}"),
        ("double precision", [0.1, -0.0, 5e-324], "{0.1,-0.0,5e-324}"),
        ("double precision", [0.1, None, float("nan"), float("-inf")], "{0.1,NULL,nan,-inf}"),
        ("real", [0.1], "{0.10000000149011612}"),
        ("date", [date(987, 6, 5), Day(2026, 7, 4)], '{"0987-06-05","2026-07-04"}'),
        (
            "timestamp with time zone",
            [NOON, None, Moment(1, 1, 2, tzinfo=UTC)],
            '{"2026-07-04 12:00:00.000005+00:00",null,"0001-01-02 00:00:00+00:00"}',
        ),
        (
            "timestamp without time zone",
            [NOON.replace(tzinfo=None)],
            '{"2026-07-04 12:00:00.000005"}',
        ),
        (
            "uuid",
            [Identifier(int=1), UUID(int=2)],
            '{"00000000-0000-0000-0000-000000000001","00000000-0000-0000-0000-000000000002"}',
        ),
        ("jsonb", [{"a": None}, None, "NULL", "\n"], '{"a":null}\nNULL\n"NULL"\n"\\n"'),
        ("json", [(1, 2), 10**30], "[1,2]\n" + str(10**30)),
    ],
)
def test_a_column_is_one_text_that_the_server_takes_apart(
    type_: str, values: list[object], literal: str
) -> None:
    assert sent(a_column(type_), values) == literal


@pytest.mark.parametrize(
    ("type_", "values", "array"),
    [
        ("bytea", [b"\0", None], [b"\0", None]),
        ("text", ['q"', None], ['q"', None]),
        ("numeric", [1, 0.5, None], ["1", "0.5", None]),
        ("text[]", [["a", None], None], ['{"a",NULL}', None]),
    ],
)
def test_texts_and_bytes_are_sent_as_arrays_and_not_read_letter_by_letter(
    type_: str, values: list[object], array: list[object]
) -> None:
    assert sent(a_column(type_), values) == array
    assert "::text::" not in parameter(a_column(type_), 2)


def test_an_integer_is_sent_as_the_array_that_it_is_kept_as() -> None:
    assert parameter(a_column("bigint"), 3) == "$3::text::int8[]"


def test_documents_come_line_by_line() -> None:
    assert parameter(a_column("jsonb"), 2) == (
        "pg_catalog.string_to_array($2::text, E'\\n', 'NULL')"
    )
    assert parameter(a_column("jsonb[]"), 2) == "$2::text[]"


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf"), -float("nan")])
def test_a_number_that_is_none_is_found_among_the_nulls_of_documents(odd: float) -> None:
    documents: list[Any] = [{"a": None, "b": [0.5, "g", -1, 255]}, None, [{"c": (odd, None)}]]

    with pytest.raises(WriteRefused, match="NaN"):
        sent(a_column("jsonb"), documents)


def test_what_only_looks_like_such_a_number_is_none() -> None:
    documents: list[Any] = [None, {"a": None, "b": "ggggggg\x7f\xff", "c": -1, "d": 1.5}]

    lines = str(sent(a_column("jsonb"), documents)).split("\n")

    assert lines[0] == "NULL"
    assert json.loads(lines[1]) == documents[1]
