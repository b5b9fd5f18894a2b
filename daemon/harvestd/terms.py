"""The glossary as types (docs/words.md has the same list in prose).

Nothing here knows a database, a clock or a log: every stage may import it.

What is made, compared or hashed for every run is a NamedTuple, here and elsewhere: a frozen
dataclass takes 0.5 µs to make where a tuple takes 0.15 (docs/bench.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""What a data source, a script and a table may be called: safe as file, schema and label."""


UTC_OFFSET = timedelta(0)


class Status(StrEnum):
    """The word in a run row: the values of the enum type "DataSourceRunStatus"."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Outcome(StrEnum):
    """The end of an attempt; every attempt has exactly one."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    WAITING = "waiting"
    YIELDED = "yielded"
    CANCELLED = "cancelled"
    LOST = "lost"


class ScriptName(NamedTuple):
    """One Python file of a data source: ``git/commit``."""

    source: str
    script: str

    def __str__(self) -> str:
        return f"{self.source}/{self.script}"


class RunKey(NamedTuple):
    """Which run: one row of ``data_source_run``, whatever its ``run_no``."""

    tenant_id: str
    source: str
    script: str

    @property
    def name(self) -> ScriptName:
        """The script this run is of."""
        return ScriptName(self.source, self.script)

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.source}/{self.script}"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span of source time, ``[start, end)``, both in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound.utcoffset() != UTC_OFFSET:
                raise ValueError(f"window bounds must be UTC: {self.start!r}, {self.end!r}")
        if self.start >= self.end:
            raise ValueError(f"window must not be empty: {self.start} .. {self.end}")

    @property
    def width(self) -> timedelta:
        """How much source time it spans."""
        return self.end - self.start
