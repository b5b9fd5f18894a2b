"""Rows as an author gives them: copied, their size estimated, and put into bounded batches."""

from __future__ import annotations

from asyncio import Future
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import cast
from uuid import UUID

import orjson

from harvestd.errors import WriteRefused

BATCH_ROWS_MAX = 1_000
"""By more a row gets a few percent cheaper, and a batch takes several times the memory."""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""A longer row is a batch of its own."""

ROW_BYTES_MAX = 32 * 1024 * 1024
"""A row is in memory several times while it is sent."""

SCALAR_BYTES = 8
PART_BYTES = 16
"""For the brackets of a list, and for a key and what surrounds it."""

# Tuples: isinstance takes twice as long with a union of types.
CONTAINERS = (dict, list, tuple)
TEXTS = (str, bytes, bytearray, memoryview)
SCALARS = frozenset((int, float, bool, type(None), datetime, date, UUID))

AS_JSON = (
    orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
"""What JSON does not have is refused, not converted by guess."""

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
        kind = type(value)
        if kind is str:
            size += len(value)  # type: ignore[arg-type]
        elif kind in SCALARS:
            size += SCALAR_BYTES
        else:
            size += _size_inside(value) if isinstance(value, CONTAINERS) else _length(value)
    if size > ROW_BYTES_MAX:
        raise WriteRefused(
            f"a row has more than {ROW_BYTES_MAX:,} bytes",
            why="a row is in memory several times while it is sent",
            next_step="keep large values in rows of their own, or leave them out",
        )
    return size


def _length(value: object) -> int:
    try:
        return len(value) if isinstance(value, TEXTS) else SCALAR_BYTES
    except (ValueError, TypeError):  # a memoryview that was released, or has no dimension
        return SCALAR_BYTES


def _size_inside(value: object) -> int:
    try:
        return len(orjson.dumps(value, option=AS_JSON))  # a tenth of the time of a walk
    except TypeError:
        pass  # what JSON does not have, or a list that holds itself
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


async def batches(
    rows: Iterable[object] | AsyncIterable[object], *, columns: Sequence[str] = ()
) -> AsyncGenerator[list[Row], None]:
    """``rows`` in lists of at most BATCH_ROWS_MAX rows and about BATCH_BYTES_MAX bytes.

    A row is a mapping, a named tuple, or a tuple of the values of ``columns``.  Rows are copied,
    so a producer may use one dict again and again; a generator is closed at the end, whatever ends
    it.  Raises: WriteRefused.
    """
    filling = _Filling(_different(columns))
    async with _closing(rows):
        if isinstance(rows, AsyncIterable):
            async for row in rows:
                if full := filling.add(row):
                    yield full
        elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping | Future):
            for row in rows:
                if full := filling.add(row):
                    yield full
        else:
            raise WriteRefused(
                f"rows are given as {type(rows).__name__[:60]}",
                why="they are an iterable of rows, or an asynchronous one",
                next_step=_mend(rows),
            )
    if filling.batch:
        yield filling.batch


@asynccontextmanager
async def _closing(rows: object) -> AsyncIterator[None]:
    """End a generator that is not read to its end: what it holds may be a connection, or a seat."""
    try:
        yield
    finally:
        if isinstance(rows, AsyncGenerator):
            await rows.aclose()
        elif isinstance(rows, Generator | Coroutine):
            rows.close()


def _mend(rows: object) -> str:
    if isinstance(rows, Awaitable):
        return "await it first; or let the function yield its rows, and give what its call returns"
    if callable(rows):
        return "call it, and await what it returns where it is async def without yield"
    return "put a single row into a list"


def _different(columns: Sequence[str]) -> tuple[str, ...]:
    """``columns`` as a tuple.  Raises: WriteRefused: of two with one name a value would be lost."""
    listed = not isinstance(columns, str | bytes) and isinstance(columns, Iterable)
    names = tuple(columns) if listed else ()
    if listed and len(set(names)) == len(names):
        return names
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    raise WriteRefused(
        f"columns names {', '.join(twice)[:60]} more than once"
        if listed
        else f"columns are given as {type(columns).__name__[:60]}",
        why="it lists the columns whose values each tuple holds, in their order",
        next_step='columns=["id", "title"]',
    )


class _Filling:
    """The batch that is being filled."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._size = 0
        self.batch: list[Row] = []

    def add(self, given: object) -> list[Row] | None:
        """Take a row; returns the batch before it once that is full."""
        row = copied(given, self._columns)
        size = size_of(row)
        full = None
        if len(self.batch) == BATCH_ROWS_MAX or (
            self.batch and self._size + size > BATCH_BYTES_MAX
        ):
            full, self.batch, self._size = self.batch, [], 0
        self.batch.append(row)
        self._size += size
        return full
