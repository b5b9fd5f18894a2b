"""Embedded servers for real, and the folders that they live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.database.embedded import EmbeddedServer, embedded_server
from tests.clusters import open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can traverse; pytest's tmp_path is closed to it."""
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[EmbeddedServer]:
    """A running server, owned by this process, in a folder as awkward as a path can be."""
    data_dir = module_folder / ('it\'s a "long" $HOME `path` ' + "x" * 180) / "more\\" / "data dir"
    with embedded_server(data_dir, own=True) as running:
        yield running


@pytest.fixture(scope="module")
def stopped_home(module_folder: Path) -> Path:
    """A DATA_DIR that was made once; each test finds and leaves it stopped."""
    data_dir = module_folder / "stopped"
    with embedded_server(data_dir, own=False):
        pass
    return data_dir


@pytest.fixture
def home(stopped_home: Path) -> Iterator[Path]:
    yield stopped_home
    assert not (stopped_home / "pgdata" / "postmaster.pid").exists()
