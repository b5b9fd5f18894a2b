"""A daemon's role that may not create roles, and the keeper that a superuser makes for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from harvestd.database.keeper import print_roles
from harvestd.database.pool import closing
from tests.builders import query
from tests.clusters import DAEMON_ROLE, Cluster, database_of


@asynccontextmanager
async def without_createrole(server: Cluster) -> AsyncIterator[None]:
    """Until the block ends the daemon's role may log in, and nothing more."""
    await query(server.admin_url(), f"ALTER ROLE {DAEMON_ROLE} NOCREATEROLE")
    try:
        yield
    finally:
        await query(server.admin_url(), f"ALTER ROLE {DAEMON_ROLE} CREATEROLE")


async def make_keeper(server: Cluster, url: str) -> None:
    """A superuser runs what is printed for the database of ``url``."""
    async with closing(await asyncpg.connect(url)) as connection:
        script = await print_roles(connection)
    async with closing(await asyncpg.connect(server.admin_url(database_of(url)))) as admin:
        await admin.execute(script.text)
