"""What is not as a schema.sql says, thing by thing, and the DDL that makes it so.

The DDL may run again, and runs on an empty schema too, since it becomes a part of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from harvestd.loading.described import Described, Domain
from harvestd.loading.mends import Difference, text, unless
from harvestd.loading.table_differences import table_differences


def differences(expected: Described, found: Described) -> Iterator[Difference]:
    """All of them, in an order in which the mends can stand in the file."""
    yield from _enums(expected, found)
    yield from _domains(expected, found)
    yield from _composites(expected, found)
    yield from table_differences(expected, found)
    yield from _views(expected, found)


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
                advice=_once_committed(expected, f"{text(label)}::{place}"),
            )


def _once_committed(expected: Described, value: str) -> str:
    """What to do where an expression has the new ``value``; nothing where none has."""
    users = [
        f"{expected.place(name)}.{column.name}"
        for name, table in expected.tables.items()
        for column in table.columns.values()
        if value in (column.expression or "")
    ] + [
        f"{rule.kind} {rule.name}"
        for table in expected.tables.values()
        for rule in table.rules
        if value in rule.definition
    ]
    if not users:
        return ""
    return (
        f"PostgreSQL admits {value} only once it was committed: let the file be applied with this"
        f" and without its use by {', '.join(users)}, and then with both"
    )


def _columns_of(expected: Described, place: str) -> list[str]:
    """The columns that are of the type, or of an array of it."""
    return [
        f"{expected.place(name)}.{column.name}"
        for tables in (expected.tables, expected.composites)
        for name, table in tables.items()
        for column in table.columns.values()
        if column.type in (place, f"{place}[]")
    ]


def _another(kind: str, columns: list[str]) -> str:
    given = f", give it to {', '.join(columns)}," if columns else ""
    return f"make a {kind} of another name{given} and leave this one out of the file"


def _domains(expected: Described, found: Described) -> Iterator[Difference]:
    for name, domain in expected.domains.items():
        place, there = expected.place(name), found.domains.get(name)
        if there is None:
            yield _lacking("domain", place, name, f"CREATE DOMAIN {place} AS {domain}")
            continue
        if domain.spelt_type != there.spelt_type:
            yield Difference(
                f"the domain {place} is of type {there.spelt_type}, not {domain.spelt_type}, which"
                " no ALTER changes",
                "",
                (name,),
                advice=_another("domain", _columns_of(expected, place)),
            )
            continue
        for what, mend in _domain(place, domain, there):
            yield Difference(f"the domain {place} {what}", mend, (name,))


def _domain(place: str, wanted: Domain, there: Domain) -> Iterator[tuple[str, str]]:
    alter = f"ALTER DOMAIN {place}"
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
                    unless(add, "duplicate_column"),
                    (one.name, name),
                )
            elif one.spelt_type != other.spelt_type:
                what = f"{place}.{one.name} is of type {other.spelt_type}, not {one.spelt_type}"
                words = (one.name, name)
                if columns := _columns_of(found, place):
                    advice = f"no ALTER changes it: {_another('composite type', columns)}"
                    yield Difference(what, "", words, advice=advice)
                else:
                    alter = f"ALTER TYPE {place} ALTER ATTRIBUTE {one.name} TYPE {one.spelt_type}"
                    yield Difference(what, alter, words)


def _views(expected: Described, found: Described) -> Iterator[Difference]:
    for name, view in expected.views.items():
        place, there = expected.place(name), found.views.get(name)
        if there is None or not (there.made_now or there.definition == view.definition):
            state = "is missing" if there is None else "shows something else"
            yield Difference(
                f"the view {place} {state}",
                "",
                (name,),
                advice=f"make it each time: CREATE OR REPLACE VIEW {place}, below DROP VIEW IF"
                f" EXISTS {place} where its columns changed",
            )


def _lacking(kind: str, place: str, name: str, create: str) -> Difference:
    return Difference(f"the {kind} {place} is missing", unless(create, "duplicate_object"), (name,))
