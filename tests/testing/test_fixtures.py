"""The fixtures in projects that have others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PLUGIN = """
import pytest

@pytest.fixture
def db():
    return "theirs"
"""
TEST = """
def test_whose(db):
    assert db == "theirs"
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["theirs", "harvestd.testing.fixtures"])
def test_another_plugins_db_stays_its_own(tmp_path: Path, first: str) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    (tmp_path / "test_it.py").write_text(TEST)
    last = {"theirs", "harvestd.testing.fixtures"} - {first}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", first, "-p", *last, "test_it.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'daemon'}:{tmp_path}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout
