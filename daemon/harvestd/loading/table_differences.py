"""What of the tables is not as a schema.sql says, and the DDL that makes it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harvestd.loading.described import (
    IDENTITY,
    Described,
    DescribedColumn,
    DescribedTable,
    Rule,
)
from harvestd.loading.mends import Difference, Turn, unless
from harvestd.loading.room import (
    KEYS,
    computed_from,
    dropped,
    in_the_way,
    made_again,
    no_views,
    rules_again,
)
from harvestd.loading.writes import TENANT_ID

SERIALS = {"smallint": "smallserial", "integer": "serial", "bigint": "bigserial"}


def table_differences(expected: Described, found: Described) -> Iterator[Difference]:
    told = sorted(_all_of_tables(expected, found), key=lambda one: one.turn)
    if not any(one.mend for one in told):
        yield from told
        return
    obstacles = in_the_way(found, _retyped(expected, found), _keys_dropped(expected, found))
    before = [dropped(found.place(one.table), one.rule) for one in obstacles]
    after = [
        made_again(found.place(one.table), one.rule)
        for one in obstacles
        if one.table in expected.tables
        and one.rule.definition in {rule.definition for rule in expected.tables[one.table].rules}
    ]
    first, last = (next(one for one in order if one.mend) for order in (told, told[::-1]))
    for one in told:
        mends = [*(before if one is first else ()), one.mend, *(after if one is last else ())]
        yield replace(one, mend="; ".join(mends))


def _retyped(expected: Described, found: Described) -> set[tuple[str, str]]:
    return {
        (name, column.name)
        for name, table in expected.tables.items()
        if name in found.tables
        for column in table.columns.values()
        if column.name in found.tables[name].columns
        and column.spelt_type != found.tables[name].columns[column.name].spelt_type
    }


def _keys_dropped(expected: Described, found: Described) -> list[tuple[str, Rule]]:
    return [
        (name, rule)
        for name, table in found.tables.items()
        if name in expected.tables
        for rule in table.rules
        if rule.kind in KEYS
        and rule.definition not in {wanted.definition for wanted in expected.tables[name].rules}
    ]


def _all_of_tables(expected: Described, found: Described) -> Iterator[Difference]:
    for name, table in expected.tables.items():
        there = found.tables.get(name)
        place = expected.place(name)
        if there is None:
            yield Difference(
                f"the table {place} is missing",
                "",
                (name,),
                advice=f"make it by CREATE TABLE IF NOT EXISTS {place} (...)",
            )
            continue
        for column in table.columns.values():
            other = there.columns.get(column.name)
            words = (column.name, name)
            if other is None:
                what = f"the column {place}.{column.name} is missing"
                yield Difference(what, _adding(place, column), words)
            else:
                yield from (
                    replace(one, words=words)
                    for one in _column(expected, found, name, column, other)
                )
        for column in there.columns.values():
            if column.name not in table.columns and not column.filled:
                yield Difference(
                    f"{place}.{column.name} wants a value, and the file has no such column",
                    "",
                    (name,),
                    advice=f"put it back, or lose its values: {no_views(found, name)}ALTER TABLE"
                    f" {place} DROP COLUMN IF EXISTS {column.name}",
                )
        yield from _rules(expected, name, table, there)


def _column(
    expected: Described,
    found: Described,
    table: str,
    wanted: DescribedColumn,
    there: DescribedColumn,
) -> Iterator[Difference]:
    """What is wrong with one column, and the mends."""
    place = expected.place(table)
    name = f"{place}.{wanted.name}"
    alter = f"ALTER TABLE {place} ALTER COLUMN {wanted.name}"
    if wanted.generated != there.generated or (
        wanted.generated
        and (wanted.expression, wanted.spelt_type) != (there.expression, there.spelt_type)
    ):
        yield _computing(expected, found, table, wanted, there)
        return
    if wanted.spelt_type != there.spelt_type:
        yield _retyping(expected, found, table, wanted, there)
    if wanted.not_null and not there.not_null:  # first: an identity column must be
        yield Difference(f"{name} admits null", f"{alter} SET NOT NULL", ())
    if wanted.identity != there.identity:
        yield Difference(f"{name} is {there}, not {wanted}", _identity(alter, wanted, there), ())
    elif not wanted.generated and wanted.expression != there.expression:
        default = "no default" if there.expression is None else f"the default {there.expression}"
        mend = "DROP DEFAULT" if wanted.expression is None else f"SET DEFAULT {wanted.expression}"
        yield Difference(f"{name} has {default}", f"{_counting(place, wanted)}{alter} {mend}", ())
    if there.not_null and not wanted.not_null:
        yield Difference(
            f"{name} admits no null", f"{alter} DROP NOT NULL", (), Turn.NULLS_ADMITTED
        )
    if wanted.counts and there.counts and wanted.counts != there.counts:
        yield Difference(
            f"{name} counts {there.counts}, not {wanted.counts}",
            f"ALTER SEQUENCE {there.sequence} {wanted.counts}",
            (),
        )


def _computing(
    expected: Described,
    found: Described,
    table: str,
    wanted: DescribedColumn,
    there: DescribedColumn,
) -> Difference:
    place = expected.place(table)
    what = f"{place}.{wanted.name} is {there}, not {wanted}"
    if there.generated == "v" and not wanted.generated:
        advice = f"no ALTER keeps what {wanted.name} computes: take a column of another name"
        return Difference(what, "", (), advice=advice)
    if not wanted.generated:
        drop = f"ALTER TABLE {place} ALTER COLUMN {wanted.name} DROP EXPRESSION IF EXISTS"
        return Difference(what, drop, ())
    # PostgreSQL 15 and 16 cannot change an expression; what is computed can be again.
    mend = (
        f"{no_views(found, table)}ALTER TABLE {place} DROP COLUMN IF EXISTS {wanted.name},"
        f" ADD COLUMN {wanted.name} {wanted}{rules_again(expected, table, [wanted.name])}"
    )
    return Difference(what, mend, ())


def _retyping(
    expected: Described,
    found: Described,
    table: str,
    wanted: DescribedColumn,
    there: DescribedColumn,
) -> Difference:
    place = expected.place(table)
    what = f"{place}.{wanted.name} is of type {there.spelt_type}, not {wanted.spelt_type}"
    if wanted.name == TENANT_ID:
        advice = (
            f"write {TENANT_ID} {there.spelt_type}: policies read it, and no ALTER changes its type"
        )
        return Difference(what, "", (), advice=advice)
    computed = computed_from(expected, found, table, wanted.name)
    parts = [
        *(f"DROP COLUMN IF EXISTS {one.name}" for one in computed),
        # The old default may not be one of the new type, and is told by itself.
        *(
            [f"ALTER COLUMN {wanted.name} DROP DEFAULT"]
            if there.expression is not None and there.expression != wanted.expression
            else []
        ),
        f"ALTER COLUMN {wanted.name} TYPE {wanted.spelt_type} USING {wanted.name}::{wanted.type}",
        *(f"ADD COLUMN {one.name} {one}" for one in computed),
    ]
    again = rules_again(expected, table, [one.name for one in computed])
    return Difference(
        what, f"{no_views(found, table)}ALTER TABLE {place} {', '.join(parts)}{again}", ()
    )


def _is_serial(place: str, column: DescribedColumn) -> bool:
    default = f"nextval('{column.sequence}'::regclass)"
    return column.sequence is not None and column.not_null and column.expression == default


def _counting(place: str, column: DescribedColumn) -> str:
    """What makes the sequence of a serial column where there is none yet."""
    if not _is_serial(place, column):
        return ""
    name, kind = f"{place}.{column.name}", column.type
    return f"CREATE SEQUENCE IF NOT EXISTS {column.sequence} AS {kind} OWNED BY {name}; "


def _adding(place: str, column: DescribedColumn) -> str:
    spelt = SERIALS[column.type] if _is_serial(place, column) else str(column)
    add = f"ALTER TABLE {place} ADD COLUMN IF NOT EXISTS {column.name} {spelt}"
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
        return unless(add, there_already)
    # Of an identity column DROP DEFAULT is called an error of syntax.
    return unless(f"{alter} DROP DEFAULT; {add}", f"{there_already} OR syntax_error")


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
            Turn.FOREIGN_KEYS if rule.kind == "foreign key" else Turn.RULES,
        )
    for rule in there.rules:
        if rule.narrows and rule.name not in replaced and (rule.kind, rule.definition) not in said:
            yield Difference(
                f"{place} has the {rule.kind} {rule.name}, which the file has not: "
                f"{rule.definition}",
                _dropping(expected, place, rule),
                (name,),
                Turn.FOREIGN_KEYS_DROPPED if rule.kind == "foreign key" else Turn.RULES,
            )


def _making(expected: Described, place: str, rule: Rule, other: Rule | None) -> str:
    if rule.constrained or other is None:
        return made_again(place, rule)
    return f"{_dropping(expected, place, other)}; {rule.made}"


def _dropping(expected: Described, place: str, rule: Rule) -> str:
    if rule.constrained:
        return dropped(place, rule)
    kind = "STATISTICS" if rule.kind == "statistics" else "INDEX"
    return f"DROP {kind} IF EXISTS {expected.place(rule.name)}"
