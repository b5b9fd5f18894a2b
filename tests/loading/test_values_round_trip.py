"""What a column accepts comes back equal from a real server, and the rest is refused by us."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from ipaddress import ip_interface, ip_network
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harvestd.errors import WriteRefused
from harvestd.loading import values
from harvestd.loading.values import converter
from harvestd.loading.writes import TableShape
from tests.clusters import Cluster, create_database, drop_database
from tests.loading.tables import Connection, connected, shape_of, upsert

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
awkward = st.sampled_from(["NULL", "{}", '"', "\\", "a,b", " ", "\\u0000", "'", "é", "😀", "\n\t"])
naive = st.datetimes(datetime(1, 1, 1, 0, 0, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - naive, and to be refused or kept so
instants = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 - naive, and to be refused or kept so
    datetime(9999, 12, 30),  # noqa: DTZ001 - naive, and to be refused or kept so
    timezones=zones,
)
days = st.dates(date(1, 1, 2), date(9999, 12, 30))
singles = st.floats(width=32)
decimals = (
    st.decimals(allow_nan=False)
    | st.just(Decimal("NaN"))
    | st.builds(
        lambda digits, exponent: Decimal(digits).scaleb(exponent),
        st.integers(-(10**20), 10**20),
        st.integers(-300, 300),
    )
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts | awkward,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | awkward, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


addresses = st.ip_addresses()
interfaces = st.tuples(addresses, st.integers(1, 31)).map("{0[0]}/{0[1]}".format).map(ip_interface)
bounds = st.tuples(st.integers(-(10**9), -1), st.integers(1, 10**9))


def viewed(part: bytes) -> memoryview:
    return memoryview(part)


def rectangles(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists of one to three dimensions, with None among the elements."""
    cells = elements | st.none()
    flat = st.lists(cells, max_size=4)
    square = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
        lambda size: st.lists(
            st.lists(cells, min_size=size[0], max_size=size[0]),
            min_size=size[1],
            max_size=size[1],
        )
    )
    return flat | square | square.map(lambda inner: [inner, inner])


ACCEPTED: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "smallint": st.integers(-(1 << 15), (1 << 15) - 1),
    "integer": st.integers(-(1 << 31), (1 << 31) - 1),
    "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "real": singles | st.integers(-(1 << 24), 1 << 24),
    "double precision": st.floats() | st.integers(-(1 << 53), 1 << 53),
    "numeric": decimals | st.integers() | st.floats(),
    "text": texts | awkward,
    "character varying(12)": texts | awkward,
    "character(12)": texts.map(lambda text: text.rstrip(" ")),
    "bytea": st.binary() | st.binary().map(bytearray) | st.binary().map(viewed),
    "uuid": st.uuids() | st.uuids().map(str),
    "date": days,
    "timestamp with time zone": instants,
    "timestamp without time zone": naive,
    "time without time zone": st.times(),
    "time with time zone": st.times(timezones=zones),
    "interval": st.timedeltas(timedelta(days=-(10**8)), timedelta(days=10**8)),
    "json": documents,
    "jsonb": documents,
    "probe.mood": st.sampled_from(["calm", "very, {angry}", 'so "so"', "NULL"]),
    "probe.percent": st.integers(0, 100),
    "probe.word": texts,
    "boolean[]": rectangles(st.booleans()),
    "bigint[]": rectangles(st.integers(-(1 << 63), (1 << 63) - 1)),
    "double precision[]": rectangles(st.floats()),
    "numeric[]": rectangles(st.decimals(allow_nan=False, allow_infinity=False)),
    "text[]": rectangles(texts | awkward),
    "character varying(12)[]": rectangles(texts | awkward),
    "bytea[]": rectangles(st.binary()),
    "uuid[]": rectangles(st.uuids()),
    "date[]": rectangles(days),
    "timestamp with time zone[]": rectangles(instants),
    "interval[]": rectangles(st.timedeltas(timedelta(days=-999), timedelta(days=999))),
    "jsonb[]": st.lists(documents, max_size=4),
    "probe.mood[]": rectangles(st.sampled_from(["calm", 'so "so"', "NULL"])),
    "bpchar": texts.map(lambda text: text.rstrip(" ")),
    "smallint[]": rectangles(st.integers(-(1 << 15), (1 << 15) - 1)),
    "integer[]": rectangles(st.integers(-(1 << 31), (1 << 31) - 1)),
    "real[]": rectangles(singles),
    "json[]": st.lists(documents, max_size=4),
    "timestamp without time zone[]": rectangles(naive),
    "time with time zone[]": rectangles(st.times(timezones=zones)),
    "probe.percent[]": rectangles(st.integers(0, 100)),
    "probe.words": rectangles(texts),
    "inet": addresses | interfaces | addresses.map(str),
    "cidr": addresses.map(ip_network),
    "inet[]": rectangles(addresses),
}

