"""What is taken for plainly fine at once is what a look at each value would leave as it is."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.errors import WriteRefused
from harvestd.loading.bulk import plainly_fine
from harvestd.loading.columns import VALUE_BYTES_MAX, Column
from harvestd.loading.values import converter
from tests.unit.loading.columns import a_column

NOW = datetime(2026, 1, 5, tzinfo=UTC)
FINE: dict[str, list[object]] = {
    "boolean": [True, None, False],
    "smallint": [-(2**15), 2**15 - 1],
    "integer": [-(2**31), 2**31 - 1, None],
    "bigint": [-(2**63), 2**63 - 1],
    "double precision": [0.5, math.nan, -math.inf, None],
    "text": ["", "plain", None, "\N{SNOWMAN}"],
    "character varying(3)": ["abc", "\N{SNOWMAN}" * 3],
    "bytea": [b"", b"\x00"],
    "uuid": [uuid.UUID(int=1)],
    "date": [date(1, 1, 2), date(9999, 12, 30)],
    "timestamp with time zone": [NOW, None, NOW + timedelta(days=1)],
}
# One that is refused, converted, or of a type that is no other's.
ODD: list[tuple[str, object]] = [
    ("boolean", 1),
    ("smallint", 2**15),
    ("integer", -(2**31) - 1),
    ("bigint", True),
    ("bigint", 1.0),
    ("double precision", 1),
    ("text", "\0"),
    ("text", "\ud800"),
    ("text", "\N{SNOWMAN}" * (VALUE_BYTES_MAX // 3)),
    ("character varying(3)", "abcd"),
    ("bytea", bytearray(b"x")),
    ("uuid", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    ("date", date.max),
    ("date", NOW),
    ("timestamp with time zone", NOW.replace(tzinfo=None)),
    ("timestamp with time zone", NOW.astimezone(timezone(timedelta(hours=1)))),
    ("timestamp with time zone", datetime.max.replace(tzinfo=UTC)),
]


@pytest.mark.parametrize("type_", FINE)
def test_values_that_are_sent_as_they_are_need_no_look_at_each(type_: str) -> None:
    assert plainly_fine(a_column(type_))(FINE[type_])
    assert plainly_fine(a_column(type_))([None, None])


@pytest.mark.parametrize(("type_", "odd"), ODD)
def test_one_odd_value_among_them_does(type_: str, odd: object) -> None:
    assert not plainly_fine(a_column(type_))([*FINE[type_], odd])


@pytest.mark.parametrize("type_", ["numeric", "real", "jsonb", "integer[]", "probe.mood"])
def test_a_type_whose_values_are_converted_is_never_taken_at_once(type_: str) -> None:
    assert not plainly_fine(a_column(type_))([None])


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=-20))])),
    st.decimals().map(Decimal),
)


@settings(max_examples=300, deadline=None, database=None)
@given(st.sampled_from(sorted(FINE)), st.lists(anything, min_size=1, max_size=4))
def test_whatever_is_taken_at_once_is_taken_one_by_one_as_it_is(
    type_: str, values: list[Any]
) -> None:
    column = a_column(type_)
    values += FINE[type_] if plainly_fine(column)(values) else []

    if plainly_fine(column)(values):
        assert [_one(column, value) for value in values] == [*map(repr, values)]


def _one(column: Column, value: object) -> str:
    try:
        return repr(None if value is None else converter(column)(value))
    except WriteRefused as error:
        return str(error)
