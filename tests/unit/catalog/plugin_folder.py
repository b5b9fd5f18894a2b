"""Plugin folders on disk for the tests of the catalog."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from harvestd.catalog.discover import Problem
from harvestd.catalog.script import Script
from harvestd.catalog.snapshot import EMPTY, Catalog, reload
from harvestd.terms import ScriptName


class PluginFolder:
    """A folder of data sources that a test edits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.nothing_bundled = path.parent / "nothing bundled"
        self.nothing_bundled.mkdir(exist_ok=True)

    def write(self, file: str, text: str | bytes) -> Path:
        """Write ``source/script.py`` (dedented), making its folder."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    def load(self, previous: Catalog = EMPTY, *, after: Sequence[Path] = ()) -> Catalog:
        """Reload with this folder first, then those of ``after``, and nothing bundled."""
        return reload(previous, [self.path, *after], bundled=self.nothing_bundled)


def saying(word: str, *more: str) -> str:
    """A script whose run() appends ``word`` to what it got as db."""
    lines = [*more, "async def run(env, db, tenant_id, start_date, end_date):"]
    return "\n".join([*lines, f"    db.append({word!r})", ""])


async def said(script: Script | None) -> list[str]:
    """What the script says when it is run."""
    assert script is not None
    words: list[str] = []
    await script.run({}, words, "t1", datetime(2025, 1, 1, tzinfo=UTC), datetime.now(UTC))
    return words


def script_of(catalog: Catalog, name: str) -> Script | None:
    """The script called ``source/script``."""
    source, _, script = name.partition("/")
    return catalog.script(ScriptName(source, script))


def only_problem(catalog: Catalog) -> Problem:
    """The catalog's one problem."""
    assert len(catalog.problems) == 1, catalog.problems
    return catalog.problems[0]
