"""A migrated database that has no roles yet, and those that are made in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from harvestd.database.roles import Roles, ensure_roles
from tests.database.roles.logins import Connection


@pytest.fixture
async def connection(migrated_database: str) -> AsyncIterator[Connection]:
    """As the daemon's plain role, in a migrated database without roles."""
    connection = await asyncpg.connect(migrated_database)
    yield connection
    await connection.close()


@pytest.fixture
async def roles(connection: Connection) -> Roles:
    return await ensure_roles(connection)
