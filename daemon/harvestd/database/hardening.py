"""Taking from PUBLIC the functions of PostgreSQL that let any login hold others up."""

from __future__ import annotations

from typing import Any

import asyncpg

from harvestd.database.pool import LOST, translate
from harvestd.database.roles import Roles
from harvestd.database.statements import sql
from harvestd.database.transaction import whole_transaction


async def missing_hardening(connection: asyncpg.Connection[Any], roles: Roles) -> list[str]:
    """The statements that a superuser runs, grants to our own first; empty when it is done."""
    try:
        rows = await connection.fetch(sql("list_hardening"), roles.daemon)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return [row["statement"] for row in rows]


async def harden(connection: asyncpg.Connection[Any], roles: Roles) -> list[str]:
    """Run them where the role may; answers those that are left for a superuser."""
    left = await missing_hardening(connection, roles)
    if not left or not await connection.fetchval("SELECT current_setting('is_superuser')::bool"):
        return left
    try:
        async with whole_transaction(connection):
            await connection.execute(";\n".join(left))
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return await missing_hardening(connection, roles)
