"""Who logs in beside the daemon."""

from __future__ import annotations

import secrets
from typing import Any, TypeAlias

import asyncpg

from harvestd.database.logins import ensure_seat, scram_verifier
from harvestd.database.roles import Roles
from tests.clusters import Cluster, database_of

Connection: TypeAlias = "asyncpg.Connection[Any]"


async def login(server: Cluster, database: str, role: str, password: str) -> Connection:
    return await asyncpg.connect(server.url(database_of(database), role, password))


async def seated(
    server: Cluster, connection: Connection, database: str, roles: Roles, seat_no: int = 7
) -> Connection:
    password = secrets.token_urlsafe(12)
    await ensure_seat(connection, roles, seat_no, scram_verifier(password))
    return await login(server, database, roles.seat(seat_no), password)
