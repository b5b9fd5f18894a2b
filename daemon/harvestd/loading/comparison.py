"""What a schema.sql makes on an empty schema, compared with what there is after it ran.

An edit inside CREATE TABLE IF NOT EXISTS does nothing where the table is there already: each such
difference is told, with the DDL that mends it and may run again on both.  What the file has no
more is kept, since nothing drops data in silence; only what would refuse its rows is a difference.

Not compared: the order of columns, the names of constraints that say the same, and what
``described.py`` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from harvestd.loading.described import Described, Thing, describe_schema
from harvestd.loading.differences import differences
from harvestd.loading.mends import Difference, text


@dataclass(frozen=True, slots=True)
class Compared:
    """What is to be mended, and what stays though the file has it no more."""

    differences: tuple[Difference, ...] = ()
    kept: tuple[str, ...] = ()


async def compare_schema(
    connection: asyncpg.Connection[Any], *, source: str, expected: Described
) -> Compared:
    """Compare the schema as this transaction sees it with what its file makes on an empty one."""
    return compare(expected, await describe_schema(connection, source))


async def compare_applied(
    connection: asyncpg.Connection[Any], *, source: str, expected: Described
) -> tuple[Difference, ...]:
    """What differs where the file was applied some time ago, and does not run now.

    Of views only whether they are there: one of ``SELECT *`` is spelt by the columns there were
    when the file ran, the framework's among them or not.
    """
    found = await describe_schema(connection, source)
    views = {name: replace(view, made_now=True) for name, view in found.views.items()}
    return compare(expected, replace(found, views=views)).differences


def compare(expected: Described, found: Described) -> Compared:
    """All differences of ``found`` from ``expected``, and what it has besides."""
    return Compared(tuple(differences(expected, found)), tuple(_kept(expected, found)))


def changes(before: Described, after: Described) -> list[str]:
    """What happened from one to the other, a line for each thing: make, alter, drop."""
    old, new = before.things, after.things
    made = [what for what in new if what not in old]
    gone = [what for what in old if what not in new]
    return [
        *(f"make the {what} {new[what].definition}".rstrip() for what in _wholes(new, made)),
        *(
            f"alter the {what}: {new[what].definition} (was: {old[what].definition})"
            for what in new
            if what in old and new[what].definition != old[what].definition
        ),
        *(f"drop the {what}" for what in _wholes(old, gone)),
    ]


def _wholes(things: Mapping[str, Thing], whats: Sequence[str]) -> Iterator[str]:
    """Without the parts of those that are there as a whole, as a table's columns are."""
    return (what for what in whats if things[what].part_of not in whats)


def _kept(expected: Described, found: Described) -> Iterator[str]:
    """What the file has no more, and what refuses none of its rows."""
    pairs = (
        ("table", expected.tables, found.tables),
        ("composite type", expected.composites, found.composites),
        ("enum type", expected.enums, found.enums),
        ("domain", expected.domains, found.domains),
        ("view", expected.views, found.views),
    )
    for kind, said, there in pairs:
        yield from (f"the {kind} {found.place(name)}" for name in there if name not in said)
    for name, table in expected.tables.items():
        if (other := found.tables.get(name)) is None:
            continue
        place = found.place(name)
        for column in other.columns.values():
            if column.name not in table.columns and column.filled:
                yield f"the column {place}.{column.name}"
        rules = {(rule.kind, rule.definition) for rule in table.rules}
        for rule in other.rules:
            if not rule.narrows and (rule.kind, rule.definition) not in rules:
                yield f"the {rule.kind} {rule.name} on {place}"
    for name, labels in expected.enums.items():
        for label in found.enums.get(name, ()):
            if label not in labels:
                yield f"the value {text(label)} of the enum type {found.place(name)}"
