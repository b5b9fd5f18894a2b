"""The columns of a batch as they are sent.

The driver encodes the elements of an array one by one, and asks of each whether it is an array
itself: 0.5 µs for a number, 1.9 for an instant.  One text for all of them, which the server takes
apart, costs 0.1 to 0.3.  Texts and bytes are arrays still: PostgreSQL reads a quoted element letter
by letter, and of a kilobyte that takes longer than all of its row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson

from harvestd.loading.bulk import plainly_fine
from harvestd.loading.columns import Column
from harvestd.loading.literals import plain_documents
from harvestd.loading.values import converter, parameter_type

DOCUMENTS = frozenset({"json", "jsonb"})
"""Sent line by line: in the literal of an array each of their many quotes would be escaped."""

NO_DOCUMENT = "NULL"
"""The line of one that is NULL; JSON spells its own null in small letters."""


def parameter(column: Column, number: int) -> str:
    """The array of values of ``column`` that was sent as parameter ``number``."""
    if _is_document(column):
        return f"pg_catalog.string_to_array(${number}::text, E'\\n', '{NO_DOCUMENT}')"
    type_ = parameter_type(column)
    return f"${number}::text::{type_}[]" if type_ in SPELLED else f"${number}::{type_}[]"


def sent(column: Column, values: list[object]) -> object:
    """What is sent for ``values``, checked and converted; some may be None.

    Raises: WriteRefused.
    """
    return _sender(column)(values)


@lru_cache(maxsize=4096)
def _sender(column: Column) -> Callable[[list[object]], object]:
    convert = converter(column)
    spell = SPELLED.get(parameter_type(column))
    all_fine = plainly_fine(column)

    def converted(values: list[object]) -> list[Any]:
        return [None if value is None else convert(value) for value in values]

    def send(values: list[object]) -> object:
        checked = values if all_fine(values) else converted(values)
        return spell(checked) if spell else checked

    def send_documents(values: list[object]) -> object:
        texts = plain_documents(values) or converted(values)
        return "\n".join([NO_DOCUMENT if one is None else one for one in texts])

    return send_documents if _is_document(column) else send


def _is_document(column: Column) -> bool:
    return column.plain_type in DOCUMENTS and not column.is_array


def _as_json(values: Sequence[object]) -> str:
    """What JSON spells as PostgreSQL does: true, 7, null, "2026-01-05"."""
    return "{" + orjson.dumps(values, default=_spelled).decode()[1:-1] + "}"


def _moments(values: Sequence[object]) -> str:
    """As PostgreSQL spells it itself, "2026-01-05 00:00:00+00:00": it reads that sooner.

    Never Z instead of the offset: that is what timezone_abbreviations says.
    """
    return _as_json(values).replace("T", " ")


def _spelled(value: object) -> str:
    """A value of a subclass, which orjson does not know."""
    if isinstance(value, datetime):
        return datetime.isoformat(value)
    return date.isoformat(value) if isinstance(value, date) else UUID.__str__(value)


def _floats(values: Sequence[float | None]) -> str:
    """JSON has neither NaN nor infinity."""
    literal = _as_json(values)
    if "null" not in literal:
        return literal
    return "{" + ",".join("NULL" if one is None else float.__repr__(one) for one in values) + "}"


Spell = Callable[[list[Any]], str]

SPELLED: MappingProxyType[str, Spell] = MappingProxyType(
    {
        "bool": _as_json,
        "int2": _as_json,
        "int4": _as_json,
        "int8": _as_json,
        "float4": _floats,
        "float8": _floats,
        "uuid": _as_json,
        "date": _as_json,
        "timestamp": _moments,
        "timestamptz": _moments,
    }
)
