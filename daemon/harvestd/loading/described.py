"""What a data source's schema holds, as pg_catalog says: the sides of every comparison.

Left out is what belongs to the framework (policies, the guard, grants), to whoever tunes the
database (storage, fill factors), and what each run of a schema.sql says anew (comments).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import asyncpg

from harvestd.database.statements import sql
from harvestd.loading.writes import FRAMEWORK_COLUMNS, TENANT_ID

IDENTITY = {"a": "ALWAYS", "d": "BY DEFAULT"}
GENERATED = {"s": "STORED", "v": "VIRTUAL"}


@dataclass(frozen=True, slots=True)
class DescribedColumn:
    """A column of a table, or an attribute of a composite type; letters as in pg_attribute."""

    name: str
    type: str
    collation: str | None
    not_null: bool
    expression: str | None
    generated: str
    identity: str
    sequence: str | None
    counts: str | None

    @property
    def spelt_type(self) -> str:
        """Type and collation as DDL spells them."""
        return self.type + (f" COLLATE {self.collation}" if self.collation else "")

    @property
    def filled(self) -> bool:
        """Whether a row that leaves it out gets a value, or may."""
        return not self.not_null or bool(self.expression or self.generated or self.identity)

    def __str__(self) -> str:
        """All of it as DDL spells it, without the name."""
        words = [self.spelt_type]
        if self.generated:
            words.append(f"GENERATED ALWAYS AS ({self.expression}) {GENERATED[self.generated]}")
        elif self.identity:
            words.append(f"GENERATED {IDENTITY[self.identity]} AS IDENTITY")
        elif self.expression is not None:
            words.append(f"DEFAULT {self.expression}")
        if self.not_null and not self.identity:
            words.append("NOT NULL")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint, an index or statistics of a table; ``definition`` leaves its name out."""

    kind: str
    name: str
    definition: str
    constrained: bool
    made: str

    @property
    def narrows(self) -> bool:
        """Whether it decides which rows are admitted."""
        return self.kind not in ("index", "statistics")


@dataclass(frozen=True, slots=True)
class DescribedTable:
    """A table, or a composite type, which has columns only."""

    columns: Mapping[str, DescribedColumn]
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain; ``checks`` by name."""

    spelt_type: str
    not_null: bool
    expression: str | None
    checks: Mapping[str, str]

    def __str__(self) -> str:
        words = [self.spelt_type]
        if self.expression is not None:
            words.append(f"DEFAULT {self.expression}")
        if self.not_null:
            words.append("NOT NULL")
        return " ".join((*words, *self.checks.values()))


@dataclass(frozen=True, slots=True)
class View:
    """A view: options and query; ``made_now``: by the transaction it was described in."""

    definition: str
    made_now: bool


@dataclass(frozen=True, slots=True)
class Thing:
    """How one thing is defined, and which one it goes with."""

    definition: str
    part_of: str = ""


@dataclass(frozen=True)
class Described:
    """A schema by the names of what it holds, as SQL spells them; without what finishing adds."""

    schema: str
    tables: Mapping[str, DescribedTable]
    composites: Mapping[str, DescribedTable]
    enums: Mapping[str, tuple[str, ...]]
    domains: Mapping[str, Domain]
    views: Mapping[str, View]

    def place(self, name: str) -> str:
        """``name`` with its schema, as SQL spells it."""
        return f"{self.schema}.{name}"

    @cached_property
    def things(self) -> Mapping[str, Thing]:
        """Everything there is, by what it is: ``table shop.t``, ``column shop.t.x``."""
        return dict(self._things())

    def _things(self) -> Iterator[tuple[str, Thing]]:
        for kind, tables in (("table", self.tables), ("composite type", self.composites)):
            for name, table in tables.items():
                place = self.place(name)
                whole = f"{kind} {place}"
                yield whole, Thing("")
                for column in table.columns.values():
                    yield f"column {place}.{column.name}", Thing(str(column), whole)
                    if column.counts:
                        yield f"sequence of {place}.{column.name}", Thing(column.counts, whole)
                for rule in table.rules:
                    yield f"{rule.kind} {rule.name} on {place}", Thing(rule.definition, whole)
        for name, labels in self.enums.items():
            yield f"enum type {self.place(name)}", Thing(", ".join(labels))
        for name, domain in self.domains.items():
            yield f"domain {self.place(name)}", Thing(str(domain))
        for name, view in self.views.items():
            yield f"view {self.place(name)}", Thing(" ".join(view.definition.split()))


async def describe_schema(connection: asyncpg.Connection[Any], schema: str) -> Described:
    """Read it from pg_catalog; the connection's search_path must be pg_catalog, pg_temp.

    Expressions are spelt under a lock on their table, which only ACCESS EXCLUSIVE keeps waiting.
    """
    columns = await connection.fetch(sql("describe_columns"), schema)
    rules = await connection.fetch(sql("describe_rules"), schema)
    types = await connection.fetch(sql("describe_types"), schema)
    views = await connection.fetch(sql("describe_views"), schema)
    tables: dict[bool, dict[str, DescribedTable]] = {False: {}, True: {}}
    for (composite, name, keyed), rows in groupby(columns, _relation):
        own = [_column(row, keyed=keyed) for row in rows]
        tables[composite][name] = DescribedTable(
            {column.name: column for column in own if column is not None},
            tuple(_rule(row) for row in rules if row["relation"] == name),
        )
    return Described(
        await connection.fetchval("SELECT quote_ident($1)", schema),
        tables[False],
        tables[True],
        {row["name"]: tuple(row["labels"]) for row in types if row["is_enum"]},
        {row["name"]: _domain(row) for row in types if not row["is_enum"]},
        {row["name"]: View(row["definition"], row["made_now"]) for row in views},
    )


def _relation(row: Mapping[str, Any]) -> tuple[bool, str, bool]:
    return row["composite"], row["relation"], row["keyed"]


def _column(row: Mapping[str, Any], *, keyed: bool) -> DescribedColumn | None:
    """The column as the file says it; None when it is only the framework's."""
    if keyed and row["name"] in FRAMEWORK_COLUMNS:
        return None
    names = (field.name for field in fields(DescribedColumn))
    column = DescribedColumn(**{name: row[name] for name in names})
    if column.name == TENANT_ID:
        return replace(column, not_null=True, expression=None)
    return column


def _rule(row: Mapping[str, Any]) -> Rule:
    return Rule(**{field.name: row[field.name] for field in fields(Rule)})


def _domain(row: Mapping[str, Any]) -> Domain:
    collation = f" COLLATE {row['collation']}" if row["collation"] else ""
    return Domain(
        row["type"] + collation,
        row["not_null"],
        row["expression"],
        {name: definition for name, definition in row["checks"]},
    )
