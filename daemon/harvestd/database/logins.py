"""The logins that harvestd makes when it needs them: seats, and the owners of sources' schemas.

Their passwords are random, known to one process, and told to the server as SCRAM verifiers.  They
are made and changed by statements where the session's role may, or by the functions of a keeper
(``keeper.py``): `login_maker` decides.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from harvestd.database.keeper import Keeper, keeper_serves
from harvestd.database.roles import (
    SOURCE_FUNCTIONS,
    Roles,
    changing_roles,
    join_role,
    membership,
    seat_options,
    see_role,
    this_database,
)
from harvestd.database.statements import sql

VERIFIER = re.compile(r"SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")
SCRAM_ITERATIONS = 4096  # PostgreSQL's own default; the passwords are random, not guessable


class LoginMaker(Protocol):
    """Makes and changes logins of harvestd's; each call changes one."""

    async def seat(self, name: str, verifier: str) -> None:
        """Make a seat where it is missing, and give it a password and no settings."""

    async def source(self, name: str, verifier: str) -> None:
        """Make the owner of a source's schema where it is missing; password, no settings."""

    async def open_source(self, name: str) -> None:
        """Let it log in, without settings of its own."""

    async def close_source(self, name: str) -> None:
        """Let nobody log in as it."""

    async def drop_source(self, name: str) -> None:
        """Drop it; it has no rights and owns nothing."""

    async def reader(self, name: str, *, reads: bool) -> None:
        """Make somebody else's role a member of the reader role, or no more."""


async def login_maker(connection: asyncpg.Connection[Any], roles: Roles) -> LoginMaker:
    """Who makes logins for the session's role.  Raises: DatabaseError, Unreachable."""
    if await keeper_serves(connection, roles):
        return Keeper(connection)
    return Statements(connection, roles)


async def ensure_seat(
    connection: asyncpg.Connection[Any], roles: Roles, seat_no: int, verifier: str
) -> None:
    """Make the login of a seat where it is missing, and give it a new password.

    ``verifier`` is from ``scram_verifier``, so that no password reaches the server's log.  The
    role of the connection becomes able to see and end the seat's backends, not to become it.
    """
    name, password = roles.seat(seat_no), _checked(verifier)
    async with changing_roles(connection):
        await (await login_maker(connection, roles)).seat(name, password)


async def ensure_source_role(
    connection: asyncpg.Connection[Any], roles: Roles, source: str, verifier: str
) -> None:
    """Make the login that will own a data source's schema, and give it a new password."""
    name, password = roles.source(source), _checked(verifier)
    async with changing_roles(connection):
        await (await login_maker(connection, roles)).source(name, password)
        [lacks] = await connection.fetch(sql("see_source_rights"), name)
        if lacks["usage"]:
            await connection.execute(f"GRANT USAGE ON SCHEMA harvestd_api TO {name}")
        if lacks["connect"]:
            base = await this_database(connection)
            await connection.execute(f"GRANT CONNECT ON DATABASE {base} TO {name}")
        # Each time: a migration may have made one more of them.
        functions = ", ".join(SOURCE_FUNCTIONS)
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {functions} TO {name}")


async def open_source_role(connection: asyncpg.Connection[Any], roles: Roles, source: str) -> None:
    """Let it log in; what a schema.sql has set for its own role is undone."""
    await (await login_maker(connection, roles)).open_source(roles.source(source))


async def close_source_role(connection: asyncpg.Connection[Any], roles: Roles, source: str) -> None:
    """Let nobody log in as it, whatever password a schema.sql may have set."""
    await (await login_maker(connection, roles)).close_source(roles.source(source))


async def drop_source_role(connection: asyncpg.Connection[Any], roles: Roles, source: str) -> None:
    """Remove the login of a data source, which must own nothing any more."""
    name = roles.source(source)
    async with changing_roles(connection):
        await connection.execute(f"DROP OWNED BY {name} RESTRICT")  # its rights on functions
        await (await login_maker(connection, roles)).drop_source(name)


