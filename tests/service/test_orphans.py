"""Runs of a replica whose row was deleted by hand: taken over as if it had died."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.builders import a_tenant, query
from tests.daemons import GATED, in_hand, running_app, runs
from tests.execution.turning import SNAPSHOT, attempts_of, gated, one_cycle
from tests.processes import wait_until

MAIN = "acme/probe/main"


async def test_what_a_replica_without_a_row_holds_is_freed_and_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    async with running_app(
        database_url, tmp_path, {"probe/main.py": SNAPSHOT}, lease_seconds=3.0
    ) as app:
        await app.feeder.idle()
        before = (await runs(database_url))[MAIN]
        await query(
            database_url,
            "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1, fence = fence + 1",
            uuid4(),
        )
        await one_cycle(app)
        await attempts_of(database_url, MAIN, before["fence"] + 3)
    history = await query(
        database_url, "SELECT reason FROM harvestd.run_history WHERE outcome = 'lost'"
    )

    assert [row["reason"] for row in history] == ["holder_died"]


async def test_a_living_replica_whose_row_is_deleted_goes_on_under_a_new_id(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    async with running_app(
        database_url, tmp_path, {"probe/main.py": GATED}, lease_seconds=3.0
    ) as app:
        await in_hand(app)
        known = app.heartbeat.replica_id
        await query(database_url, "DELETE FROM harvestd.replica")

        async def begun_anew() -> bool:
            row = (await runs(database_url))[MAIN]
            return bool(row["replica_id"] == app.heartbeat.replica_id != known)

        await wait_until(begun_anew, "the run is held under the new id")
        (tmp_path / "gates" / "main").touch()
        await app.feeder.idle()
        row = (await runs(database_url))[MAIN]

    assert row["word"] == "COMPLETED"
