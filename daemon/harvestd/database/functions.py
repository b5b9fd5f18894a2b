"""Which of harvestd's functions are not those that its migrations, or the keeper's script, made.

What each should be is its statement in the newest migration that has one, or in sql/roles.sql, run
in a schema of its own in a transaction that is rolled back, and read from the catalog like what
there is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.keeper import fill_script
from harvestd.database.migrations import load_migrations, unknown_migrations
from harvestd.database.statements import sql

STATEMENT = re.compile(
    r"CREATE (?:OR REPLACE )?(?P<made>FUNCTION harvestd(?:_api|_keeper)?\.\w+\([^)]*\).*?\$\$;)"
    r"|DROP FUNCTION (?P<dropped>[^;]+);",
    re.DOTALL,
)
HEAD = re.compile(r"FUNCTION (?P<name>[\w.]+)\((?P<arguments>[^)]*)\)")
SCHEMA = "harvestd"
KEEPER = re.compile(r"harvestd_([0-9a-f]{8})_keeper")
RUN_SCRIPT = 'a superuser runs what "harvestd migrate --print-roles" prints, in this database'
SPELLED = {"timestamptz": "timestamp with time zone"}
"""Types that the catalog spells otherwise than migrations do."""


@dataclass(frozen=True, slots=True)
class Made:
    """A function as it was made; ``definition`` follows CREATE OR REPLACE."""

    definition: str
    made_by: str
    owner: str | None = None
    """Who owns those of a migration; what a keeper's need beside is in its script alone."""


async def find_replaced_functions(connection: asyncpg.Connection[Any]) -> list[tuple[str, str]]:
    """What was replaced, dropped or added, with what mends it; nothing is said where a newer
    harvestd migrated, which may have made others.

    Raises: asyncpg's errors, InsufficientPrivilegeError for a role that may make no schema.
    """
    if await unknown_migrations(connection):
        return []
    owners = dict(
        await connection.fetch(
            "SELECT nspname, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(nspowner))"
            " FROM pg_catalog.pg_namespace WHERE starts_with(nspname, $1)",
            SCHEMA,
        )
    )
    made = made_functions(owners[SCHEMA])
    # A clone brings those of its original, in whose names they are.
    if keeper := KEEPER.fullmatch(owners.get(f"{SCHEMA}_keeper", "")):
        script = fill_script(connection, {"hex": keeper[1], "database": "", "role": ""})
        made |= _made_in(script, "harvestd migrate --print-roles makes")
    actual = await _describe(connection, SCHEMA)
    copies = f"harvestd_probe_{secrets.token_hex(8)}"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            f"CREATE SCHEMA {copies}; CREATE SCHEMA {copies}_api; CREATE SCHEMA {copies}_keeper"
        )
        for one in made.values():
            head = one.definition.replace(f"FUNCTION {SCHEMA}", f"FUNCTION {copies}", 1)
            await connection.execute(f"CREATE {head}")
        expected = await _describe(connection, copies)
    finally:
        await transaction.rollback()
    if keeper is None:  # nothing to compare with; whose the schema is, is told elsewhere
        actual = {
            name: is_ for name, is_ in actual.items() if not name.startswith(f"{SCHEMA}_keeper.")
        }
    return list(_compare(made, expected, actual))


def made_functions(owner: str) -> dict[str, Made]:
    """What all migrations together make, by name and types as ``_describe`` spells them."""
    made: dict[str, Made] = {}
    for migration in load_migrations():
        for found in STATEMENT.finditer(migration.text):
            if found["dropped"]:
                del made[_spelled(f"FUNCTION {found['dropped']}")]
        made |= _made_in(migration.text, f"the migration {migration.name} made", owner)
    return made


def _made_in(text: str, made_by: str, owner: str | None = None) -> dict[str, Made]:
    return {
        _spelled(found["made"]): Made(found["made"], made_by, owner)
        for found in STATEMENT.finditer(text)
        if found["made"]
    }


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
) -> Iterator[tuple[str, str]]:
    for name in sorted({*expected, *actual}):
        should, there = expected.get(name), actual.get(name)
        if should == there:
            continue
        if should is None:
            yield f"{name} is none of harvestd's functions", f"DROP FUNCTION {name};"
            continue
        one = made[name]
        what = f"{name} is not the function that {one.made_by}"
        if there is None:
            what = f"{name} is missing"
        if there is not None and there[0] == should[0]:
            yield what, f"CREATE OR REPLACE {one.definition}"
        elif one.owner is None:
            yield what, RUN_SCRIPT
        else:
            yield what, f"{'' if there is None else f'DROP FUNCTION {name}; '}{_anew(name, one)}"


def _anew(name: str, one: Made) -> str:
    return (
        f"CREATE {one.definition} REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC;"
        f" ALTER FUNCTION {name} OWNER TO {one.owner};"
    )
