"""What a refused row is refused for: its table, key, place, columns and types; never a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol

import asyncpg

from harvestd.errors import WriteRefused
from harvestd.loading.columns import MODIFIER, Column
from harvestd.loading.rows import Row
from harvestd.loading.values import KINDS, converter

WRONG_VALUES = ("22", "23", "54")
"""Classes of SQLSTATE: what a type, a constraint, or a limit such as an index's refuses."""
WHY = MappingProxyType(
    {
        "22": "its type takes less than what we know of it",
        "23": "its constraints do not take it",
        "54": "it is too long for an index, or beyond another limit of PostgreSQL",
    }
)

# The value, which follows, is not kept.
NAMED_TYPE = re.compile(r'invalid input (?:syntax for type|value for enum) ([^":]+): "')


class Table(Protocol):
    """A table: as str its name."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Its columns by name."""
        ...


def refused_row(
    table: Table, key: Sequence[str] | None, batch: Sequence[Row], error: WriteRefused
) -> WriteRefused:
    """``error``, about a row of ``batch``, with the table, its key, and which row it is."""
    number = next((n for n, row in enumerate(batch, 1) if _refuses(table, key or (), row)), None)
    place = "" if number is None else f", row {number:,} of a batch of {len(batch):,}"
    return WriteRefused(
        f"{_told(table, key)}{place}: {error.what}", why=error.why, next_step=error.next_step
    )


def _refuses(table: Table, key: Sequence[str], row: Row) -> bool:
    try:
        for name, value in row.items():
            if value is not None:
                converter(table.columns[name])(value)
            elif name in key:
                return True
    except (WriteRefused, KeyError):
        return True
    return False


def _told(table: Table, key: Sequence[str] | None) -> str:
    return f"{table}, key {', '.join(key)}" if key else str(table)


@contextmanager
def refused_by_server(
    table: Table, names: Sequence[str], key: Sequence[str] | None
) -> Iterator[None]:
    """What the server refuses of rows with the columns ``names``, as WriteRefused with theirs."""
    try:
        yield
    except asyncpg.PostgresError as error:
        sqlstate = error.sqlstate or ""
        if not sqlstate.startswith(WRONG_VALUES):
            raise
        told = [f"{one.name} ({one.type})" for one in _suspects(table, names, error)]
        constraint = getattr(error, "constraint_name", None)
        raise WriteRefused(
            f"{_told(table, key)}: PostgreSQL refused a value"
            + (f" for {'column' if len(told) == 1 else 'one of'} {', '.join(told)}" if told else "")
            + f": {type(error).__name__.removesuffix('Error')} ({sqlstate})",
            why=f"constraint {constraint}" if constraint else WHY[sqlstate[:2]],
            next_step="leave such rows out, or let schema.sql say that the column takes them",
        ) from None


def _suspects(table: Table, names: Sequence[str], error: asyncpg.PostgresError) -> Sequence[Column]:
    """The columns that it may be about, as far as the server says."""
    column_name, datatype, message = (
        str(getattr(error, name, None) or "")
        for name in ("column_name", "data_type_name", "message")
    )
    if column_name in table.columns:
        return [table.columns[column_name]]
    if getattr(error, "table_name", None):
        return []  # a constraint of the table: its name says what is wrong
    if not (error.sqlstate or "").startswith("22") and not datatype:
        return []
    left = [table.columns[name] for name in names if _read_by_server(table.columns[name])]
    if (found := NAMED_TYPE.match(message)) is not None:
        datatype = found[1].rpartition(".")[2]
    same = [one for one in left if one.plain_type.rpartition(".")[2].strip('"') == datatype]
    return same or left


def _read_by_server(column: Column) -> bool:
    """Whether it takes less than what was checked before it was sent."""
    if column.plain_type == "numeric":
        return MODIFIER.search(column.type) is not None
    return column.plain_type not in KINDS or column.plain_type == "interval"
