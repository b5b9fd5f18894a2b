"""The rows that `make bench-load` loads, the same for all.

A module of its own, with nothing but the standard library: the peers' programs import it too, and
in their environment harvestd is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

TENANT = "t1"
KEY = ("tenant_id", "id")
COLUMNS = """
    tenant_id text NOT NULL, id bigint NOT NULL, title text, size int, score int,
    created_at timestamptz, updated_at timestamptz, payload jsonb,
    PRIMARY KEY (tenant_id, id)
"""
CHANGING = ("title", "size", "score", "created_at", "updated_at", "payload")
UPSERT = "ON CONFLICT (tenant_id, id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in CHANGING
)
"""How each statement written by hand ends, of the server alone and of whoever has no own."""

PASSES = ("fresh", "again")
"""New rows; then the same rows with another value in each."""

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


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


def tenant_rows(rows: int, *, score: int) -> Iterator[dict[str, object]]:
    """The same with the tenant id, for those to whom nobody adds it."""
    for row in rows_of(rows, score=score):
        yield {"tenant_id": TENANT, **row}


def pages(rows: Iterator[dict[str, object]], size: int) -> Iterator[list[dict[str, object]]]:
    """``rows`` by ``size`` at a time, the last perhaps fewer."""
    while page := list(islice(rows, size)):
        yield page
