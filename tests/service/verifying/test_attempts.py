"""Attempts that contradict each other are found."""

from __future__ import annotations

import pytest

from harvestd.database.pool import Database
from harvestd.runs.claims import Claims, Listed
from harvestd.terms import Outcome
from tests.builders import (
    an_ending,
    query,
    taken,
)
from tests.service.verifying.faults import LONG_AGO, completed, found


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("fence = 1", ["recorded_twice"]),
        ("started_at = (SELECT min(ended_at) FROM harvestd.run_history) - interval '2 seconds'",
         ["attempts_overlap"]),
        ("started_at = (SELECT min(ended_at) FROM harvestd.run_history) - interval '1 second'", []),
        ("ended_at = ended_at - interval '1 hour', started_at = started_at - interval '1 hour'",
         ["fence_went_back"]),
    ],
)  # fmt: skip
async def test_attempts_that_contradict_each_other_are_found(
    database: Database,
    database_url: str,
    claims: Claims,
    listed: Listed,
    *,
    change: str,
    kinds: list[str],
) -> None:
    listed = await completed(claims, listed, days=1)
    await claims.record(await taken(claims, listed), an_ending(Outcome.FAILED))
    before = await found(database)
    await query(database_url, f"UPDATE harvestd.run_history SET {change} WHERE fence = 2")

    assert before == []
    assert await found(database) == kinds


async def test_an_attempt_under_way_that_began_before_the_last_one_ended_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    await taken(claims, await completed(claims, listed))
    before = await found(database)
    await query(database_url, f"UPDATE data_source_run SET started_at = {LONG_AGO}")

    assert (before, await found(database)) == ([], ["attempts_overlap"])