# Sent as the text in which the server gives them back.
SPELLED: dict[str, st.SearchStrategy[str]] = {
    "bit(5)": st.text("01", min_size=5, max_size=5),
    "bit varying(9)": st.text("01", max_size=9),
    "macaddr": st.binary(min_size=6, max_size=6).map(lambda part: part.hex(":")),
    "int8range": st.just("empty") | bounds.map("[{0[0]},{0[1]})".format),
    "int8multirange": bounds.map("{{[{0[0]},{0[1]})}}".format),
    "numrange": bounds.map("({0[0]},{0[1]}]".format),
    "point": st.tuples(st.integers(-99, 99), st.integers(-99, 99)).map("({0[0]},{0[1]})".format),
    "pg_lsn": st.tuples(st.integers(1, 99), st.integers(1, 99)).map("{0[0]}/{0[1]}".format),
    "probe.pair": st.integers(-99, 99).map('({},"so ""so"", \\\\ é")'.format),
    "int8range[]": st.lists(bounds, min_size=1, max_size=3).map(
        lambda found: "{" + ",".join(f'"[{low},{high})"' for low, high in found) + "}"
    ),
}

TYPES = """
CREATE TYPE probe.mood AS ENUM ('calm', 'very, {angry}', 'so "so"', 'NULL');
CREATE DOMAIN probe.percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN probe.word AS character varying(12);
CREATE DOMAIN probe.words AS character varying(12)[];
CREATE TYPE probe.pair AS (number integer, word text);
"""


@pytest.fixture(scope="module")
async def shapes(server: Cluster) -> AsyncIterator[tuple[Connection, dict[str, TableShape]]]:
    """A connection, and for each type the shape of a table with a ``value`` of it."""
    database = await create_database(server)
    async with connected(server.url(database)) as connection:
        await connection.execute(TYPES)
        found = {}
        for number, type_ in enumerate((*ACCEPTED, *SPELLED, *ROUNDED)):
            await connection.execute(
                f"CREATE TABLE probe.t{number} (tenant_id text, id integer, value {type_},"
                " PRIMARY KEY (tenant_id, id))"
            )
            found[type_] = await shape_of(connection, f"t{number}")
        yield connection, found
    await drop_database(server, database)


