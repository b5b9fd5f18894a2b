"""A row as an author gives it: copied, and its size estimated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from harvestd.errors import WriteRefused

ROW_BYTES_MAX = 32 * 1024 * 1024
"""A row is in memory several times while it is sent."""

SCALAR_BYTES = 8
PART_BYTES = 16
"""For the brackets of a list, and for a key and what surrounds it."""

# Tuples: isinstance takes twice as long with a union of types.
CONTAINERS = (dict, list, tuple)
BYTES = (bytes, bytearray, memoryview)

Row = Mapping[str, object]


def copied(row: object, columns: tuple[str, ...] = ()) -> dict[str, object]:
    """A dict of ``row``: a mapping, a named tuple, or a tuple of the values of ``columns``.

    Where there is one of ``columns``, its value alone is a row too.  Raises: WriteRefused.
    """
    if type(row) is dict:
        return row.copy()
    if isinstance(row, Mapping) or hasattr(row, "keys"):  # asyncpg's Record is no Mapping
        return dict(cast("Row", row))
    length = len(row) if isinstance(row, tuple | list) else 0
    if length:
        names = getattr(row, "_fields", columns)
        if len(names) == length:
            return dict(zip(names, cast("tuple[object, ...]", row), strict=True))
    elif len(columns) == 1 and not isinstance(row, tuple | list):
        return {columns[0]: row}
    raise WriteRefused(
        f"a row is given as {type(row).__name__[:60]}" + (f" of {length} values" if length else ""),
        why="a row is a dict of its columns"
        + (f", or a tuple of the {len(columns)} that were named" if columns else ""),
        next_step='{"id": 1, "title": "first"}',
    )


def size_of(row: Row) -> int:
    """About how many bytes ``row`` is as text.  Raises: WriteRefused, above ROW_BYTES_MAX."""
    size = 0
    for value in row.values():
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, CONTAINERS):
            size += _inside(value)
        else:
            size += _length(value) if isinstance(value, BYTES) else SCALAR_BYTES
    if size > ROW_BYTES_MAX:
        raise WriteRefused(
            f"a row has more than {ROW_BYTES_MAX:,} bytes",
            why="a row is in memory several times while it is sent",
            next_step="keep large values in rows of their own, or leave them out",
        )
    return size


def _length(value: bytes | bytearray | memoryview) -> int:
    try:
        return len(value)
    except (ValueError, TypeError):  # a memoryview that was released, or has no dimension
        return SCALAR_BYTES


def _inside(value: object) -> int:
    size = 0
    waiting: list[object] = [value]
    # The bound also ends the walk of a list that holds itself.
    while waiting and size <= ROW_BYTES_MAX:
        part = waiting.pop()
        if isinstance(part, str):
            size += len(part)
        elif isinstance(part, dict):
            size += PART_BYTES * (1 + len(part))
            waiting += part.values()
        elif isinstance(part, CONTAINERS):
            size += PART_BYTES
            waiting += part
        else:
            size += SCALAR_BYTES
    return size
