"""What both benches need: a server as they see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import peers
from bench.scratch import Server
from tests.clusters import Cluster, database_of
from tests.tools import is_missing


@pytest.fixture
def bench_server(server: Cluster, empty_database: str, tmp_path: Path) -> Server:
    """The suite's server as the bench sees it, at an empty database."""
    return Server(empty_database, server.admin_url(database_of(empty_database)), tmp_path)


@pytest.fixture
def peers_python() -> Path:
    """The interpreter that has the peers, once `make bench-peers` made their environment."""
    python = peers.find_python()
    if python is None:
        is_missing("no .venv-bench here (make bench-peers)")
    return python
