"""What stands in the way of changing a column or a key, and the DDL that makes room for it.

Views that read the table, columns that are computed from the column, foreign keys that need the
key.  What is taken out of the way is made again, by the DDL or, a view, by the file itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from harvestd.loading.described import Described, DescribedColumn, Rule

KEYS = ("primary key", "unique key")
COLUMNS = re.compile(r"\(([^()]*)\)")
REFERENCES = re.compile(
    r"FOREIGN KEY \((?P<columns>[^)]*)\) REFERENCES (?P<place>[^(]+)\((?P<needed>[^)]*)\)"
)


def mentions(text: str | None, name: str) -> bool:
    """Whether SQL ``text`` has the name, spelt as there."""
    return text is not None and bool(
        re.search(rf'(?<![\w".]){re.escape(name)}(?![\w"])', text)
        or re.search(rf'\.{re.escape(name)}(?![\w"])', text)
    )


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One that there is: of ``table``, whose ``columns`` need those of ``other``."""

    table: str
    rule: Rule
    columns: frozenset[str]
    other: str
    needed: frozenset[str]


def no_views(found: Described, table: str) -> str:
    """What drops every view that reads the table, also through another."""
    reading = [table]
    for place in reading:  # grows on the way
        for name, view in found.views.items():
            if name not in reading and mentions(view.definition, found.place(place)):
                reading.append(name)
    names = ", ".join(found.place(name) for name in sorted(reading[1:]))
    return f"DROP VIEW IF EXISTS {names}; " if names else ""


def computed_from(
    expected: Described, found: Described, table: str, column: str
) -> list[DescribedColumn]:
    """The columns that are computed from the column, as they are to be afterwards."""
    wanted = expected.tables[table].columns
    return [
        wanted.get(one.name, one)
        for one in found.tables[table].columns.values()
        if one.generated and mentions(one.expression, column)
    ]


def rules_again(expected: Described, table: str, columns: Collection[str]) -> str:
    """What makes the rules again that went with the columns."""
    rules = [
        rule
        for rule in expected.tables[table].rules
        if any(mentions(rule.definition, name) for name in columns)
    ]
    return "".join(f"; {made_again(expected.place(table), rule)}" for rule in rules)


def made_again(place: str, rule: Rule) -> str:
    """What makes the rule, whether it is there or not."""
    if rule.constrained:
        return f"{dropped(place, rule)}, ADD CONSTRAINT {rule.name} {rule.made}"
    return rule.made


def dropped(place: str, rule: Rule) -> str:
    """What drops a constraint."""
    return f"ALTER TABLE {place} DROP CONSTRAINT IF EXISTS {rule.name}"


def foreign_keys(found: Described) -> Iterator[ForeignKey]:
    """All that there are, between the schema's own tables."""
    tables = {found.place(name): name for name in found.tables}
    for table, described in found.tables.items():
        for rule in described.rules:
            parts = REFERENCES.match(rule.definition)
            if parts is not None and parts["place"] in tables:
                yield ForeignKey(
                    table,
                    rule,
                    frozenset(parts["columns"].split(", ")),
                    tables[parts["place"]],
                    frozenset(parts["needed"].split(", ")),
                )


def in_the_way(
    found: Described, retyped: Collection[tuple[str, str]], keys: Collection[tuple[str, Rule]]
) -> list[ForeignKey]:
    """The foreign keys that keep such columns (table and name) from another type on both sides,
    or such keys (table and rule) from being dropped."""
    return [
        one
        for one in foreign_keys(found)
        if (
            any((one.table, name) in retyped for name in one.columns)
            and any((one.other, name) in retyped for name in one.needed)
        )
        or any(table == one.other and _columns(rule) == one.needed for table, rule in keys)
    ]


def _columns(key: Rule) -> frozenset[str]:
    listed = COLUMNS.search(key.definition)
    return frozenset(listed[1].split(", ") if listed else ())
