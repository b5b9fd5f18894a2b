"""One thing that is not as a schema.sql says, and the DDL that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto


class Turn(IntEnum):
    """When a mend of a table runs: each needs what the ones before it did."""

    FOREIGN_KEYS_DROPPED = auto()
    COLUMNS = auto()
    RULES = auto()
    NULLS_ADMITTED = auto()  # of a column that was in a primary key
    FOREIGN_KEYS = auto()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the file says; ``mend``: the DDL to add, below what made it.

    ``advice`` instead of it where no DDL does it.  ``words``: what to look for in the file, best
    first.
    """

    what: str
    mend: str
    words: tuple[str, ...]
    turn: Turn = Turn.COLUMNS
    advice: str = ""


def text(value: str) -> str:
    """``value`` as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def unless(statement: str, condition: str) -> str:
    """For DDL that knows no IF NOT EXISTS."""
    return f"DO $$ BEGIN {statement}; EXCEPTION WHEN {condition} THEN NULL; END $$"
