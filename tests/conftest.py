"""One PostgreSQL per test process; each test that asks for a database gets one of its own.

HARVEST_TEST_PG=15 (or 16) runs the suite on that version; unset, on the 18 of the embedded
server's package.  The daemon's role is a plain one: no superuser, CREATEROLE.
HARVEST_TEST_HARDENED=1: each database as it is after `harvestd migrate --harden`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest
import uvloop
from hypothesis import settings

from harvestd.database.hardening import missing_hardening
from harvestd.database.migrations import migrate
from harvestd.database.pool import Database, closing
from tests.builders import made_roles
from tests.clusters import (
    HARDENED_VARIABLE,
    Cluster,
    create_daemon_role,
    create_database,
    database_of,
    drop_database,
    running_cluster,
    wanted_version,
)

# No example database: the checkout may belong to another user.  No deadline: CI is busy.
settings.register_profile("suite", database=None, deadline=None)
settings.load_profile("suite")
# The loop of `harvestd run`.
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
# Whatever runs the suite in the background may ignore it, and so would our children.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[Cluster]:
    """A running PostgreSQL with the plain role ``app``."""
    with running_cluster(wanted_version()) as cluster:
        await create_daemon_role(cluster)
        yield cluster


@pytest.fixture(scope="session")
async def template(server: Cluster) -> str:
    """The name of a migrated database without connections, to be cloned."""
    name = await create_database(server)
    async with closing(await asyncpg.connect(server.url(name))) as connection:
        await migrate(connection, explicit=True)
    return name


@pytest.fixture
async def empty_database(server: Cluster) -> AsyncIterator[str]:
    """The address of a new, empty database that belongs to ``app``."""
    name = await create_database(server)
    yield server.url(name)
    await drop_database(server, name)


@pytest.fixture
async def migrated_database(server: Cluster, template: str) -> AsyncIterator[str]:
    """The address of a migrated database that has no roles of its own yet."""
    name = await create_database(server, template=template)
    yield server.url(name)
    await drop_database(server, name)


@pytest.fixture
async def database_url(server: Cluster, migrated_database: str) -> str:
    """The address of a migrated database with its roles: what the daemon finds at work."""
    roles = await made_roles(migrated_database)
    if os.environ.get(HARDENED_VARIABLE):
        async with closing(await asyncpg.connect(migrated_database)) as connection:
            missing = await missing_hardening(connection, roles)
        admin_url = server.admin_url(database_of(migrated_database))
        async with closing(await asyncpg.connect(admin_url)) as admin:
            await admin.execute(";\n".join(one.statement for one in missing))
    return migrated_database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """That database as the daemon's parts use it; every line is closed afterwards."""
    database = Database(database_url)
    yield database
    await database.close()
