"""The SQL of harvestd: one statement a file under sql/queries/<stage>/, by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

PARAMETER_LINE = re.compile(r"^-- \$(\d+) (\w+)\s+(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One named statement: its ``text`` and the parameter numbers its header describes."""

    name: str
    stage: str
    text: str
    parameters: tuple[int, ...]


def sql_root() -> Path:
    """Folder of the SQL files: the copy in the wheel, or sql/ of the checkout."""
    bundled = Path(__file__).parents[1] / "_bundled" / "sql"
    return bundled if bundled.is_dir() else Path(__file__).parents[3] / "sql"


@cache
def load_statements() -> Mapping[str, Statement]:
    """Every statement by name.  Raises ValueError when two files share one."""
    found: dict[str, Statement] = {}
    for path in sorted((sql_root() / "queries").glob("*/*.sql")):
        text = path.read_text(encoding="utf-8")
        if path.stem in found:
            raise ValueError(f"two statements are called {path.stem}")
        numbers = tuple(int(match[1]) for match in PARAMETER_LINE.finditer(text))
        found[path.stem] = Statement(path.stem, path.parent.name, text, numbers)
    return MappingProxyType(found)