def number_of(value: Decimal | float) -> Decimal:
    """A float counts by its shortest spelling."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def same_document(sent: Any, got: str) -> bool:
    """Whether two documents are the same, all numbers compared as decimals."""
    exact: dict[str, Any] = {"parse_int": Decimal, "parse_float": Decimal}
    return bool(json.loads(json.dumps(sent), **exact) == json.loads(got, **exact))


def same(type_: str, sent: Any, got: Any) -> bool:
    """Whether ``got`` is what was ``sent``."""
    if sent is None or got is None:
        # SQL's null and the null of JSON are two things; Python's None is sent as the first.
        return sent is None and got is None
    if type_.endswith("[]"):
        return same_list(type_.removesuffix("[]"), sent, got)
    if type_ == "probe.words":
        return same_list("text", sent, got)
    if type_ in ("json", "jsonb"):
        return same_document(sent, got)
    if type_ == "real":
        (sent,) = struct.unpack("<f", struct.pack("<f", sent))
    elif type_ == "numeric":
        sent, got = number_of(sent), number_of(got)
    elif type_ == "uuid":
        sent = UUID(str(sent))
    elif type_ in ("inet", "cidr"):
        sent, got = ip_interface(str(sent)), ip_interface(str(got))
    elif type_ in ("character(12)", "bpchar"):
        sent, got = sent.rstrip(" "), got.rstrip(" ")  # the column pads, and so forgets
    both_nan = isinstance(sent, float | Decimal) and math.isnan(sent) and math.isnan(got)
    return both_nan or bool(sent == got)


def same_list(type_: str, sent: Any, got: Any) -> bool:
    return len(sent) == len(got) and all(
        same_list(type_, one, other)
        if isinstance(one, list) and type_ not in ("json", "jsonb")
        else same(type_, one, other)
        for one, other in zip(sent, got, strict=True)
    )


NUMBERS = count()
"""Each example has a tenant of its own, which is cheaper than a table emptied."""


async def stored(connection: Connection, shape: TableShape, values: list[Any]) -> list[Any]:
    """What the server gives back for ``values``, upserted as one batch."""
    rows = [{"id": number, "value": value} for number, value in enumerate(values)]
    tenant_id = f"tenant {next(NUMBERS)}"
    assert await upsert(connection, shape, rows, tenant_id=tenant_id) == (len(rows), 0)
    assert await upsert(connection, shape, rows, tenant_id=tenant_id) == (0, 0), "changed nothing"
    found = await connection.fetch(
        f"SELECT value FROM probe.{shape.table} WHERE tenant_id = $1 ORDER BY id", tenant_id
    )
    return [row["value"] for row in found]


Shapes = tuple[Connection, dict[str, TableShape]]
PROPERTY = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@pytest.mark.parametrize("type_", ACCEPTED)
@given(data=st.data())
@PROPERTY
async def test_what_a_column_accepts_comes_back_equal(
    shapes: Shapes, type_: str, data: st.DataObject
) -> None:
    connection, found = shapes
    sent = data.draw(st.lists(ACCEPTED[type_] | st.none(), min_size=1, max_size=20))

    got = await stored(connection, found[type_], sent)

    for one, other in zip(sent, got, strict=True):
        assert same(type_, one, other), (type_, one, other)


@pytest.mark.parametrize("type_", SPELLED)
@given(data=st.data())
@PROPERTY
async def test_what_only_the_server_reads_comes_back_as_it_was_spelled(
    shapes: Shapes, type_: str, data: st.DataObject
) -> None:
    connection, found = shapes
    element = type_.removesuffix("[]")
    sent = data.draw(st.lists(SPELLED[type_] | st.none(), min_size=1, max_size=9))
    given: list[Any] = sent
    if element != type_:  # a list of the spelled elements
        cut = f"SELECT $1::text::{element}[]::text[]"
        given = [one and await connection.fetchval(cut, one) for one in sent]

    await stored(connection, found[type_], given)

    tenant = f"tenant {next(NUMBERS) - 1}"
    rows = await connection.fetch(
        f"SELECT value::text FROM probe.{found[type_].table} WHERE tenant_id = $1 ORDER BY id",
        tenant,
    )
    assert [row["value"] for row in rows] == sent


ROUNDED: dict[str, Callable[[Any], Any]] = {
    "numeric(6,2)": lambda value: value.quantize(Decimal("0.01"), ROUND_HALF_UP),
    "timestamp(3) with time zone": lambda value: (
        value.replace(microsecond=0) + timedelta(milliseconds=(value.microsecond + 500) // 1000)
    ),
}


@given(
    numbers=st.lists(st.decimals(-9999, 9999, allow_nan=False, places=6), min_size=1, max_size=9),
    moments=st.lists(instants.filter(lambda at: at.microsecond % 1000 != 500), min_size=1),
)
@PROPERTY
async def test_a_modifier_rounds_on_the_server_and_nowhere_else(
    shapes: Shapes, numbers: list[Decimal], moments: list[datetime]
) -> None:
    connection, found = shapes
    values: list[list[Any]] = [numbers, moments]
    for (type_, rounded), sent in zip(ROUNDED.items(), values, strict=True):
        got = await stored(connection, found[type_], sent)
        assert got == [rounded(value) for value in sent]


ANYTHING = st.one_of(
    *(strategy for type_, strategy in ACCEPTED.items() if type_ != "interval"),
    st.text(min_size=1),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(300, 5000).map(lambda digits: 10**digits),
    st.builds(lambda exponent: Decimal(1).scaleb(exponent), st.integers(-20_000, 140_000)),
    st.sampled_from(
        [
            datetime.min,  # noqa: DTZ901 - the bound itself
            datetime.max,  # noqa: DTZ901 - the bound itself
            datetime.min.replace(tzinfo=UTC),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
            date.min,
            date.max,
            Decimal("sNaN"),
            time(23, 59, tzinfo=timezone(timedelta(hours=20))),
            object(),
            {1: "a", "1": "b"},
            {"a": {"b": float("nan")}},
            [[1], [2, 3]],
            [[]],
            range(3),
            {1, 2},
            1j,
        ]
    ),
    st.dictionaries(st.integers() | st.text(), st.text()),
)


BY_SERVER = ("probe.", "interval", "inet", "cidr")
"""Of these the server has the last word, in a round trip of its own."""

# Hypothesis also draws strings it finds in sources: one of our own words is no leak.
OUR_WORDS = Path(__file__).read_text(encoding="utf-8") + "".join(
    path.read_text(encoding="utf-8") for path in Path(values.__file__).parent.glob("*.py")
)


def quoted_in(text: str, value: object) -> bool:
    """Whether ``text`` tells ``value``; a short one is in any text by chance."""
    try:
        spelled = {str(value), repr(value)}
    except ValueError:  # an int of too many digits
        return False
    return any(len(one) > 7 and one in text and one not in OUR_WORDS for one in spelled)


@pytest.mark.parametrize("type_", [type_ for type_ in ACCEPTED if not type_.startswith(BY_SERVER)])
@given(data=st.data())
@PROPERTY
async def test_any_value_is_refused_by_us_unquoted_or_comes_back_equal(
    shapes: Shapes, type_: str, data: st.DataObject
) -> None:
    connection, found = shapes
    convert = converter(found[type_].columns["value"])
    accepted = []
    for value in data.draw(st.lists(ANYTHING, min_size=5, max_size=20)):
        try:
            convert(value)
        except WriteRefused as error:
            assert error.__cause__ is None
            assert error.__context__ is None
            assert not quoted_in(str(error), value), (type_, str(error))
        else:
            accepted.append(value)

    got = await stored(connection, found[type_], accepted) if accepted else []

    for one, other in zip(accepted, got, strict=True):
        assert same(type_, one, other), (type_, one, other)
