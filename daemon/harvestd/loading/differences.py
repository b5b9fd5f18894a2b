"""What is not as a schema.sql says, thing by thing, and the DDL that makes it so.

The DDL may run again, and runs on an empty schema too, since it becomes a part of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harvestd.loading.described import (
    IDENTITY,
    Described,
    DescribedColumn,
    DescribedTable,
    Domain,
    Rule,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the file says; ``mend``: the DDL to add, below what made it.

    ``words``: what to look for in the file, best first.
    """

    what: str
    mend: str
    words: tuple[str, ...]


def differences(expected: Described, found: Described) -> Iterator[Difference]:
    """All of them, in an order in which the mends can stand in the file."""
    yield from _enums(expected, found)
    yield from _domains(expected, found)
    yield from _composites(expected, found)
    yield from _tables(expected, found)
    yield from _views(expected, found)


def text(value: str) -> str:
    """``value`` as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _tables(expected: Described, found: Described) -> Iterator[Difference]:
    for name, table in expected.tables.items():
        there = found.tables.get(name)
        place = expected.place(name)
        if there is None:
            yield Difference(
                f"the table {place} is missing",
                f"CREATE TABLE IF NOT EXISTS {place} (...)",
                (name,),
            )
            continue
        for column in table.columns.values():
            for what, mend in _column(place, column, there.columns.get(column.name)):
                yield Difference(what, mend, (column.name, name))
        for column in there.columns.values():
            if column.name not in table.columns and not column.filled:
                yield Difference(
                    f"{place}.{column.name} wants a value, and the file has no such column",
                    f"put it back, or lose its values: ALTER TABLE {place} DROP COLUMN IF EXISTS"
                    f" {column.name}",
                    (name,),
                )
        yield from _rules(expected, name, table, there)


def _column(
    place: str, wanted: DescribedColumn, there: DescribedColumn | None
) -> Iterator[tuple[str, str]]:
    """What is wrong with one column, and the mend."""
    name = f"{place}.{wanted.name}"
    alter = f"ALTER TABLE {place} ALTER COLUMN {wanted.name}"
    if there is None:
        yield f"the column {name} is missing", _adding(place, wanted)
        return
    if wanted.generated != there.generated or (
        wanted.generated and wanted.expression != there.expression
    ):
        if wanted.generated:
            # PostgreSQL 15 and 16 cannot change an expression; what is computed can be again.
            mend = (
                f"ALTER TABLE {place} DROP COLUMN IF EXISTS {wanted.name},"
                f" ADD COLUMN {wanted.name} {wanted}"
            )
        else:
            mend = f"{alter} DROP EXPRESSION IF EXISTS"
        yield f"{name} is {there}, not {wanted}", mend
        return
    if wanted.spelt_type != there.spelt_type:
        using = f" USING {wanted.name}::{wanted.type}"
        yield (
            f"{name} is of type {there.spelt_type}, not {wanted.spelt_type}",
            f"{alter} TYPE {wanted.spelt_type}{using}",
        )
    if wanted.not_null and not there.not_null:  # first: an identity column must be
        yield f"{name} admits null", f"{alter} SET NOT NULL"
    if wanted.identity != there.identity:
        yield f"{name} is {there}, not {wanted}", _identity(alter, wanted, there)
    elif not wanted.generated and wanted.expression != there.expression:
        default = "no default" if there.expression is None else f"the default {there.expression}"
        mend = "DROP DEFAULT" if wanted.expression is None else f"SET DEFAULT {wanted.expression}"
        yield f"{name} has {default}", f"{alter} {mend}"
    if there.not_null and not wanted.not_null:
        yield f"{name} admits no null", f"{alter} DROP NOT NULL"
    if wanted.counts and there.counts and wanted.counts != there.counts:
        yield (
            f"{name} counts {there.counts}, not {wanted.counts}",
            f"ALTER SEQUENCE {there.sequence} {wanted.counts}",
        )


def _adding(place: str, column: DescribedColumn) -> str:
    add = f"ALTER TABLE {place} ADD COLUMN IF NOT EXISTS {column.name} {column}"
    if column.filled:
        return add
    return (
        f"{add} DEFAULT (a value for the rows there are);"
        f" ALTER TABLE {place} ALTER COLUMN {column.name} DROP DEFAULT"
    )


def _identity(alter: str, wanted: DescribedColumn, there: DescribedColumn) -> str:
    if not wanted.identity:
        return f"{alter} DROP IDENTITY IF EXISTS"
    if there.identity:
        return f"{alter} SET GENERATED {IDENTITY[wanted.identity]}"
    add = f"{alter} ADD GENERATED {IDENTITY[wanted.identity]} AS IDENTITY"
    there_already = "object_not_in_prerequisite_state"
    if there.expression is None:
        return _unless(add, there_already)
    # Of an identity column DROP DEFAULT is called an error of syntax.
    return _unless(f"{alter} DROP DEFAULT; {add}", f"{there_already} OR syntax_error")


def _unless(statement: str, condition: str) -> str:
    """For DDL that knows no IF NOT EXISTS."""
    return f"DO $$ BEGIN {statement}; EXCEPTION WHEN {condition} THEN NULL; END $$"


def _rules(
    expected: Described, name: str, table: DescribedTable, there: DescribedTable
) -> Iterator[Difference]:
    place = expected.place(name)
    said = {(rule.kind, rule.definition) for rule in table.rules}
    kept = {(rule.kind, rule.definition) for rule in there.rules}
    names = {rule.name: rule for rule in there.rules}
    replaced = set()
    for rule in table.rules:
        if (rule.kind, rule.definition) in kept:
            continue
        other = names.get(rule.name)
        replaced.add(rule.name)
        has = "" if other is None else f"; there it is {other.definition}"
        yield Difference(
            f"{place} lacks the {rule.kind} {rule.name}: {rule.definition}{has}",
            _making(expected, place, rule, other),
            (rule.name, name),
        )
    for rule in there.rules:
        if rule.narrows and rule.name not in replaced and (rule.kind, rule.definition) not in said:
            yield Difference(
                f"{place} has the {rule.kind} {rule.name}, which the file has not: "
                f"{rule.definition}",
                _dropping(expected, place, rule),
                (name,),
            )


def _making(expected: Described, place: str, rule: Rule, other: Rule | None) -> str:
    if rule.constrained:
        return (
            f"ALTER TABLE {place} DROP CONSTRAINT IF EXISTS {rule.name},"
            f" ADD CONSTRAINT {rule.name} {rule.made}"
        )
    return rule.made if other is None else f"{_dropping(expected, place, other)}; {rule.made}"


def _dropping(expected: Described, place: str, rule: Rule) -> str:
    if rule.constrained:
        return f"ALTER TABLE {place} DROP CONSTRAINT IF EXISTS {rule.name}"
    kind = "STATISTICS" if rule.kind == "statistics" else "INDEX"
    return f"DROP {kind} IF EXISTS {expected.place(rule.name)}"


def _enums(expected: Described, found: Described) -> Iterator[Difference]:
    for name, labels in expected.enums.items():
        place, there = expected.place(name), found.enums.get(name)
        if there is None:
            spelt = ", ".join(map(text, labels))
            yield _lacking("enum type", place, name, f"CREATE TYPE {place} AS ENUM ({spelt})")
            continue
        for before, label in zip((None, *labels), labels, strict=False):
            if label in there:
                continue
            # In the file's order: an added one goes to the end unless told.
            after = f" AFTER {text(before)}" if before is not None else ""
            yield Difference(
                f"the enum type {place} lacks {text(label)}",
                f"ALTER TYPE {place} ADD VALUE IF NOT EXISTS {text(label)}{after}",
                (name,),
            )


def _domains(expected: Described, found: Described) -> Iterator[Difference]:
    for name, domain in expected.domains.items():
        place, there = expected.place(name), found.domains.get(name)
        if there is None:
            yield _lacking("domain", place, name, f"CREATE DOMAIN {place} AS {domain}")
            continue
        for what, mend in _domain(place, domain, there):
            yield Difference(f"the domain {place} {what}", mend, (name,))


def _domain(place: str, wanted: Domain, there: Domain) -> Iterator[tuple[str, str]]:
    alter = f"ALTER DOMAIN {place}"
    if wanted.spelt_type != there.spelt_type:
        yield (
            f"is of type {there.spelt_type}, not {wanted.spelt_type}, which no ALTER changes",
            "make a domain of another name, and give its type to the columns",
        )
    if wanted.not_null != there.not_null:
        verb = "SET" if wanted.not_null else "DROP"
        yield f"{'admits no' if there.not_null else 'admits'} null", f"{alter} {verb} NOT NULL"
    if wanted.expression != there.expression:
        default = "no default" if there.expression is None else f"the default {there.expression}"
        mend = "DROP DEFAULT" if wanted.expression is None else f"SET DEFAULT {wanted.expression}"
        yield f"has {default}", f"{alter} {mend}"
    for name, check in wanted.checks.items():
        if check not in there.checks.values():
            yield (
                f"lacks {name}: {check}",
                f"{alter} DROP CONSTRAINT IF EXISTS {name}; {alter} ADD CONSTRAINT {name} {check}",
            )
    for name, check in there.checks.items():
        if check not in wanted.checks.values() and name not in wanted.checks:
            yield (
                f"has {name}, which the file has not: {check}",
                f"{alter} DROP CONSTRAINT IF EXISTS {name}",
            )


def _composites(expected: Described, found: Described) -> Iterator[Difference]:
    for name, wanted in expected.composites.items():
        place, there = expected.place(name), found.composites.get(name)
        if there is None:
            spelt = ", ".join(f"{one.name} {one.spelt_type}" for one in wanted.columns.values())
            yield _lacking("composite type", place, name, f"CREATE TYPE {place} AS ({spelt})")
            continue
        for one in wanted.columns.values():
            other = there.columns.get(one.name)
            if other is None:
                add = f"ALTER TYPE {place} ADD ATTRIBUTE {one.name} {one.spelt_type}"
                yield Difference(
                    f"the composite type {place} lacks {one.name}",
                    _unless(add, "duplicate_column"),
                    (one.name, name),
                )
            elif one.spelt_type != other.spelt_type:
                yield Difference(
                    f"{place}.{one.name} is of type {other.spelt_type}, not {one.spelt_type}",
                    f"ALTER TYPE {place} ALTER ATTRIBUTE {one.name} TYPE {one.spelt_type}",
                    (one.name, name),
                )


def _views(expected: Described, found: Described) -> Iterator[Difference]:
    for name, view in expected.views.items():
        place, there = expected.place(name), found.views.get(name)
        if there is None or not (there.made_now or there.definition == view.definition):
            state = "is missing" if there is None else "shows something else"
            yield Difference(
                f"the view {place} {state}",
                f"make it each time: CREATE OR REPLACE VIEW {place}, below DROP VIEW IF EXISTS"
                f" {place} where its columns changed",
                (name,),
            )


def _lacking(kind: str, place: str, name: str, create: str) -> Difference:
    return Difference(
        f"the {kind} {place} is missing", _unless(create, "duplicate_object"), (name,)
    )
