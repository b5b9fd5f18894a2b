"""The SQL of harvestd: one statement a file under sql/queries/<stage>/, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType


def sql_root() -> Path:
    """Folder of the SQL files: the copy in the wheel, or sql/ of the checkout."""
    bundled = Path(__file__).parents[1] / "_bundled" / "sql"
    return bundled if bundled.is_dir() else Path(__file__).parents[3] / "sql"


@cache
def load_statements() -> Mapping[str, str]:
    """The text of every statement by its name.  Raises ValueError when two files share one."""
    found: dict[str, str] = {}
    for path in sorted((sql_root() / "queries").glob("*/*.sql")):
        if path.stem in found:
            raise ValueError(f"two statements are called {path.stem}")
        found[path.stem] = path.read_text(encoding="utf-8")
    return MappingProxyType(found)


def sql(name: str) -> str:
    """The text of one statement."""
    return load_statements()[name]
