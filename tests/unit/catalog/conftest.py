from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.catalog.plugin_folder import PluginFolder


@pytest.fixture
def plugins(tmp_path: Path) -> PluginFolder:
    return PluginFolder(tmp_path / "plug ins")
