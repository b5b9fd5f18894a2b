"""What a column takes and what it refuses, without a server."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv6Address

import pytest

from harvestd.errors import WriteRefused
from harvestd.loading.columns import VALUE_BYTES_MAX
from harvestd.loading.values import converter, parameter_type, selected
from harvestd.loading.writes import TableShape, arrays_for
from tests.unit.loading.columns import a_column


def refusal(type_: str, value: object) -> str:
    """The whole text with which a column of ``type_`` refuses ``value``."""
    with pytest.raises(WriteRefused) as caught:
        converter(a_column(type_))(value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "a chained error may quote the value"
    assert "title" in caught.value.what
    assert type_ in caught.value.what
    return str(caught.value)


class Colour(StrEnum):
    RED = "red"


class Mixed(str, Enum):  # noqa: UP042 - the older habit, whose str() is not its value
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Broken(tzinfo):
    """A time zone that raises whatever it is asked."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise RuntimeError("canary")

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        raise RuntimeError("canary")


ALL_TYPES = (
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric(10,2)"),
    *("numeric", "text", "character varying(20)", "character(3)", "bytea", "uuid", "inet"),
    *("date", "timestamp with time zone", "timestamp(3) without time zone", "interval"),
    *("time without time zone", "time with time zone", "json", "jsonb", "github.state"),
    *("text[]", "integer[]", "jsonb[]", "github.state[]"),
)


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_none_passes_for_every_type_of_column(type_: str) -> None:
    columns = {"id": a_column("integer", name="id"), "title": a_column(type_)}
    shape = TableShape("github", "issue", columns, (("tenant_id", "id"),))

    [group] = arrays_for(shape, ["id"], [{"id": 1, "title": None}])

    assert group.arrays[1] in ("{null}", "{NULL}", "NULL", [None])


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_a_value_of_an_unknown_class_is_refused_for_every_type(type_: str) -> None:
    class Canary:
        def __repr__(self) -> str:
            return "canary-value"

        __str__ = __repr__

    for value in (Canary(), Canary, {Canary()}, [Canary()], object()):
        assert "canary-value" not in refusal(type_, value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text", 987654321),
        ("text", b"canary-987654321"),
        ("text", "canary\0987654321"),
        ("text", "canary\ud800987654321"),
        ("character varying(5)", "987654321"),
        ("character(5)", "987654321"),
        ("character varying(5)[]", ["987654321"]),
        ("text[]", "987654321"),
        ("text[]", [987654321]),
        ("text[]", ["987654321\0"]),
        ("text[]", {"987654321"}),
        ("smallint", 987654321),
        ("smallint", True),
        ("integer", 9876543210),
        ("integer", -2147483649),
        ("integer", 987654321.0),
        ("integer", "987654321"),
        ("integer", Decimal(987654321)),
        ("bigint", 1 << 63),
        ("bigint", 10**5000),
        ("real", 9.87654321e300),
        ("real", 9.87654321e-300),
        ("real", 987654321),
        ("double precision", (1 << 53) + 1),
        ("double precision", 10**400),
        ("double precision", False),
        ("double precision", Decimal("9.87654321")),
        ("numeric", Decimal("987654321e131072")),
        ("numeric", Decimal("9.87654321e-16400")),
        ("numeric", Decimal("sNaN")),
        ("numeric", Decimal("NaN987654321")),
        ("numeric", 10**5000),
        ("numeric", "987654321"),
        ("numeric", True),
        ("boolean", 1),
        ("boolean", "true"),
        ("date", datetime(2026, 7, 4, tzinfo=UTC)),
        ("date", date.min),
        ("date", date.max),
        ("date", "2026-07-04"),
        ("timestamp with time zone", datetime(2026, 7, 4)),  # noqa: DTZ001 - naive, and to be refused or kept so
        ("timestamp with time zone", datetime.min.replace(tzinfo=UTC)),
        ("timestamp with time zone", datetime.max.replace(tzinfo=UTC)),
        ("timestamp with time zone", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
        ("timestamp with time zone", datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))),
        ("timestamp with time zone", datetime(2026, 7, 4, tzinfo=Broken())),
        ("timestamp with time zone", date(2026, 7, 4)),
        ("timestamp with time zone", "2026-07-04T00:00:00Z"),
        ("timestamp without time zone", datetime(2026, 7, 4, tzinfo=UTC)),
        ("timestamp without time zone", datetime.max),  # noqa: DTZ901 - the bound itself
        ("timestamp without time zone", datetime.min),  # noqa: DTZ901 - the bound itself
        ("time without time zone", time(1, 2, tzinfo=UTC)),
        ("time with time zone", time(1, 2)),
        ("time with time zone", time(1, 2, tzinfo=Broken())),
        ("time with time zone", time(1, 2, tzinfo=timezone(timedelta(hours=20)))),
        ("interval", 987654321),
        ("uuid", "987654321"),
        ("uuid", 987654321),
        ("bytea", "987654321"),
        ("bytea", [1, 2]),
        ("inet", b"987654321"),
        ("inet", IPv6Address("fe80::1%987654321\0")),
        ("github.state", 1.5),
        ("github.state", True),
        ("jsonb", float("nan")),
        ("jsonb", {"a": [float("-inf")]}),
        ("jsonb", {"canary": "987654321\0"}),
        ("jsonb", "987654321\ud800"),
        ("jsonb", {"987654321\udfff": 1}),
        ("jsonb", {987654321: "a"}),
        ("jsonb", [{None: 1}]),
        ("jsonb", {("a", "b"): 1}),
        ("jsonb", {"a": Decimal("9.87654321")}),
        ("jsonb", datetime(2026, 7, 4, tzinfo=UTC)),
        ("jsonb", b"987654321"),
        ("jsonb", 10**5000),
        ("json", {"a": "\0"}),
        ("integer[]", [[1, 2], [3]]),
        ("integer[]", [[1], 2]),
        ("integer[]", [1, [2]]),
        ("integer[]", [[]]),
        ("integer[]", [[1], None]),
        ("integer[]", [[[[[[[1]]]]]]]),
        ("jsonb[]", {"a": 1}),
    ],
    ids=lambda part: part if isinstance(part, str) and part.isprintable() else type(part).__name__,
)
def test_a_value_that_would_be_changed_or_fail_is_refused_without_being_quoted(
    type_: str, value: object
) -> None:
    text = refusal(type_, value)

    assert "987654321" not in text
    assert "canary" not in text
    assert "9.87654321" not in text


