"""An upstream and a cache folder, with names as awkward as a path can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.git.world import Upstream, an_upstream


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return an_upstream(tmp_path / "up: stream.git")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache"
