"""Whether the application's own tables can be taken over, and if not, why not.

Adoption is the normal case: the application made `tenant`, `tenant_data_source_config` and
`data_source_run` with Prisma.  Migration 0002 gives them our shape; this module looks first, so
that nothing is touched where that could not work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg

from harvestd.database.statements import sql
from harvestd.errors import AdoptionRefused

TABLES = ("tenant", "tenant_data_source_config", "data_source_run")
TEXT = ("text",)
TIME = ("timestamp without time zone", "timestamp with time zone")
STATUS = ('"DataSourceRunStatus"',)
REFUSED_CODES = MappingProxyType(
    {
        "HD010": "the type of a time column cannot be changed",  # raised by migration 0002
        "0A000": "the type of a time column cannot be changed",  # a policy, trigger, generated one
        "23505": "there are two rows for one key",
    }
)
"""What migration 0002 may meet, by SQLSTATE; the server's text then holds names and no values."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column of the specification: its types, and whether a table may lack it (0002 adds it)."""

    types: tuple[str, ...]
    may_lack: bool = False


COLUMNS: Mapping[str, Mapping[str, Wanted]] = MappingProxyType(
    {
        "tenant": {
            "id": Wanted(TEXT),
            "name": Wanted(TEXT, may_lack=True),
            "created_at": Wanted(TIME, may_lack=True),
        },
        "tenant_data_source_config": {
            **{name: Wanted(TEXT) for name in ("id", "tenant_id", "data_source", "key", "value")},
            "created_at": Wanted(TIME, may_lack=True),
            "updated_at": Wanted(TIME, may_lack=True),
        },
        "data_source_run": {
            **{name: Wanted(TEXT) for name in ("id", "tenant_id", "data_source", "script")},
            "status": Wanted(STATUS),
            "started_at": Wanted(TIME),
            "completed_at": Wanted(TIME),
            "error": Wanted(TEXT),
            "last_fetched_data_date": Wanted(TIME),
        },
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column that there is."""

    table: str
    name: str
    type: str
    required: bool


async def refuse_unfit(connection: asyncpg.Connection[Any], role: str) -> tuple[str, ...]:
    """The names of the three tables that exist already; () on a fresh database.

    Raises: AdoptionRefused, when one of them cannot be taken over.
    """
    relations = await connection.fetch(sql("list_relations_of_the_application"))
    names = {row["name"] for row in relations}
    existing = tuple(table for table in TABLES if table in names)
    for row in relations:
        _refuse_relation(row["name"], row["kind"], row["owner"], mine=row["mine"], role=role)
    for table in TABLES:
        _refuse_other_spelling(table, names)
    if "tenant_data_source_config" in existing:
        target = await connection.fetchrow(sql("find_tenant_table"))
        _refuse_other_tenant_table(target and (target["schema_name"], target["table_name"]), names)
    rows = await connection.fetch(sql("list_columns_of_the_application"))
    columns = [
        Column(row["table_name"], row["name"], row["type"].removeprefix("public."), row["required"])
        for row in rows
    ]
    refuse_columns(columns, existing)
    return existing


async def holds_rows(connection: asyncpg.Connection[Any], tables: Iterable[str]) -> bool:
    """Whether any of these tables of the application has a row."""
    for table in tables:
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM public.{table})"):  # noqa: S608
            return True
    return False


def refuse_columns(columns: Iterable[Column], tables: Iterable[str]) -> None:
    """Raise AdoptionRefused for columns of these tables that are missing, of another type, or
    unknown to us and yet required: all of them at once, with what mends each."""
    known = tuple(columns)
    unfit = [
        one
        for table in tables
        for one in _unfit(table, {each.name: each for each in known if each.table == table})
    ]
    if unfit:
        raise AdoptionRefused(
            "; ".join(what for what, _ in unfit),
            why="harvestd reads and writes the columns that the specification names, and makes "
            "rows in these tables (docs/adopt.md lists the columns)",
            next_step=" ".join(mend for _, mend in unfit),
        )


def _unfit(table: str, there: Mapping[str, Column]) -> Iterator[tuple[str, str]]:
    """What does not fit, and the statement that mends it."""
    for name, wanted in COLUMNS[table].items():
        column = there.get(name)
        alter = f"ALTER TABLE public.{table}"
        if column is None and not wanted.may_lack:
            yield (
                f"public.{table} has no column {name}",
                f'{alter} ADD COLUMN {name} {wanted.types[-1]}; (or @map("{name}") the column '
                "that means it)",
            )
        if column is not None and column.type not in wanted.types:
            yield (
                f"public.{table}.{name} is of type {column.type}, not {wanted.types[0]}",
                f"{alter} ALTER COLUMN {name} TYPE {wanted.types[0]}; (with the columns that "
                "refer to it)",
            )
    for column in there.values():
        # Tenants are made by the application where it requires more; these rows are ours to make.
        if column.required and column.name not in COLUMNS[table] and table != "tenant":
            yield (
                f"public.{table}.{column.name} is NOT NULL and has no default",
                f"ALTER TABLE public.{table} ALTER COLUMN {column.name} SET DEFAULT ...;",
            )


def refused_by_server(error: asyncpg.PostgresError) -> AdoptionRefused | None:
    """Our error for what migration 0002 met in the application's tables, None for anything else."""
    code = error.sqlstate or ""
    if code not in REFUSED_CODES:
        return None
    names = error.message or ""
    if code == "0A000" and getattr(error, "detail", None):
        names = f"{names}: {error.detail}"
    return AdoptionRefused(
        f"{REFUSED_CODES[code]}: {names}",
        why="it belongs to the application; none of its tables was changed",
        next_step=getattr(error, "hint", None)
        or "remove what is named, run harvestd migrate, and make it again",
    )


def _refuse_relation(name: str, kind: str, owner: str, *, mine: bool, role: str) -> None:
    if kind == "type":
        raise AdoptionRefused(
            f'the type public."{name}" is no enum',
            why="it is the type of data_source_run.status",
            next_step="make it an enum of RUNNING, COMPLETED and FAILED, or rename it",
        )
    if name not in TABLES and kind != "enum":
        return
    if kind not in ("r", "enum"):
        raise AdoptionRefused(
            f"public.{name} is not an ordinary table",
            why="harvestd adds columns and triggers to it",
            next_step=f"make an ordinary table of it, or give what is called {name} another name",
        )
    if not mine:
        what = f'the type public."{name}"' if kind == "enum" else f"the table public.{name}"
        raise AdoptionRefused(
            f"{role} may not alter {what}",
            why=f"it belongs to {owner}",
            next_step=f'GRANT "{owner}" TO "{role}", or run harvestd migrate once with '
            f"HARVESTD_DATABASE_URL for {owner}",
        )


def _refuse_other_spelling(table: str, names: set[str]) -> None:
    alike = [name for name in names if name.lower().replace("_", "") == table.replace("_", "")]
    if table not in names and alike:
        raise AdoptionRefused(
            f'the application\'s table public."{alike[0]}" is not called {table}',
            why="harvestd works on the table names of the specification",
            next_step=f'ALTER TABLE public."{alike[0]}" RENAME TO {table} '
            f'(in Prisma: @@map("{table}"))',
        )


def _refuse_other_tenant_table(target: tuple[str, str] | None, names: set[str]) -> None:
    if target is None and "tenant" not in names:
        raise AdoptionRefused(
            "there is public.tenant_data_source_config, but no table public.tenant",
            why="it has no foreign key that would tell where the tenants are",
            next_step="call the application's table of tenants public.tenant, or create one with "
            "a row for each tenant_id",
        )
    if target is not None and target != ("public", "tenant"):
        schema, table = target
        raise AdoptionRefused(
            f'the application\'s table of tenants is {schema}."{table}", not public.tenant',
            why="the foreign key of tenant_data_source_config.tenant_id points there",
            next_step=f'ALTER TABLE {schema}."{table}" RENAME TO tenant '
            '(in Prisma: @@map("tenant")), in the schema public',
        )
