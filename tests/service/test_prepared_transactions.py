"""A server on which PREPARE TRANSACTION works: said at the start, since no right can refuse it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import clusters
from tests.clusters import create_daemon_role, create_database, running_cluster, wanted_version
from tests.daemons import running_app

WORDS = "prepared_transactions_admitted"


async def test_it_is_warned_of_where_the_server_admits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(clusters.SETTINGS, "max_prepared_transactions", "3")
    with running_cluster(wanted_version()) as server:
        await create_daemon_role(server)
        url = server.url(await create_database(server))
        async with running_app(url, tmp_path):
            pass

    assert WORDS in capfd.readouterr().err


async def test_it_is_not_spoken_of_elsewhere(
    database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running_app(database_url, tmp_path):
        pass

    assert WORDS not in capfd.readouterr().err
