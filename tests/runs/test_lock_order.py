"""Whatever may wait for several runs at once locks them by their number, so none deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from harvestd.database.pool import Database
from harvestd.runs.claims import Claims
from harvestd.service.acts import Acts, RunsChosen
from harvestd.terms import Window
from tests.builders import (
    a_claimer,
    a_run,
    a_tenant,
    a_transaction,
    query,
    taken,
    until_somebody_waits_for_a_lock,
)

NOW = datetime.now(UTC)
YESTERDAY = Window(NOW - timedelta(days=30), NOW - timedelta(days=1))
ACTS: dict[str, Callable[[Acts, Claims], Awaitable[object]]] = {
    "reset": lambda acts, _: acts.reset("acme", None, None),
    "backfill": lambda acts, _: acts.backfill(RunsChosen("acme", None, None), YESTERDAY),
    "trigger": lambda acts, _: acts.trigger("acme", None, None),
    "pause": lambda acts, _: acts.pause("acme"),
    "resume": lambda acts, _: acts.resume("acme"),
    "leave": lambda _, claims: claims.leave(),
}


@pytest.mark.parametrize("act", ACTS)
async def test_who_waits_for_the_first_run_of_several_has_not_locked_a_later_one(
    act: str, database: Database, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    claims = await a_claimer(database)
    first = await a_run(database_url, "acme/probe/main")
    later = await a_run(database_url, "acme/probe/early")
    if act != "trigger":  # which leaves alone what is held
        for listed in (first, later):
            await taken(claims, listed)
    if act == "resume":
        await query(database_url, "UPDATE tenant SET paused_at = now()")

    # Now the first by number is the last by name, and by its place in the table.
    first_run = f"WHERE run_no = {first.run_no}"
    await query(database_url, f"UPDATE data_source_run SET script = 'late' {first_run}")

    async with a_transaction(database_url, f"SELECT FROM data_source_run {first_run} FOR UPDATE"):
        acting = asyncio.ensure_future(ACTS[act](Acts(database), claims))
        await until_somebody_waits_for_a_lock(database_url)
        lock = "SELECT script FROM data_source_run FOR NO KEY UPDATE SKIP LOCKED"
        free = await query(database_url, lock)
    await acting

    assert [row["script"] for row in free] == ["early"]
