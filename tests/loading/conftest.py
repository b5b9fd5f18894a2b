"""The wall of a database of its own, and who looks at it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from harvestd.database.logins import ensure_seat, scram_verifier
from tests.clusters import Cluster, database_of
from tests.loading.files import BEFORE
from tests.loading.walls import Connection, Wall, wall_at


@pytest.fixture
async def wall(database_url: str) -> AsyncIterator[Wall]:
    async with wall_at(database_url) as made:
        yield made


@pytest.fixture
async def admin(server: Cluster, wall: Wall) -> AsyncIterator[Connection]:
    """A superuser in the same database."""
    connection = await asyncpg.connect(server.admin_url(database_of(wall.url)))
    yield connection
    await connection.close()


@pytest.fixture
async def seat(wall: Wall) -> AsyncIterator[Connection]:
    """A login for plugin SQL, bound to nothing."""
    password = secrets.token_urlsafe(12)
    await ensure_seat(wall.daemon, wall.roles, 1, scram_verifier(password))
    name = wall.roles.seat(1)
    connection = await wall.database.connect("seat", user=name, password=password)
    yield connection
    await connection.close()


@pytest.fixture
async def kept(wall: Wall) -> Wall:
    """The tables of BEFORE, with a row in them."""
    await wall.apply(BEFORE)
    await wall.daemon.execute("INSERT INTO shop.t (tenant_id, id, n) VALUES ('acme', 1, 1)")
    return wall
