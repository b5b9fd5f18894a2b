"""Which of harvestd's functions are not those that its migrations made.

What each should be is its statement in the newest migration that has one, run in a schema of its
own in a transaction that is rolled back, and read from the catalog like what there is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.migrations import load_migrations, unknown_migrations
from harvestd.database.statements import sql

STATEMENT = re.compile(
    r"CREATE (?:OR REPLACE )?(?P<made>FUNCTION harvestd(?:_api)?\.\w+\([^)]*\).*?\$\$;)"
    r"|DROP FUNCTION (?P<dropped>[^;]+);",
    re.DOTALL,
)
HEAD = re.compile(r"FUNCTION (?P<name>[\w.]+)\((?P<arguments>[^)]*)\)")
SCHEMA = "harvestd"
SPELLED = {"timestamptz": "timestamp with time zone"}
"""Types that the catalog spells otherwise than migrations do."""


@dataclass(frozen=True, slots=True)
class Made:
    """A function as a migration makes it; ``definition`` follows CREATE OR REPLACE."""

    definition: str
    migration: str


async def find_replaced_functions(connection: asyncpg.Connection[Any]) -> list[tuple[str, str]]:
    """What was replaced, dropped or added, with what mends it; nothing is said where a newer
    harvestd migrated, which may have made others.

    Raises: asyncpg's errors, InsufficientPrivilegeError for a role that may make no schema.
    """
    if await unknown_migrations(connection):
        return []
    made = made_functions()
    owner = await connection.fetchval(
        "SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(nspowner))"
        " FROM pg_catalog.pg_namespace WHERE nspname = $1",
        SCHEMA,
    )
    actual = await _describe(connection, SCHEMA)
    copies = f"harvestd_probe_{secrets.token_hex(8)}"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"CREATE SCHEMA {copies}; CREATE SCHEMA {copies}_api")
        for one in made.values():
            head = one.definition.replace(f"FUNCTION {SCHEMA}", f"FUNCTION {copies}", 1)
            await connection.execute(f"CREATE {head}")
        expected = await _describe(connection, copies)
    finally:
        await transaction.rollback()
    return list(_compare(made, expected, actual, owner))


def made_functions() -> dict[str, Made]:
    """What all migrations together make, by name and types as ``_describe`` spells them."""
    made: dict[str, Made] = {}
    for migration in load_migrations():
        for found in STATEMENT.finditer(migration.text):
            if found["dropped"]:
                del made[_spelled(f"FUNCTION {found['dropped']}")]
            else:
                made[_spelled(found["made"])] = Made(found["made"], migration.name)
    return made


def _spelled(definition: str) -> str:
    head = HEAD.match(definition)
    assert head is not None, definition
    types = [one.split()[-1] for one in head["arguments"].split(",") if one.strip()]
    return f"{head['name']}({', '.join(SPELLED.get(one, one) for one in types)})"


async def _describe(connection: asyncpg.Connection[Any], schema: str) -> dict[str, tuple[str, str]]:
    rows = await connection.fetch(sql("describe_functions"), schema)
    return {row["name"]: (row["face"], row["does"]) for row in rows}


def _compare(
    made: Mapping[str, Made],
    expected: Mapping[str, tuple[str, str]],
    actual: Mapping[str, tuple[str, str]],
    owner: str,
) -> Iterator[tuple[str, str]]:
    for name in sorted({*expected, *actual}):
        should, there = expected.get(name), actual.get(name)
        if should == there:
            continue
        if should is None:
            yield f"{name} is none of harvestd's functions", f"DROP FUNCTION {name}"
            continue
        one = made[name]
        anew = (
            f"CREATE {one.definition} REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC;"
            f" ALTER FUNCTION {name} OWNER TO {owner}"
        )
        what = f"{name} is not the function that the migration {one.migration} made"
        if there is None:
            yield f"{name} is missing", anew
        elif there[0] != should[0]:
            yield what, f"DROP FUNCTION {name}; {anew}"
        else:
            yield what, f"CREATE OR REPLACE {one.definition}"
