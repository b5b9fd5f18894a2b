"""What the script of `make bench-load` does, within the daemon's process.

A module of its own: `bench.load` is `__main__` in the process that measures, and the script would
import it a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench.scratch import Meter, Rate
from harvestd.loading.facade import Db

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
PASSES = ("fresh", "again")
"""New rows; then the same rows with another value in each."""


@dataclass(slots=True)
class Upserting:
    """What the script of the daemon's process does, and how fast it was."""

    rows: int = 0
    postmaster: int = 0
    measured: dict[str, Rate] = field(default_factory=dict)

    async def measure(self, db: Db) -> None:
        """The next pass; the first call binds a seat too, as in any run."""
        one = PASSES[len(self.measured)]
        meter = Meter(self.postmaster)
        written = await db.upsert("item", rows_of(self.rows, score=int(one != "fresh")), ["id"])
        rate = meter.rate(self.rows)
        if (written.inserted, written.updated) != (
            (self.rows, 0) if one == "fresh" else (0, self.rows)
        ):
            raise RuntimeError(f"{one}: {written}")
        self.measured[one] = rate


upserting = Upserting()


def rows_of(rows: int, *, score: int) -> Iterator[dict[str, object]]:
    """Rows as a script makes them: dicts, from a generator."""
    for number in range(1, rows + 1):
        at = BEGINNING + timedelta(seconds=number)
        yield {
            "id": number,
            "title": f"item number {number}",
            "size": number % 1000,
            "score": score,
            "created_at": at,
            "updated_at": at,
            "payload": {
                "labels": ["one", "two", "three"],
                "state": "open",
                "author": f"somebody {number % 97}",
                "body": "x" * 40,
            },
        }