@pytest.mark.parametrize("type_", ["text", "jsonb", "bytea", "github.state", "interval"])
def test_a_value_above_the_bound_is_refused_with_its_size(type_: str) -> None:
    longest = "x" * (VALUE_BYTES_MAX - 2)  # JSON puts quotes around it
    fitting: object = longest.encode() if type_ == "bytea" else longest
    oversized: object = b"x" * 9_000_000 if type_ == "bytea" else "x" * 9_000_000

    assert converter(a_column(type_))(fitting) is not None
    text = refusal(type_, oversized)

    assert f"{VALUE_BYTES_MAX:,}" in text
    assert "9,000,00" in text
    assert len(text) < 400


def test_the_bound_counts_bytes_and_not_characters() -> None:
    assert "8,388,609 bytes" in refusal("text", "é" * (VALUE_BYTES_MAX // 2) + "x")


def test_a_memoryview_is_copied_and_a_released_one_refused() -> None:
    view = memoryview(bytearray(b"ab"))
    sent = converter(a_column("bytea"))(view)
    view.release()

    assert sent == b"ab"
    assert "released" in refusal("bytea", view)


def test_a_list_above_the_bound_is_refused_as_a_whole() -> None:
    assert "bytes" in refusal("text[]", ["x" * 1_000_000] * 9)


def test_json_that_is_too_deep_or_holds_itself_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    deeper_than_allowed: object = 1
    for _ in range(501):
        deeper_than_allowed = {"a": deeper_than_allowed}

    for value in (circle, deep, deeper_than_allowed):
        assert "nested" in refusal("jsonb", value)


def test_the_letters_of_an_escaped_nul_are_no_nul() -> None:
    for text in (r"\u0000", r"a\\u0000", r"\\\u0000"):
        assert json.loads(str(converter(a_column("jsonb"))(text))) == text


def test_json_keeps_what_is_equal_in_python_and_drops_no_key() -> None:
    document = {"a": [1, 1.5, True, None, 'é \\ " \n'], "": {"b": Colour.RED}, "c": (1, 2)}

    assert json.loads(str(converter(a_column("jsonb"))(document))) == {
        "a": [1, 1.5, True, None, 'é \\ " \n'],
        "": {"b": "red"},
        "c": [1, 2],
    }


def test_a_str_of_json_is_a_json_string_and_not_parsed() -> None:
    assert converter(a_column("jsonb"))('{"a": 1}') == '"{\\"a\\": 1}"'


def test_an_instant_is_sent_in_utc_whatever_its_zone() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))

    sent = converter(a_column("timestamp with time zone"))(datetime(2026, 7, 4, 12, tzinfo=zone))

    assert sent == datetime(2026, 7, 4, 6, 30, tzinfo=UTC)
    assert isinstance(sent, datetime)
    assert sent.tzinfo is UTC


