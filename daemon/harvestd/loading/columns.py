"""A column of a table that scripts write to, and how a value for it is refused.

A refusal names the column, its type and what was wrong; it never quotes the value, nor does
an exception chained to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harvestd.errors import WriteRefused

VALUE_BYTES_MAX = 8 * 1024 * 1024
"""No value is longer, in UTF-8: 300 MiB would hold the event loop for six seconds."""

UTF8_BYTES_MAX = 4
"""Of one character."""

MODIFIER = re.compile(r"\(([0-9, -]+)\)")

Convert = Callable[[object], object]
"""Checks a value for one column, and returns what is sent in its place.  Raises WriteRefused.

None is never asked about: whether it may be there is the server's to say."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as ``read_table_shape`` describes it.

    ``type`` is as format_type spells it (``character varying(20)``, ``text[]``); ``in_key``:
    part of any unique key.
    """

    name: str
    type: str
    is_array: bool
    generated: bool
    in_key: bool

    @property
    def plain_type(self) -> str:
        """The type of one element without its modifier: ``character varying``."""
        spelled = self.type.removesuffix("[]")
        if '"' in spelled:  # a name that somebody chose may hold anything
            return spelled
        plain = MODIFIER.sub("", spelled)
        return "interval" if plain.startswith("interval ") else plain

    @property
    def characters_max(self) -> int | None:
        """The N of ``character varying(N)`` and its like."""
        found = MODIFIER.search(self.type)
        return (
            int(found[1])
            if found and self.plain_type in ("character", "character varying")
            else None
        )


def wrong_type(column: Column, value: object, wanted: str, next_step: str = "") -> WriteRefused:
    """The error for a value of a type that ``column`` does not take."""
    return WriteRefused(
        f"column {column.name} ({column.type}) cannot take a value of type "
        f"{type(value).__name__[:60]}",
        why=f"it takes {wanted} or None, and nothing is converted by guess",
        next_step=next_step,
    )


def refused(column: Column, why: str, next_step: str = "") -> WriteRefused:
    """The error for a value of the right type that cannot be stored as it is."""
    return WriteRefused(
        f"column {column.name} ({column.type}) cannot take this value",
        why=why,
        next_step=next_step,
    )


def checked_size(column: Column, size: int) -> None:
    """Raise WriteRefused when ``size`` bytes are more than a value may have."""
    if size > VALUE_BYTES_MAX:
        raise refused(
            column,
            f"it has {size:,} bytes, and a value may have {VALUE_BYTES_MAX:,}",
            "keep it in parts, cut it, or leave it out",
        )


def utf8_size(text: str) -> int:
    """Bytes of ``text`` in UTF-8; -1 when half of a surrogate pair in it has none.

    Of a text that is too long anyway, its number of characters.
    """
    if text.isascii() or len(text) > VALUE_BYTES_MAX:
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1
