"""What both benches need: a server as they see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scratch import Server
from tests.clusters import Cluster, database_of


@pytest.fixture
def bench_server(server: Cluster, empty_database: str, tmp_path: Path) -> Server:
    """The suite's server as the bench sees it, at an empty database."""
    return Server(empty_database, server.admin_url(database_of(empty_database)), tmp_path)