def test_subclasses_of_str_and_int_are_sent_as_their_value() -> None:
    assert converter(a_column("text"))(Colour.RED) == "red"
    assert converter(a_column("text[]"))([Mixed.RED]) == '{"red"}'
    assert converter(a_column("github.state"))(Mixed.RED) == '{"red"}'
    assert converter(a_column("integer[]"))([Level.HIGH]) == '{"3"}'
    assert converter(a_column("numeric"))(Level.HIGH) == "3"


def test_a_uuid_may_be_spelled_in_any_way_and_is_one_value() -> None:
    convert = converter(a_column("uuid"))
    wanted = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")

    assert convert("{0F8FAD5B-D9CB-469F-A165-70867728950E}") == wanted
    assert convert(wanted) == wanted


@pytest.mark.parametrize(
    ("type_", "value", "literal"),
    [
        ("text[]", [], "{}"),
        ("text[]", ["a", None, "NULL", ""], '{"a",NULL,"NULL",""}'),
        ("text[]", ['q"', "b\\", "c,d", "{e}", " "], r'{"q\"","b\\","c,d","{e}"," "}'),
        ("text[]", [["a", "b"], ("c", None)], '{{"a","b"},{"c",NULL}}'),
        ("boolean[]", [True, False], '{"1","0"}'),
        ("bytea[]", [b"\x00\xff"], r'{"\\x00ff"}'),
        ("double precision[]", [1, 0.1, float("-inf")], '{"1.0","0.1","-inf"}'),
        ("date[]", [date(987, 6, 5)], '{"0987-06-05"}'),
        ("jsonb[]", [[1], {"a": "b"}], r'{"[1]","{\"a\":\"b\"}"}'),
        ("github.state[]", ["open"], '{"open"}'),
        ("github.state", 'o"pen', r'{"o\"pen"}'),
    ],
)
def test_a_list_becomes_the_literal_of_an_array(type_: str, value: object, literal: str) -> None:
    assert converter(a_column(type_))(value) == literal


@pytest.mark.parametrize(
    ("type_", "parameter", "expression"),
    [
        ("integer", "int4", "x"),
        ("character varying(20)", "text", "x"),
        ("character(3)", "text", "x"),
        ("timestamp(3) with time zone", "timestamptz", "x"),
        ("numeric(10,2)", "text", "x::numeric"),
        ("jsonb", "text", "x::jsonb"),
        ("interval day to second(3)", "text", "x::interval"),
        ("character varying(20)[]", "text", "x::character varying[]"),
        ("character(3)[]", "text", "x::bpchar[]"),
        ("timestamp(3) without time zone[]", "text", "x::timestamp without time zone[]"),
        ("github.state", "text", "(x::github.state[])[1]"),
        ('github."int4(2)"', "text", '(x::github."int4(2)"[])[1]'),
        ("bit(3)", "text", '(x::"bit"[])[1]'),
    ],
)
def test_no_value_is_cast_to_a_type_that_would_cut_it(
    type_: str, parameter: str, expression: str
) -> None:
    assert parameter_type(a_column(type_)) == parameter
    assert selected(a_column(type_), "x") == expression


def test_a_type_of_the_source_called_like_a_built_in_one_is_not_mistaken_for_it() -> None:
    impostor = a_column("github.int4")

    assert converter(impostor)("high") == '{"high"}'
    assert parameter_type(impostor) == "text"


def test_a_wrong_type_is_answered_with_what_to_write_instead() -> None:
    assert "str(value)" in refusal("text", 1)
    assert "decode" in refusal("text", b"a")
    assert "tzinfo=UTC" in refusal("timestamp with time zone", datetime(2026, 7, 4))  # noqa: DTZ001 - naive, and to be refused or kept so
    assert "bigint" in refusal("integer", 1 << 40)
    assert "type Decimal" in refusal("jsonb", Decimal(1))
