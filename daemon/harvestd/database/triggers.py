"""Which of harvestd's triggers on the application's tables are missing, others, or do not fire.

What each should be is its statement in sql/schema.sql, run on empty copies of the tables in a
transaction that is rolled back, and read from the catalog like what there is.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import asyncpg

from harvestd.database.migrations import unknown_migrations
from harvestd.database.statements import sql, sql_root

STATEMENT = re.compile(
    r"^CREATE (?P<made>TRIGGER (?P<name>harvestd_\w+) .*? ON public\.(?P<table>\w+) .*?;)$",
    re.MULTILINE,
)
FIRES = {"O", "A"}
"""In a session as it is by default; the others only where a replica's changes are applied."""


async def find_broken_triggers(connection: asyncpg.Connection[Any]) -> list[tuple[str, str]]:
    """What is wrong with them, with what mends it; nothing is said where a newer harvestd
    migrated, which may have made others.

    Raises: asyncpg's errors, InsufficientPrivilegeError for a role that may make no schema.
    """
    if await unknown_migrations(connection):
        return []
    made = {
        (found["table"], found["name"]): found["made"]
        for found in STATEMENT.finditer((sql_root() / "schema.sql").read_text(encoding="utf-8"))
    }
    actual = await _describe(connection, "public")
    copies = f"harvestd_probe_{secrets.token_hex(8)}"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"CREATE SCHEMA {copies}")
        for table in sorted({table for table, _ in made}):
            await connection.execute(f"CREATE TABLE {copies}.{table} (LIKE public.{table})")
        for statement in made.values():
            there = statement.replace(" ON public.", f" ON {copies}.", 1)
            await connection.execute(f"CREATE {there}")
        expected = await _describe(connection, copies)
    finally:
        await transaction.rollback()
    broken: list[tuple[str, str]] = []
    for (table, name), statement in sorted(made.items()):
        should, (there, fires) = expected[table, name], actual.get((table, name), ("", "O"))
        where, anew = f"the trigger {name} on public.{table}", f"CREATE OR REPLACE {statement}"
        if not there:
            broken.append((f"{where} is missing", anew))
        elif there != should[0]:
            broken.append((f"{where} is not the one that harvestd made", anew))
        elif fires not in FIRES:
            enable = f"ALTER TABLE public.{table} ENABLE TRIGGER {name};"
            broken.append((f"{where} does not fire (enabled: {fires})", enable))
    return broken


async def _describe(
    connection: asyncpg.Connection[Any], schema: str
) -> dict[tuple[str, str], tuple[str, str]]:
    rows = await connection.fetch(sql("describe_triggers"), schema)
    return {(row["table"], row["name"]): (row["does"], row["enabled"]) for row in rows}
