"""One value for one column: checked and converted before asyncpg sees it.

What is accepted comes back equal, what is not raises WriteRefused.  Only what the column's own
type says is left to the server: numeric(10,2) and timestamptz(3) round, character(3) pads.

Numbers, times, texts and bytes travel as such.  Every other type goes as its text and is cast in
each row: no codec set on a connection has a say then, and a jsonb costs no more (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from harvestd.loading import literals, scalars
from harvestd.loading.columns import Column, Convert


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one type are checked, and as what they are sent."""

    make: Callable[[Column], Convert]
    sent_as: str = "text"
    cast: bool = False


# By the name that format_type gives, since a schema may have an enum called int4.
KINDS = MappingProxyType(
    {
        "boolean": Kind(scalars.boolean, "bool"),
        "smallint": Kind(scalars.integer(16), "int2"),
        "integer": Kind(scalars.integer(32), "int4"),
        "bigint": Kind(scalars.integer(64), "int8"),
        "real": Kind(scalars.floating, "float4"),
        "double precision": Kind(scalars.floating, "float8"),
        "numeric": Kind(scalars.numeric, cast=True),
        "text": Kind(scalars.text),
        # Sent as text: the assignment to the column refuses what is too long for it.
        "character varying": Kind(scalars.text),
        "character": Kind(scalars.text),
        "bpchar": Kind(scalars.text),
        "bytea": Kind(scalars.binary, "bytea"),
        "uuid": Kind(scalars.uuid, "uuid"),
        "date": Kind(scalars.calendar_date, "date"),
        "timestamp with time zone": Kind(scalars.instant, "timestamptz"),
        "timestamp without time zone": Kind(scalars.timestamp, "timestamp"),
        "time with time zone": Kind(scalars.clock_time, cast=True),
        "time without time zone": Kind(scalars.clock_time, cast=True),
        "interval": Kind(scalars.interval, cast=True),
        "json": Kind(literals.document, cast=True),
        "jsonb": Kind(literals.document, cast=True),
    }
)

# Without a modifier these two words mean one character and one bit.
SPELLED = MappingProxyType({"character": "bpchar", "bit": '"bit"'})


@lru_cache(maxsize=4096)
def converter(column: Column) -> Convert:
    """The function that checks a value for ``column`` and returns what is sent in its place."""
    known = KINDS.get(column.plain_type)
    convert = known.make(column) if known else scalars.written(column)
    if column.is_array:
        convert = literals.array(column, convert)
    return literals.alone(convert) if _read_alone(column) else convert


def parameter_type(column: Column) -> str:
    """The type as which one value of ``column`` is sent."""
    known = KINDS.get(column.plain_type)
    return known.sent_as if known and not column.is_array else "text"


def selected(column: Column, expression: str) -> str:
    """``expression``, a value as it was sent, as one that the column takes.

    Never a cast to a type with a modifier: an explicit one cuts what is too long and says
    nothing, where the assignment to the column refuses it.
    """
    plain = column.plain_type
    spelled = SPELLED.get(plain, plain)
    if _read_alone(column):
        return f"({expression}::{spelled}[])[1]"
    if column.is_array:
        return f"{expression}::{spelled}[]"
    return f"{expression}::{spelled}" if KINDS[plain].cast else expression


def _read_alone(column: Column) -> bool:
    """Whether a value is sent as the one element of an array.

    So are those of types we do not know, as they may be domains: a cast to a domain over
    character varying(3) cuts in silence, reading an array of that domain does not.
    """
    return column.plain_type not in KINDS and not column.type.endswith("[]")
