"""Documents and lists as the text that PostgreSQL reads: JSON, and the literals of arrays.

Arrays go as text because unnest would flatten those of two dimensions (research: skeleton B 8).
"""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Iterable, Sequence
from datetime import date
from math import isfinite

import orjson

from harvestd.errors import WriteRefused
from harvestd.loading.columns import (
    UTF8_BYTES_MAX,
    VALUE_BYTES_MAX,
    Column,
    Convert,
    checked_size,
    refused,
    utf8_size,
    wrong_type,
)
from harvestd.loading.rows import AS_JSON

JSON_DEPTH_MAX = 500
"""Python reads back no more than about a thousand levels, PostgreSQL a few thousand."""

ARRAY_DIMENSIONS_MAX = 6
"""PostgreSQL's own bound."""

# A float as marshal writes it: g, perhaps with its highest bit, and eight bytes.  What looks like
# one that is not finite may be another value, and is looked at again.
NOT_FINITE = re.compile(rb"[g\xe7].{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)

# An escaped NUL; not a backslash, itself escaped, before the letters u0000.
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class _NotJsonError(Exception):
    """Found a value of a type, named by the argument, that JSON does not have."""


def _refuse_unknown(value: object) -> object:
    raise _NotJsonError(type(value).__name__[:60])


CONTAINERS = (dict, list, tuple)
Container = dict[object, object] | list[object] | tuple[object, ...]

# Without the check for circles, which costs a tenth: they end in RecursionError.
ENCODER = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,
    separators=(",", ":"),
    default=_refuse_unknown,
)


def document(column: Column) -> Convert:
    """Anything JSON has: dict with str keys, list, tuple, str, int, float, bool, None inside."""

    def convert(value: object) -> object:
        if plain := plain_documents([value]):
            return plain[0]
        encoded, problem = _encoded(value)
        if encoded is None:
            raise refused(column, problem, "write dates, decimals and the like as text")
        size = utf8_size(encoded)
        if size < 0:
            raise refused(column, "it holds half of a surrogate pair, which is no character")
        checked_size(column, size)
        if "\\u0000" in encoded and ESCAPED_NUL.search(encoded):
            raise refused(column, "it holds a NUL character, which PostgreSQL does not store")
        if isinstance(value, CONTAINERS):
            _check_keys_and_depth(column, value)
        return encoded

    return convert


def plain_documents(values: Sequence[object]) -> list[str | None] | None:
    """``values`` as JSON by the encoder that takes a tenth of the time, where there is no doubt.

    None instead of all: look at each.  orjson refuses what we do, but writes NaN as null, and takes
    UUIDs and enums; marshal takes nothing but Python's plain types.
    """
    try:
        marshalled = marshal.dumps(values)  # type: ignore[arg-type]  # that is the question
        texts = [orjson.dumps(value, option=AS_JSON).decode() for value in values]
    except (TypeError, ValueError):
        return None
    joined = "".join(texts)
    if "\\u0000" in joined or max(map(len, texts)) * UTF8_BYTES_MAX > VALUE_BYTES_MAX:
        return None
    if "null" not in joined:
        return [*texts]
    if NOT_FINITE.search(marshalled) and any(map(_holds_nan, values)):
        return None
    return [None if value is None else text for value, text in zip(values, texts, strict=True)]


def _holds_nan(value: object) -> bool:
    """Whether a document that can be encoded holds NaN or an infinity."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, float) and not isfinite(part):
            return True
    return False


def _encoded(value: object) -> tuple[str | None, str]:
    """``value`` as JSON, or None and what it holds that JSON does not have."""
    try:
        return ENCODER.encode(value), ""
    except _NotJsonError as error:
        return None, f"it holds a value of type {error}, which JSON does not have"
    except RecursionError:
        return None, f"it is nested more than {JSON_DEPTH_MAX} deep, or holds itself"
    except TypeError:
        return None, "it has a key that is not str"
    except (ValueError, OverflowError):
        return None, "it holds NaN, an infinity, or an int of more than 4,300 digits"


def _check_keys_and_depth(column: Column, value: Container) -> None:
    """json.dumps writes the key 1 as "1", and so makes one key of two."""
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        inside: list[Container] = []
        for container in level:
            parts: Iterable[object] = container
            if isinstance(container, dict):
                if not all(isinstance(key, str) for key in container):
                    raise refused(column, "it has a key that is not str", "{str(key): value}")
                parts = container.values()
            inside += [part for part in parts if isinstance(part, CONTAINERS)]
        if not inside:
            return
        level = inside
    raise refused(column, f"it is nested more than {JSON_DEPTH_MAX} deep")


def array(column: Column, convert_element: Convert) -> Convert:
    """list or tuple, of one or more dimensions; each element as ``convert_element`` takes it."""
    # In an array of JSON a list is a document, not one more dimension.
    dimensions_max = 1 if column.plain_type in ("json", "jsonb") else ARRAY_DIMENSIONS_MAX

    def written(values: list[object] | tuple[object, ...], depth: int) -> tuple[str, list[int]]:
        if not values or depth == dimensions_max or not isinstance(values[0], list | tuple):
            parts = [
                "NULL" if part is None else _quoted(_as_text(convert_element(part)))
                for part in values
            ]
            return "{" + ",".join(parts) + "}", [len(values)]
        rows = []
        for inner in values:
            if not isinstance(inner, list | tuple) or not inner:
                raise _ragged(column)
            rows.append(written(inner, depth + 1))
        if any(lengths != rows[0][1] for _, lengths in rows):
            raise _ragged(column)
        return "{" + ",".join(row for row, _ in rows) + "}", [len(values), *rows[0][1]]

    def convert(value: object) -> object:
        if not isinstance(value, list | tuple):
            raise wrong_type(column, value, "list", "list(value)")
        literal, _ = written(value, 1)
        checked_size(column, utf8_size(literal))
        return literal

    return convert


def _ragged(column: Column) -> WriteRefused:
    return refused(
        column,
        "the lists in it differ in length or are empty, and PostgreSQL's arrays are rectangular",
        "declare the column as jsonb",
    )


def alone(convert: Convert) -> Convert:
    """As ``convert``, but what it makes becomes the one element of an array."""

    def convert_alone(value: object) -> object:
        return "{" + _quoted(_as_text(convert(value))) + "}"

    return convert_alone


def _quoted(element: str) -> str:
    return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _as_text(converted: object) -> str:
    """What one of the converters made, as PostgreSQL reads it."""
    if isinstance(converted, str):
        return converted
    if isinstance(converted, bytes):
        return "\\x" + converted.hex()
    if isinstance(converted, date):  # or its subclass datetime
        return converted.isoformat()
    if isinstance(converted, int):  # a bool too: PostgreSQL reads 1 and 0
        return int.__repr__(converted)
    return float.__repr__(converted) if isinstance(converted, float) else str(converted)
