"""The README's promises: its plugin runs as printed, its commands and links exist."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.processes import ROOT, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
]
COMMANDS = sorted(set(re.findall(r"harvestd ((?:tenant|config) \w+|[a-z]+)\b", README)))


def block(language: str) -> str:
    """The first fenced block of that language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_plugin_of_the_readme_runs_as_it_is_printed(
    database_url: str, tmp_path: Path
) -> None:
    assert len(block("python").splitlines()) <= 20
    plugins = {"weather/schema.sql": block("sql"), "weather/reading.py": block("python")}
    await a_tenant(database_url, "acme", {"weather": {"STATION": "Zugspitze"}})
    async with running_app(database_url, tmp_path, plugins) as app:
        await cycle(app)
    rows = await query(database_url, "SELECT at FROM weather.reading ORDER BY at")
    assert len(rows) >= 90 * 24
    assert all(a["at"] < b["at"] for a, b in pairwise(rows))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in {"keeps", "is"}])
def test_each_command_that_the_readme_names_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harvestd", *command.split(), "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: harvestd" in done.stdout


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"))
    }
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_no_link_within_the_project_is_dead(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
