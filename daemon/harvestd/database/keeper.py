"""The keeper: who makes logins where the role of HARVESTD_DATABASE_URL may not.

A database administrator runs ``sql/roles.sql`` once.  It makes the roles of this database and, in
the schema harvestd_keeper, a few functions that run with CREATEROLE, touch only roles whose names
begin as those of this database do, and can be called by the daemon's role alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.pool import LOST, translate
from harvestd.database.roles import (
    NAME_BYTES_MAX,
    Roles,
    membership,
    seat_options,
)
from harvestd.database.statements import sql, sql_root
from harvestd.errors import DatabaseError

# By name only: one that takes or does something else gets another name, and the old script is
# then found out.
FUNCTIONS = ("seat", "source", "open_source", "close_source", "drop_source", "reader")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Keeper:
    """Makes and changes logins by the keeper's functions; each is one of `LoginMaker`."""

    connection: asyncpg.Connection[Any]

    async def seat(self, name: str, verifier: str) -> None:
        await self.connection.execute("SELECT harvestd_keeper.seat($1, $2)", name, verifier)

    async def source(self, name: str, verifier: str) -> None:
        await self.connection.execute("SELECT harvestd_keeper.source($1, $2)", name, verifier)

    async def open_source(self, name: str) -> None:
        await self.connection.execute("SELECT harvestd_keeper.open_source($1)", name)

    async def close_source(self, name: str) -> None:
        await self.connection.execute("SELECT harvestd_keeper.close_source($1)", name)

    async def drop_source(self, name: str) -> None:
        await self.connection.execute("SELECT harvestd_keeper.drop_source($1)", name)

    async def reader(self, name: str, *, reads: bool) -> None:
        await self.connection.execute("SELECT harvestd_keeper.reader($1, $2)", name, reads)


async def keeper_serves(connection: asyncpg.Connection[Any], roles: Roles) -> bool:
    """Whether the keeper's functions are all there, its own, and ours to call.

    A superuser needs none.  They go before CREATEROLE: since PostgreSQL 16 that manages only
    roles which it made itself, and where there is a keeper they are the keeper's.
    """
    try:
        [row] = await connection.fetch(sql("see_keeper"), roles.keeper, FUNCTIONS)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return bool(row["serves"]) and not row["superuser"]


async def has_keeper(connection: asyncpg.Connection[Any]) -> bool:
    """`keeper_serves` for the database as it is now, whatever is stored of its roles."""
    return await keeper_serves(connection, Roles((await _see(connection))["hex"]))


@dataclass(frozen=True, slots=True)
class RolesScript:
    """What a database administrator runs; ``needed``: the session's role may not create roles."""

    text: str
    role: str
    needed: bool


async def print_roles(connection: asyncpg.Connection[Any]) -> RolesScript:
    """The script for this database and the session's role; nothing need be migrated.

    Raises: DatabaseError, where a name would end a comment of the script; Unreachable.
    """
    row = await _see(connection)
    for name in (row["database"], row["role"]):
        if not name.isprintable():
            raise DatabaseError(
                f"the name {name!r} has control characters in it",
                why="a script for a superuser must hold what it shows",
                next_step="rename it: ALTER DATABASE ... RENAME TO, ALTER ROLE ... RENAME TO",
            )
    text = fill_script(connection, row)
    needed = not (row["superuser"] or row["may_create_roles"])
    return RolesScript(text, row["role"], needed)


async def _see(connection: asyncpg.Connection[Any]) -> Mapping[str, Any]:
    try:
        [row] = await connection.fetch(sql("see_installation"))
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return dict(row)


def fill_script(connection: asyncpg.Connection[Any], seen: Mapping[str, Any]) -> str:
    """The script for the database and the role that see_installation saw."""
    text = (sql_root() / "roles.sql").read_text(encoding="utf-8")
    roles = Roles(seen["hex"])
    values = {
        "hex": roles.hex,
        "prefix": roles.prefix,
        "database": seen["database"],
        "login": seen["role"],
        "major": str(connection.get_server_version().major),
        "with_rights": membership(connection, inherit=True, set_=False),
        "to_become": membership(connection, inherit=False, set_=True),
        "to_act": membership(connection, inherit=True, set_=True),
        "seat_options": seat_options(connection),
        "source_bytes": str(NAME_BYTES_MAX - len(f"{roles.prefix}src_")),
    }
    # In one pass: a name that looks like a placeholder is not filled again.
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)
