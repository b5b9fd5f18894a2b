"""What authors ask in SQL of their own: text and arguments checked before the driver.

asyncpg alone cuts a float sent as an integer, shifts a time without a zone, makes infinity of
datetime.max and 0 of a huge Decimal (research: relsec 4.2), and quotes values in its errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import lru_cache, partial
from types import MappingProxyType

from harvestd.errors import RunError, WriteRefused
from harvestd.loading.columns import Column, Convert, utf8_size
from harvestd.loading.rows import ROW_BYTES_MAX, size_of
from harvestd.loading.seats import Seat
from harvestd.loading.values import converter

# By the name that asyncpg gives.  What is not here goes as the driver takes it, or refuses it.
TYPES = MappingProxyType(
    {
        "bool": "boolean",
        "int2": "smallint",
        "int4": "integer",
        "int8": "bigint",
        "float4": "real",
        "float8": "double precision",
        "numeric": "numeric",
        "text": "text",
        "varchar": "text",
        "bpchar": "text",
        "bytea": "bytea",
        "uuid": "uuid",
        "date": "date",
        "timestamptz": "timestamp with time zone",
        "timestamp": "timestamp without time zone",
        "timetz": "time with time zone",
        "time": "time without time zone",
    }
)
UNENCODED = re.compile(r"invalid input for query argument \$(\d+)")
MISCOUNTED = re.compile(r"the server expects (\d+) arguments? for this query, (\d+)")

Arguments = tuple[object, ...]
Types = tuple[tuple[str, str], ...]
Check = Callable[[Arguments], Arguments]
"""Hands back arguments as they are sent.  Raises: RunError."""


async def as_sent(seat: Seat, source: str, query: str, arguments: Arguments) -> Arguments:
    """``arguments`` of a query of the author's own, as they are sent; the seat is ready for it.

    Raises: RunError, for what cannot be sent as it is; it names the argument, never the value.
    """
    checked_query(query)
    await seat.admit_plugin_sql(source)
    # Without any it may be several statements, which cannot be prepared.
    return (await _check(seat, query))(arguments) if arguments else arguments


async def check_for_many(seat: Seat, source: str, query: str) -> Check:
    """What makes of arguments what `as_sent` does, for a query that is sent with many."""
    checked_query(query)
    await seat.admit_plugin_sql(source)
    return await _check(seat, query)


async def _check(seat: Seat, query: str) -> Check:
    # As `fetch` begins, which finds the statement again: no round trip is added.  By asyncpg's
    # public prepare() the statement would be another one, and prepared twice.
    statement = await seat.connection._get_statement(query, None)  # type: ignore[attr-defined]
    types = tuple((one.schema, one.name) for one in statement._get_parameters())
    return partial(_checked, _converters(types))


def checked_query(query: object) -> str:
    """``query``, when it can be sent.  Raises: RunError."""
    if not isinstance(query, str):
        raise RunError(
            f"a query is given as {type(query).__name__[:60]}",
            next_step='fetch("SELECT title FROM issue WHERE id = $1", 7)',
        )
    if "\0" in query or utf8_size(query) < 0:
        raise RunError(
            "a query holds a character that PostgreSQL does not take: NUL, or half of a "
            "surrogate pair",
            next_step="send values as arguments ($1), not as part of the text",
        )
    return query


def refused_argument(error: BaseException) -> RunError | None:
    """asyncpg's complaint about an argument, without the value that it quotes; None: it is none."""
    told = str(error)
    if (found := UNENCODED.match(told)) is not None:
        return RunError(
            f"argument ${found[1]} of a query cannot be sent as the type that it has there",
            why="nothing is converted by guess",
            next_step=f"give what the type takes, or cast in the query: ${found[1]}::text",
        )
    if (found := MISCOUNTED.match(told)) is not None:
        return RunError(
            f"a query with {found[1]} arguments is given {found[2]}",
            next_step="give a value for each of $1, $2 ...",
        )
    return None


@lru_cache(maxsize=1024)
def _converters(types: Types) -> tuple[tuple[Column, Convert] | None, ...]:
    found: list[tuple[Column, Convert] | None] = []
    for number, (schema, name) in enumerate(types, start=1):
        known = TYPES.get(name.removesuffix("[]")) if schema == "pg_catalog" else None
        column = Column(
            f"${number}",
            (known or name.removesuffix("[]")),
            is_array=name.endswith("[]"),
            generated=False,
            in_key=False,
        )
        element = Column(column.name, column.type, is_array=False, generated=False, in_key=False)
        found.append((column, converter(element)) if known else None)
    return tuple(found)


def _checked(
    converters: tuple[tuple[Column, Convert] | None, ...], arguments: Arguments
) -> Arguments:
    sent = []
    try:
        size_of({str(number): value for number, value in enumerate(arguments)})
    except WriteRefused:
        raise RunError(
            f"the arguments of a query have more than {ROW_BYTES_MAX:,} bytes",
            why="they are in memory several times while they are sent",
            next_step="ask for fewer at once",
        ) from None
    for number, value in enumerate(arguments):
        # Too many: the driver counts them.
        known = converters[number] if number < len(converters) else None
        sent.append(value if known is None or value is None else _argument(known, value))
    return tuple(sent)


def _argument(known: tuple[Column, Convert], value: object) -> object:
    column, convert = known
    try:
        if column.is_array:
            for part in _parts(value):
                convert(part)
            return value
        converted = convert(value)
    except WriteRefused as error:
        raise RunError(
            f"argument {error.what.removeprefix('column ')}",
            why=error.why,
            next_step="" if error.next_step.startswith("declare") else error.next_step,
        ) from None
    # Decimal(0.1) has 55 digits: such a number equals nothing that is stored.
    return converted if column.type == "numeric" and isinstance(value, float) else value


def _parts(value: object) -> Iterator[object]:
    """What is in an array of any number of dimensions, but for None."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Iterable) and isinstance(part, Sized) and not _is_one(part):
            waiting += part
        elif part is not None and part is not value:
            yield part


def _is_one(part: object) -> bool:
    return isinstance(part, str | bytes | bytearray | memoryview | Mapping)
