"""A look at the data for people: one query with the rights of the reader role, never kept.

The reader sees every tenant's rows of every data source, and none of harvestd's own tables.
That keeps configuration values from being shown by accident; whoever may run this has the
database's address, and could read them without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.pool import LOST, STATEMENT_SECONDS, translate
from harvestd.database.roles import Roles, membership, membership_has_options
from harvestd.database.statements import sql
from harvestd.errors import DatabaseError

# Syntax and names, wrong values, a division by zero: the server's own words help, and they can
# quote only what the person asked or may read.
OWN_MISTAKES = ("42", "22", "21", "0A", "25", "57014", "26", "54")
QUERY_CANCELED = "57014"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query, the names of its columns, and whether there were more rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool


async def read_as_reader(
    connection: asyncpg.Connection[Any], roles: Roles, query: str, *, rows_max: int
) -> Answer:
    """At most ``rows_max`` rows of one ``query``, in a transaction that is always rolled back.

    Raises: DatabaseError, with the server's words for a mistake in the query and its hint, if
    any, as the next step; Unreachable.
    """
    transaction = connection.transaction()
    try:
        await transaction.start()
        try:
            await _become_reader(connection, roles)
            statement = await connection.prepare(query)
            cursor = await statement.cursor()
            rows = await cursor.fetch(rows_max + 1)
        finally:
            await transaction.rollback()
    except asyncpg.PostgresError as error:
        raise _explain(error) from None
    except TimeoutError:
        late = DatabaseError(
            f"the query took longer than {STATEMENT_SECONDS:g} s and was ended",
            why="this is for short looks: an open snapshot keeps the server from cleaning up",
        )
        late.sqlstate = QUERY_CANCELED
        raise late from None
    except LOST as error:
        raise translate(error) from None
    columns = tuple(attribute.name for attribute in statement.get_attributes())
    return Answer(columns, tuple(tuple(row) for row in rows[:rows_max]), len(rows) > rows_max)


async def tables_to_read(connection: asyncpg.Connection[Any], roles: Roles) -> list[str]:
    """``schema.table`` of all that the reader role may read.  Raises: DatabaseError."""
    try:
        rows = await connection.fetch(sql("list_tables_to_read"), roles.reader)
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return [row["name"] for row in rows]


async def _become_reader(connection: asyncpg.Connection[Any], roles: Roles) -> None:
    may = await connection.fetchval(
        "SELECT pg_catalog.pg_has_role(session_user, $1::text::name, $2)",
        roles.reader,
        "SET" if membership_has_options(connection) else "MEMBER",
    )
    if not may:
        # Rolled back with the rest: nobody becomes a member by looking.
        options = membership(connection, inherit=False, set_=True)
        await connection.execute(f"GRANT {roles.reader} TO SESSION_USER{options}")
    await connection.execute(f"SET LOCAL ROLE {roles.reader}")
    await connection.execute("SET TRANSACTION READ ONLY")


def _explain(error: asyncpg.PostgresError) -> DatabaseError:
    sqlstate = error.sqlstate or ""
    if not sqlstate.startswith(OWN_MISTAKES):
        return translate(error)
    refused = DatabaseError(
        f"PostgreSQL refuses the query: {error.message or sqlstate}",
        why=f"SQLSTATE {sqlstate}; it reads with the rights of the reader role, in a read-only "
        "transaction",
        next_step=getattr(error, "hint", None) or "",
    )
    refused.sqlstate = sqlstate
    return refused
