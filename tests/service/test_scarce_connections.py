"""A server that takes fewer connections than its replicas may open: said at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from harvestd.database.pool import Database
from harvestd.service.preparing import CORE_CONNECTIONS
from tests.builders import a_replica, query
from tests.daemons import running_app

WORDS = "connections_scarce"


async def test_it_is_said_with_the_numbers_and_counts_the_living_replicas(
    database: Database, database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (server,) = await query(
        database_url,
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int AS n",
    )
    fits = server["n"] // 2 - CORE_CONNECTIONS
    async with running_app(database_url, tmp_path, seats_max=fits):
        pass
    assert WORDS not in capfd.readouterr().err

    await a_replica(database)
    await a_replica(database)
    async with running_app(database_url, tmp_path, seats_max=fits):
        pass
    lines = [line for line in capfd.readouterr().err.splitlines() if WORDS in line]
    (said,) = lines
    needed = 3 * (CORE_CONNECTIONS + fits)
    for part in (f"replicas={3}", f"seats_max={fits}", f"connections_needed={needed}"):
        assert part in said
