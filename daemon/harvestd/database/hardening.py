"""Taking from PUBLIC what lets any login hold others up, where it costs no known login anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.pool import LOST, translate
from harvestd.database.roles import Roles
from harvestd.database.statements import sql
from harvestd.database.transaction import whole_transaction


@dataclass(frozen=True, slots=True)
class Hardening:
    """A statement, and the logins that lose by it a right which they have by PUBLIC alone."""

    statement: str
    losers: tuple[str, ...] = ()
    taken: str | None = None
    """What it takes from PUBLIC: CONNECT, TEMPORARY, or else a function; None: it is a grant."""


async def missing_hardening(connection: asyncpg.Connection[Any], roles: Roles) -> list[Hardening]:
    """What a superuser runs, grants to our own first; empty when it is done."""
    try:
        rows = await connection.fetch(sql("list_hardening"), roles.prefix)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return [Hardening(row["statement"], tuple(row["losers"]), row["taken"]) for row in rows]


async def harden(
    connection: asyncpg.Connection[Any], roles: Roles
) -> tuple[list[Hardening], list[Hardening]]:
    """Run them where the role may and no login loses; answers those that ran, and those left.

    Who connects by PUBLIC alone may be the application: locking it out is for a person to decide.
    """
    left = await missing_hardening(connection, roles)
    free = [one for one in left if not one.losers]
    if not free or not await connection.fetchval("SELECT current_setting('is_superuser')::bool"):
        return [], left
    try:
        async with whole_transaction(connection):
            await connection.execute(";\n".join(one.statement for one in free))
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return free, await missing_hardening(connection, roles)
