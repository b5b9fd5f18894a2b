"""Whose a data source's schema is: its own role's, and nobody else's.

A clone or a restored dump brings schemas that belong to the roles of the database it was made
from; they are taken over.  A schema that was never harvestd's is not.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from harvestd.database.roles import LOCK, Roles
from harvestd.database.statements import sql
from harvestd.database.transaction import whole_transaction
from harvestd.errors import SchemaRefused
from harvestd.loading.inspection import list_grants
from harvestd.loading.writes import quoted

SOURCE_ROLE = re.compile(r"harvestd_([0-9a-f]{8})_src_\w+")


async def ensure_schema(
    connection: asyncpg.Connection[Any], roles: Roles, source: str, *, stored_hex: str | None
) -> bool:
    """Make the schema of ``source`` where it is missing, or take over a clone's.

    Answers whether it was made now.  ``stored_hex``: for which roles it was last finished, None
    when it never was.  The role of the source must exist.  Raises: SchemaRefused, when the schema
    is somebody else's.
    """
    role = roles.source(source)
    owner = await schema_owner(connection, source)
    if owner is None:
        made = f"CREATE SCHEMA {quoted(source)} AUTHORIZATION {role}"
        async with _needing(made, source):
            await connection.execute(made)
        return True
    former = _former(owner, stored_hex)
    if former is not None and former != roles.hex:
        await _take_over(connection, roles, source, owner=owner, former=Roles(former))
    elif owner != role:
        raise SchemaRefused(
            f"the schema {source} belongs to {owner}",
            why="each data source has a schema of its name to itself, and harvestd did not make "
            "this one",
            next_step="rename the data source's folder, or rename the schema: "
            f"ALTER SCHEMA {quoted(source)} RENAME TO ...",
            path=f"{source}/schema.sql",
        )
    return False


async def schema_owner(connection: asyncpg.Connection[Any], source: str) -> str | None:
    """Whose the schema is; None where there is none."""
    owner: str | None = await connection.fetchval(sql("see_schema_owner"), source)
    return owner


def _former(owner: str, stored_hex: str | None) -> str | None:
    """The installation the schema was made for, None when there is no sign of any."""
    if stored_hex is not None:
        return stored_hex
    made_by = SOURCE_ROLE.fullmatch(owner)
    return made_by[1] if made_by else None


async def _take_over(
    connection: asyncpg.Connection[Any], roles: Roles, source: str, *, owner: str, former: Roles
) -> None:
    """Re-own the schema and what is in it, and take back what the original's roles may do."""
    role = roles.source(source)
    statements = []
    if owner != role:
        statements.append(f"ALTER SCHEMA {quoted(source)} OWNER TO {role}")
    if owner == former.source(source):
        for kind in ("SCHEMA", "ALL FUNCTIONS IN SCHEMA"):
            statements.append(f"REVOKE ALL ON {kind} harvestd_api FROM {owner} CASCADE")
    statements += [
        f"ALTER {row['kind']} {row['name']} OWNER TO {role}"
        for row in await connection.fetch(sql("list_objects_of_others"), source, role)
    ]
    originals = (former.exec, former.daemon, former.reader)
    statements += [
        f"REVOKE ALL ON {grant['kind']} {grant['name']} FROM {grant['grantee']} CASCADE"
        for grant in await list_grants(connection, source, role)
        if grant["grantee"] in originals
    ]
    if not statements:
        return
    together = ";\n".join(statements)
    async with _needing(together, source), whole_transaction(connection):
        # Other data sources are taken over at the same time, and all have rights on our functions.
        await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(together)


@asynccontextmanager
async def _needing(statement: str, source: str) -> AsyncIterator[None]:
    """Where the daemon may not run ``statement``, the error holds it for those who may."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaRefused(
            f"the schema {source} cannot be given to the role that data source runs as",
            why=error.message or "permission denied",
            next_step="a database administrator runs: " + " ".join(statement.split()),
            path=f"{source}/schema.sql",
        ) from None
