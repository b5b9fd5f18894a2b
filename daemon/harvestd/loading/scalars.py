"""The checks of each type: one function a column, made once and called for every value but None.

asyncpg alone stores a huge Decimal as 0, cuts floats sent to integer columns, makes infinity of
datetime.max and shifts times without a zone (research: relsec 4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from struct import Struct
from uuid import UUID

from harvestd.loading.columns import (
    VALUE_BYTES_MAX,
    Column,
    Convert,
    checked_size,
    refused,
    utf8_size,
    wrong_type,
)

NUMERIC_DIGITS_MAX = 131_072
FRACTION_DIGITS_MAX = 16_383
ZONE_MAX = timedelta(hours=16)
"""PostgreSQL knows no offset from UTC of 16 hours or more."""

SINGLE = Struct("<f")  # the native "f" makes infinity of what is too large
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
FIRST_WITHOUT_ZONE, LAST_WITHOUT_ZONE = FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None)
"""These would be stored as infinity."""

ADDRESSES = (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network)


def text(column: Column) -> Convert:
    """str; no NUL, no half surrogate pairs, no more characters than the column has."""
    characters_max = column.characters_max or VALUE_BYTES_MAX

    def convert(value: object) -> object:
        if not isinstance(value, str):
            hint = "decode it first" if isinstance(value, bytes | bytearray) else "str(value)"
            raise wrong_type(column, value, "str", hint)
        if "\0" in value:
            raise refused(column, "PostgreSQL stores no NUL character", r'value.replace("\0", "")')
        size = utf8_size(value)
        if size < 0:
            raise refused(
                column,
                "it holds half of a surrogate pair, which is no character",
                'value.encode("utf-8", "replace").decode()',
            )
        checked_size(column, size)
        if len(value) > characters_max:
            raise refused(
                column,
                f"it has {len(value)} characters, and the column takes {characters_max}",
                "cut it, or declare the column as text",
            )
        return value

    return convert


def boolean(column: Column) -> Convert:
    """True and False, not what is merely true."""

    def convert(value: object) -> object:
        if isinstance(value, bool):
            return value
        raise wrong_type(column, value, "bool", "compare it with what it means")

    return convert


def integer(bits: int) -> Callable[[Column], Convert]:
    """int within ``bits`` bits; a bool or a float is none."""
    limit = 1 << (bits - 1)

    def make(column: Column) -> Convert:
        def convert(value: object) -> object:
            if not isinstance(value, int) or isinstance(value, bool):
                raise wrong_type(column, value, "int", "int(value), where that loses nothing")
            if not -limit <= value < limit:
                raise refused(
                    column,
                    f"it is not within {-limit} .. {limit - 1}",
                    f"declare the column as {'numeric' if bits == 64 else 'bigint'}",
                )
            return value

        return convert

    return make


def floating(column: Column) -> Convert:
    """float, or an int that a float can hold; in ``real`` rounded to its seven digits."""
    single = column.plain_type == "real"

    def convert(value: object) -> object:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(column, value, "float or int", "float(value)")
        kept = _kept(value, single=single)
        if kept is None:
            raise refused(column, "it would become another number", "declare the column as numeric")
        return kept

    return convert


def _kept(value: float, *, single: bool) -> float | None:
    """``value`` as it is stored; None when that would be infinite, zero or, an int, another one."""
    try:
        kept = float(value)
        stored = SINGLE.unpack(SINGLE.pack(kept))[0] if single else kept
    except OverflowError:
        return None
    same = stored == value if isinstance(value, int) else bool(stored) == bool(kept)
    return stored if same else None


def numeric(column: Column) -> Convert:
    """Decimal, int, or a float by its shortest spelling; numeric(p, s) rounds on the server."""

    def convert(value: object) -> object:
        if not isinstance(value, Decimal | int | float) or isinstance(value, bool):
            raise wrong_type(column, value, "Decimal, int or float", "Decimal(value)")
        spelled = _spelled(value)
        if spelled is None:
            raise refused(
                column,
                f"it has more than {NUMERIC_DIGITS_MAX:,} digits before the point or "
                f"{FRACTION_DIGITS_MAX:,} after it, or is an int of more than 4,300, "
                "or a NaN with a diagnosis",
            )
        return spelled

    return convert


def _spelled(value: Decimal | float) -> str | None:
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, int):
        try:
            return int.__repr__(value)
        except ValueError:  # Python's bound on the digits of an int
            return None
    spelled = Decimal.__str__(value)
    exponent = value.as_tuple().exponent
    if isinstance(exponent, str):
        return spelled if spelled in ("NaN", "Infinity", "-Infinity") else None
    storable = value.adjusted() < NUMERIC_DIGITS_MAX and exponent >= -FRACTION_DIGITS_MAX
    return spelled if storable else None


def instant(column: Column) -> Convert:
    """datetime with a time zone, sent in UTC."""

    def convert(value: object) -> object:
        if not isinstance(value, datetime):
            raise wrong_type(
                column, value, "datetime with a time zone", "datetime.fromisoformat(value)"
            )
        if value.tzinfo is UTC and FIRST < value < LAST:
            return value
        if value.tzinfo is None:
            raise refused(
                column,
                "it has no time zone, and a guessed one would shift it",
                "value.replace(tzinfo=UTC), where it is UTC",
            )
        moved = _in_utc(value)
        if moved is None:
            raise refused(column, "it is no moment of the years 1 to 9999 in UTC")
        return moved

    return convert


def _in_utc(value: datetime) -> datetime | None:
    try:
        moved = value.astimezone(UTC)
        return moved if value.utcoffset() is not None and FIRST < moved < LAST else None
    except Exception:  # whatever a time zone of the author's own raises
        return None


def timestamp(column: Column) -> Convert:
    """datetime without a time zone."""

    def convert(value: object) -> object:
        if not isinstance(value, datetime):
            raise wrong_type(
                column, value, "datetime without time zone", "datetime.fromisoformat(value)"
            )
        if value.tzinfo is not None:
            raise refused(
                column,
                "it has a time zone, which the column would forget",
                "declare the column as timestamptz",
            )
        if not FIRST_WITHOUT_ZONE < value < LAST_WITHOUT_ZONE:
            raise refused(column, "datetime.min and datetime.max would become infinity")
        return value

    return convert


def calendar_date(column: Column) -> Convert:
    """date, not datetime."""

    def convert(value: object) -> object:
        if not isinstance(value, date) or isinstance(value, datetime):
            raise wrong_type(column, value, "date", "value.date(), or date.fromisoformat(value)")
        if not date.min < value < date.max:
            raise refused(column, "date.min and date.max would become infinity")
        return value

    return convert


def clock_time(column: Column) -> Convert:
    """time, with a time zone exactly where the column has one."""
    zoned = column.plain_type == "time with time zone"

    def convert(value: object) -> object:
        if not isinstance(value, time):
            raise wrong_type(column, value, "time", "time.fromisoformat(value)")
        offset = _offset(value)
        if (offset is not None) != zoned:
            raise refused(column, "it lacks a time zone" if zoned else "it has a time zone")
        if offset is not None and (abs(offset) >= ZONE_MAX or offset.microseconds):
            raise refused(column, "PostgreSQL has no time zone like that")
        return value.isoformat()

    return convert


def _offset(value: time) -> timedelta | None:
    try:
        return value.utcoffset()
    except Exception:  # whatever a time zone of the author's own raises
        return None


def interval(column: Column) -> Convert:
    """timedelta, or a str that PostgreSQL reads."""
    convert_text = text(column)

    def convert(value: object) -> object:
        if isinstance(value, timedelta):
            # A sign for each: under IntervalStyle sql_standard a first minus counts for all.
            return f"{value.days:+d} days +{value.seconds}.{value.microseconds:06d} seconds"
        if isinstance(value, str):
            return convert_text(value)
        raise wrong_type(column, value, "timedelta, or str as PostgreSQL reads it")

    return convert


def uuid(column: Column) -> Convert:
    """UUID, or a str that spells one."""

    def convert(value: object) -> object:
        if isinstance(value, UUID):
            return value
        if not isinstance(value, str):
            raise wrong_type(column, value, "UUID, or str that spells one")
        found = _parsed(value)
        if found is None:
            raise refused(column, "it does not spell a UUID", "declare the column as text")
        return found

    return convert


def _parsed(spelled: str) -> UUID | None:
    try:
        return UUID(spelled)
    except ValueError:
        return None


def binary(column: Column) -> Convert:
    """bytes, bytearray or memoryview."""

    def convert(value: object) -> object:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise wrong_type(column, value, "bytes", "value.encode()")
        if isinstance(value, memoryview):
            value = _viewed(value)
            if value is None:
                raise refused(column, "it is a memoryview that was released", "bytes(value)")
        checked_size(column, len(value))
        return bytes(value)

    return convert


def _viewed(view: memoryview) -> bytes | None:
    try:
        return view.tobytes()
    except ValueError:
        return None


def written(column: Column) -> Convert:
    """What only PostgreSQL reads (enums, ranges, domains, addresses): str, or a plain number."""
    convert_text, convert_number = text(column), numeric(column)

    def convert(value: object) -> object:
        if isinstance(value, str):
            return convert_text(value)
        if isinstance(value, Decimal | int) and not isinstance(value, bool):
            return convert_number(value)
        if isinstance(value, ADDRESSES):
            return convert_text(str(value))  # the scope of an IPv6 address may hold anything
        raise wrong_type(column, value, "str as PostgreSQL reads it", "write it as text")

    return convert
