"""The database roles of one installation: made where missing, never dropped.

Roles belong to the whole server and outlive databases, so their names carry eight hex digits of
the pair (server, database).  A clone or a restored dump is another pair and makes its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.pool import LOST, translate
from harvestd.database.statements import sql
from harvestd.database.transaction import whole_transaction
from harvestd.errors import DatabaseError
from harvestd.terms import NAME

HEX = re.compile(r"[0-9a-f]{8}")
NAME_BYTES_MAX = 63
SEAT_CONNECTIONS_MAX = 2
# Any fixed number will do; "hrol" in ASCII.  Concurrent GRANTs on one object fail otherwise
# ("tuple concurrently updated").
LOCK = 0x68726F6C
EXEC_FUNCTIONS = (
    "harvestd_api.tenant()",
    "harvestd_api.checkpoint(timestamptz)",
    "harvestd_api.bookmark(text)",
    "harvestd_api.set_bookmark(text, jsonb)",
    # It refuses whoever owns no schema.  A replica from before migration 0014 starts only where
    # this role may execute whatever there is beside guard().
    "harvestd_api.empty_schema(text)",
)
# A trigger function needs EXECUTE when the trigger is made, not when it fires.
SOURCE_FUNCTIONS = (
    "harvestd_api.tenant()",
    "harvestd_api.guard()",
    "harvestd_api.empty_schema(text)",
)
MAKE_ROLES = (
    'a superuser runs what "harvestd migrate --print-roles" prints, or: '
    'ALTER ROLE "{role}" CREATEROLE'
)
TABLES_OF_THE_APPLICATION = (
    "public.tenant, public.tenant_data_source_config, public.data_source_run"
)


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of an installation's roles; ``hex`` is its eight digits."""

    hex: str

    def __post_init__(self) -> None:
        if HEX.fullmatch(self.hex) is None:
            raise ValueError(f"not eight hex digits: {self.hex!r}")

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"harvestd_{self.hex}_"

    @property
    def daemon(self) -> str:
        """NOLOGIN: all rights; the role of HARVESTD_DATABASE_URL is a member."""
        return self.prefix + "daemon"

    @property
    def exec(self) -> str:
        """NOLOGIN: what plugin SQL may do; every seat is a member."""
        return self.prefix + "exec"

    @property
    def reader(self) -> str:
        """NOLOGIN: reads every tenant's rows; the customer's application and BI join it."""
        return self.prefix + "reader"

    @property
    def keeper(self) -> str:
        """NOLOGIN CREATEROLE: makes logins by its functions, where the daemon's role may not."""
        return self.prefix + "keeper"

    def seat(self, seat_no: int) -> str:
        """The login of a seat, 0 .. 999999."""
        if not 0 <= seat_no <= 999_999:
            raise ValueError(f"no seat has the number {seat_no}")
        return f"{self.prefix}seat_{seat_no:03d}"

    def source(self, source: str) -> str:
        """The login that owns a data source's schema; the tail of a long name is hashed."""
        if NAME.fullmatch(source) is None:
            raise ValueError(f"not the name of a data source: {source!r}")
        name = f"{self.prefix}src_{source}"
        if len(name) <= NAME_BYTES_MAX:
            return name
        digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        return f"{name[: NAME_BYTES_MAX - 9]}_{digest}"


async def ensure_roles(connection: asyncpg.Connection[Any]) -> Roles:
    """Make what is missing of this database's roles and rights; one query when nothing is.

    The schema must be migrated.  Raises: DatabaseError, naming what is missing and what a
    database administrator runs; Unreachable.
    """
    seen = await see_roles(connection)
    if seen["missing"]:
        async with changing_roles(connection, seen):
            seen = await see_roles(connection)
            if seen["missing"]:
                await _make_roles(connection, seen)
                left = await see_roles(connection)
                if left["missing"]:
                    raise _refused(left, DatabaseError("the grants had no effect"))
    return Roles(seen["hex"])


async def missing_rights(connection: asyncpg.Connection[Any]) -> list[str]:
    """What `ensure_roles` would make; empty when all is there."""
    return list((await see_roles(connection))["missing"])


async def prepared_transactions_max(connection: asyncpg.Connection[Any]) -> int:
    """How many transactions anybody may leave prepared, with their locks; 0 by default.

    No right is asked for PREPARE TRANSACTION, so above 0 plugin SQL may lock its run for ever.
    """
    return int(await connection.fetchval("SELECT current_setting('max_prepared_transactions')"))


async def _make_roles(connection: asyncpg.Connection[Any], seen: Mapping[str, Any]) -> None:
    roles = Roles(seen["hex"])
    for name in (roles.daemon, roles.exec, roles.reader):
        role = await see_role(connection, name)
        if not role["made"]:
            await connection.execute(f"CREATE ROLE {name} NOLOGIN")
    member = (await see_role(connection, roles.daemon))["member"]
    if not member and not seen["superuser"]:
        await join_role(connection, roles.daemon, set_=False)
    stored = seen["stored_hex"]
    if stored is not None and stored != roles.hex:
        await _revoke_of_the_original(connection, Roles(stored))
    for statement in _grants(roles):
        await connection.execute(statement)
    if seen["owns_database"]:
        base = await this_database(connection)
        await connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {base} TO {roles.exec}")
    await connection.fetchval(
        sql("note_installation"),
        roles.hex,
        seen["system_identifier"],
        seen["database_oid"],
    )


def _grants(roles: Roles) -> Iterable[str]:
    daemon, rights = roles.daemon, "SELECT, INSERT, UPDATE, DELETE"
    yield f"GRANT USAGE ON SCHEMA harvestd_api TO {roles.exec}, {daemon}"
    yield f"GRANT EXECUTE ON FUNCTION {', '.join(EXEC_FUNCTIONS)} TO {roles.exec}"
    yield f"GRANT USAGE ON SCHEMA harvestd TO {daemon}"
    yield f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA harvestd, harvestd_api TO {daemon}"
    yield f"GRANT {rights} ON ALL TABLES IN SCHEMA harvestd TO {daemon}"
    yield f"GRANT {rights} ON {TABLES_OF_THE_APPLICATION} TO {daemon}"


async def _revoke_of_the_original(connection: asyncpg.Connection[Any], old: Roles) -> None:
    """In a clone on the same server, take back what the copied rows grant to the original's
    roles: its seats have no business here, and they could never be dropped."""
    for name in (old.daemon, old.exec):
        if (await see_role(connection, name))["made"]:
            for schema in ("harvestd", "harvestd_api"):
                for kind in ("ALL TABLES IN SCHEMA", "ALL FUNCTIONS IN SCHEMA", "SCHEMA"):
                    await connection.execute(f"REVOKE ALL ON {kind} {schema} FROM {name}")
            await connection.execute(f"REVOKE ALL ON {TABLES_OF_THE_APPLICATION} FROM {name}")


@asynccontextmanager
async def changing_roles(
    connection: asyncpg.Connection[Any], seen: Mapping[str, Any] | None = None
) -> AsyncIterator[None]:
    """A transaction in which nobody else changes roles of this database."""
    try:
        async with whole_transaction(connection):
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise _refused(seen or await see_roles(connection), translate(error)) from None
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None


def _refused(seen: Mapping[str, Any], error: DatabaseError) -> DatabaseError:
    """What is missing, and the statement that a database administrator runs."""
    role, roles = seen["role"], Roles(seen["hex"])
    missing = ", ".join(seen["missing"]) or "a login for plugin SQL"
    if not seen["may_create_roles"]:
        what = f'the role "{role}" may not create roles'
        advice = MAKE_ROLES.format(role=role)
    else:
        what = f'the role "{role}" may not manage the roles {roles.prefix}*'
        advice = (
            f"they were made through another role: use that one, or let a superuser run what "
            f'"harvestd migrate --print-roles" prints; the tables of the schema harvestd must '
            f'belong to "{role}" or to a role it is a member of'
        )
    refused = DatabaseError(
        what,
        why=f"plugin SQL runs on logins of its own, so that no script reads another tenant's "
        f"rows; missing: {missing}",
        next_step=advice,
    )
    refused.sqlstate = error.sqlstate
    return refused


async def see_roles(connection: asyncpg.Connection[Any]) -> Mapping[str, Any]:
    """What the statement see_roles answers.  Raises: DatabaseError, Unreachable."""
    try:
        [row] = await connection.fetch(sql("see_roles"))
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return dict(row)


async def see_role(connection: asyncpg.Connection[Any], name: str) -> Mapping[str, Any]:
    """What the statement see_role answers."""
    [row] = await connection.fetch(sql("see_role"), name)
    return dict(row)


async def join_role(connection: asyncpg.Connection[Any], name: str, *, set_: bool) -> None:
    """Make the session's role a member, with the member's rights at once."""
    options = membership(connection, inherit=True, set_=set_)
    await connection.execute(f"GRANT {name} TO SESSION_USER{options}")


def membership(connection: asyncpg.Connection[Any], *, inherit: bool, set_: bool) -> str:
    """What follows a GRANT of a role: whether its rights come along, and whether to become it."""
    options = f" WITH INHERIT {str(inherit).upper()}, SET {str(set_).upper()}"
    return options if membership_has_options(connection) else ""


def seat_options(connection: asyncpg.Connection[Any]) -> str:
    """What follows CREATE ROLE or ALTER ROLE of a seat."""
    inherit = "NOINHERIT" if membership_has_options(connection) else "INHERIT"
    return f"LOGIN {inherit} CONNECTION LIMIT {SEAT_CONNECTIONS_MAX}"


def membership_has_options(connection: asyncpg.Connection[Any]) -> bool:
    """Since PostgreSQL 16 INHERIT and SET belong to a membership, before that to the member."""
    return connection.get_server_version().major >= 16


async def this_database(connection: asyncpg.Connection[Any]) -> str:
    """Its name, quoted where it needs that."""
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    return str(name)
