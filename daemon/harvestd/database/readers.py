"""Who reads the data besides harvestd: the application, dashboards, people; by one role.

Row-level security is forced on every table, so a role without a policy sees no rows and gets no
error.  The reader role has SELECT on every source's tables, present and future, with a policy that
shows all tenants; whoever is to read them becomes its member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.logins import login_maker, reader_statement
from harvestd.database.pool import LOST, translate
from harvestd.database.roles import Roles
from harvestd.database.statements import sql
from harvestd.errors import DatabaseError

OURS = "harvestd_"


@dataclass(frozen=True, slots=True)
class Reader:
    """A member of the reader role; ``reads``: without SET ROLE."""

    role: str
    may_log_in: bool
    reads: bool


@dataclass(frozen=True, slots=True)
class Given:
    """What an act on a reader changed; ``sees_all``: no policy holds for that role anyway."""

    changed: bool
    sees_all: bool


async def list_readers(connection: asyncpg.Connection[Any], roles: Roles) -> list[Reader]:
    """The members of the reader role, by name.  Raises: DatabaseError, Unreachable."""
    try:
        rows = await connection.fetch(sql("list_readers"), roles.reader)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return [Reader(**dict(row)) for row in rows]


async def add_reader(connection: asyncpg.Connection[Any], roles: Roles, role: str) -> Given:
    """Let ``role`` read every tenant's rows of every data source, now and later.

    Raises: DatabaseError, when there is no such role, it is one of harvestd's own, or the session
    may not grant it (with the statement for somebody who may); Unreachable.
    """
    return await _change(connection, roles, role, reads=True)


async def remove_reader(connection: asyncpg.Connection[Any], roles: Roles, role: str) -> Given:
    """Take that right back.  Raises: as `add_reader`."""
    return await _change(connection, roles, role, reads=False)


async def _change(
    connection: asyncpg.Connection[Any], roles: Roles, role: str, *, reads: bool
) -> Given:
    name = await _name_of(connection, role)
    if role.startswith(OURS):
        raise DatabaseError(
            f"{role} is a role of harvestd",
            why="its own roles have the rights that they need",
            next_step="give the role that your application logs in with",
        )
    before = await _see(connection, roles, role, name)
    if before["sees_all"] or before["reads"] == reads:
        return Given(changed=False, sees_all=before["sees_all"])
    try:
        await (await login_maker(connection, roles)).reader(role, reads=reads)
    except asyncpg.InsufficientPrivilegeError:
        statement = reader_statement(connection, roles, name, reads=reads)
        raise _not_ours(role, statement) from None
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    after = await _see(connection, roles, role, name)
    if after["reads"] != reads:
        # Given by somebody else, or by way of another role; or the role takes no rights by itself.
        raise _no_effect(name, roles, reads=reads)
    return Given(changed=True, sees_all=False)


async def _see(
    connection: asyncpg.Connection[Any], roles: Roles, role: str, name: str
) -> Mapping[str, Any]:
    try:
        row = await connection.fetchrow(sql("see_reader"), role, roles.reader)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    if row is None:
        raise DatabaseError(
            f"there is no role {role!r:.80} on this server",
            why="harvestd makes none for others: its password is not harvestd's business",
            next_step=f"an administrator runs: CREATE ROLE {name} LOGIN PASSWORD '...'",
        )
    return dict(row)


async def _name_of(connection: asyncpg.Connection[Any], role: str) -> str:
    try:
        return str(await connection.fetchval("SELECT pg_catalog.quote_ident($1)", role))
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None


def _not_ours(role: str, statement: str) -> DatabaseError:
    return DatabaseError(
        f"the role of HARVESTD_DATABASE_URL may not say who reads ({role})",
        why="whoever made harvestd's roles manages them",
        next_step=f"that role, or a superuser, runs: {statement}",
    )


def _no_effect(role: str, roles: Roles, *, reads: bool) -> DatabaseError:
    if reads:
        return DatabaseError(
            f"{role} is a member of {roles.reader} now, and reads only after SET ROLE",
            why="it is NOINHERIT, and on PostgreSQL 15 that is a matter of the role",
            next_step=f"ALTER ROLE {role} INHERIT, or let it say SET ROLE {roles.reader}",
        )
    return DatabaseError(
        f"{role} still reads every tenant's rows",
        why="the right came from somebody else, or by way of another role that it is a member of",
        next_step=f"\\drg+ {role} in psql shows by whom; then REVOKE ... GRANTED BY that role",
    )