@dataclass(frozen=True, slots=True)
class Statements:
    """Makes and changes logins by statements, which takes CREATEROLE; each is one of
    `LoginMaker`."""

    connection: asyncpg.Connection[Any]
    roles: Roles

    async def seat(self, name: str, verifier: str) -> None:
        connection = self.connection
        seen = await see_role(connection, name)
        options = seat_options(connection)
        if not seen["made"]:
            await connection.execute(f"CREATE ROLE {name} {options}")
        sits = "SELECT pg_catalog.pg_has_role($1::text::name, $2::text::name, 'USAGE')"
        if not await connection.fetchval(sits, name, self.roles.exec):
            joins = membership(connection, inherit=True, set_=False)
            await connection.execute(f"GRANT {self.roles.exec} TO {name}{joins}")
        if not seen["member"] and not seen["superuser"]:
            await join_role(connection, name, set_=False)
        await connection.execute(f"ALTER ROLE {name} {options}")
        await self._set_password(name, verifier)

    async def source(self, name: str, verifier: str) -> None:
        connection = self.connection
        seen = await see_role(connection, name)
        if not seen["made"]:
            await connection.execute(f"CREATE ROLE {name} LOGIN")
        if not seen["member"] and not seen["superuser"]:
            await join_role(connection, name, set_=True)  # for CREATE SCHEMA ... AUTHORIZATION
        await self._let_migrator_make_schemas(name)
        await connection.execute(f"ALTER ROLE {name} CONNECTION LIMIT -1")
        await self._set_password(name, verifier)

    async def open_source(self, name: str) -> None:
        await self.connection.execute(f"ALTER ROLE {name} LOGIN")
        await self.connection.execute(f"ALTER ROLE {name} RESET ALL")

    async def close_source(self, name: str) -> None:
        await self.connection.execute(f"ALTER ROLE {name} NOLOGIN PASSWORD NULL")
        await self.connection.execute(f"ALTER ROLE {name} RESET ALL")

    async def drop_source(self, name: str) -> None:
        await self.connection.execute(f"DROP ROLE {name}")

    async def reader(self, name: str, *, reads: bool) -> None:
        quoted = await self.connection.fetchval("SELECT pg_catalog.quote_ident($1)", name)
        statement = reader_statement(self.connection, self.roles, quoted, reads=reads)
        await self.connection.execute(statement)

    async def _let_migrator_make_schemas(self, name: str) -> None:
        """harvestd_api.empty_schema runs as who migrated, who may be another than the session's."""
        migrator = await self.connection.fetchval(
            "SELECT pg_catalog.quote_ident(migrator.rolname) FROM pg_catalog.pg_proc AS function"
            " JOIN pg_catalog.pg_roles AS migrator ON migrator.oid = function.proowner"
            " WHERE function.oid = 'harvestd_api.empty_schema(text)'::regprocedure"
            " AND NOT pg_catalog.pg_has_role(migrator.oid, $1::text::name, 'USAGE')",
            name,
        )
        if migrator is not None:
            options = membership(self.connection, inherit=True, set_=True)
            await self.connection.execute(f"GRANT {name} TO {migrator}{options}")

    async def _set_password(self, name: str, verifier: str) -> None:
        await self.connection.execute(
            f"ALTER ROLE {name} PASSWORD '{verifier}' VALID UNTIL 'infinity'"
        )
        # Any login may give itself settings, and they would greet the next tenant's run.
        base = await this_database(self.connection)
        await self.connection.execute(f"ALTER ROLE {name} RESET ALL")
        await self.connection.execute(f"ALTER ROLE {name} IN DATABASE {base} RESET ALL")


def reader_statement(
    connection: asyncpg.Connection[Any], roles: Roles, role: str, *, reads: bool
) -> str:
    """What makes ``role``, quoted where it needs that, a member of the reader role, or no more."""
    if not reads:
        return f"REVOKE {roles.reader} FROM {role}"
    options = membership(connection, inherit=True, set_=False)
    return f"GRANT {roles.reader} TO {role}{options}"


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores for ``password`` (RFC 5802, 7677), with a fresh salt.

    ASCII only, since SASLprep is not applied.  Raises: ValueError for anything else.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password must be printable ASCII")
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def _checked(verifier: str) -> str:
    if VERIFIER.fullmatch(verifier) is None:
        raise ValueError("not a SCRAM verifier")  # never its text: it might be a password
    return verifier
