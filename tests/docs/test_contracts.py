"""The tree keeps its promises: imports flow one way, and no module outgrows a reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import harvestd

ROOT = Path(__file__).parents[2]
DAEMON = Path(harvestd.__file__).parent
LINES_MAX = 350


def test_the_import_contracts_hold() -> None:
    program = (
        "import sys; from importlinter.cli import lint_imports;"
        " sys.exit(lint_imports('pyproject.toml', no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(DAEMON)): lines
        for path in sorted(DAEMON.rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}


def test_no_package_file_holds_code() -> None:
    # But for the kit's, which is what plugin authors import.
    faces = {DAEMON, DAEMON / "testing"}
    packages = [path for path in DAEMON.rglob("__init__.py") if path.parent not in faces]

    assert [path for path in packages if path.read_text(encoding="utf-8").strip()] == []
