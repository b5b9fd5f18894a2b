"""A replica with one enrolled run."""

from __future__ import annotations

import pytest

from harvestd.database.pool import Database
from harvestd.runs.claims import Claims, Listed
from tests.builders import a_replica, a_run, a_tenant


@pytest.fixture
async def claims(database: Database) -> Claims:
    return Claims(database, (await a_replica(database)).replica_id)


@pytest.fixture
async def listed(database_url: str) -> Listed:
    await a_tenant(database_url, "acme")
    return await a_run(database_url)
