"""The database's clock is set back by a day: what happened "tomorrow" holds nothing up."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.builders import a_tenant, query
from tests.daemons import PROBE, cycle, running_app

DAILY = """
from datetime import timedelta
interval = timedelta(days=7)
import_window_duration = timedelta(days=365)
visibility_lag = timedelta(0)
async def run(env, db, tenant_id, start_date, end_date):
    row = {"script": __name__, "from_at": start_date, "to_at": end_date}
    await db.copy("event", [row], end_date)
"""
# As it would be, had that clock been a day ahead until now.
A_DAY_AHEAD = """
UPDATE data_source_run
SET started_at = started_at + interval '1 day',
    completed_at = completed_at + interval '1 day',
    due_at = due_at + interval '1 day',
    covered = tstzmultirange(tstzrange(lower(covered), upper(covered) + interval '1 day')),
    last_fetched_data_date = last_fetched_data_date + interval '1 day'
"""
SEE = """
SELECT status::text, started_at <= now() AS started, upper(covered) <= now() AS covered,
       upper(covered) = last_fetched_data_date AS is_watermark, cut_at > now() AS cut,
       upper(covered) AS watermark
FROM data_source_run
"""


async def test_runs_from_before_go_on_at_once_and_what_they_covered_ahead_is_read(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": DAILY}) as app:
        await app.feeder.idle()
        await query(database_url, A_DAY_AHEAD)
        for _ in range(3):  # found, mended, done
            await cycle(app, forced=False)
    (run,) = await query(database_url, SEE)
    events = await query(database_url, "SELECT from_at, to_at FROM probe.event ORDER BY to_at")

    assert run["status"] == "COMPLETED"
    assert run["started"] and run["covered"] and run["is_watermark"] and run["cut"]
    assert len(events) == 2
    assert events[-1]["to_at"] == run["watermark"]
    assert events[-1]["from_at"] - events[0]["to_at"] < timedelta(minutes=1)


async def test_a_cycle_that_was_forced_before_does_not_force_each_one_until_then(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": DAILY}) as app:
        await app.feeder.idle()
        await query(
            database_url, "UPDATE harvestd.installation SET forced_at = now() + interval '1 day'"
        )
        await cycle(app, forced=False)
    (counted,) = await query(database_url, "SELECT count(*)::int AS n FROM probe.event")

    assert counted["n"] == 1


async def test_a_trigger_after_that_is_heard(database_url: str, tmp_path: Path) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(
        database_url, tmp_path, {"probe/main.py": DAILY}, lease_seconds=3.0
    ) as app:
        await app.feeder.idle()
        await query(
            database_url, "UPDATE harvestd.installation SET woken_at = now() + interval '1 day'"
        )
        await app.cycles.get()
        await query(database_url, "UPDATE harvestd.installation SET forced_at = now()")
        await app.cycles.get()
        await app.feeder.idle()
    (counted,) = await query(database_url, "SELECT count(*)::int AS n FROM probe.event")

    assert counted["n"] == 2


async def test_a_date_ahead_that_the_database_does_not_let_us_mend_holds_up_no_other(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    script = "catch_up = False\nasync def run(*_): pass\n"
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await app.feeder.idle()
        await query(
            database_url,
            "UPDATE data_source_run SET started_at = now() + interval '1 day'"
            " WHERE tenant_id = 'acme'",
        )
        await query(
            database_url,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE 'not this one'; END $$",
        )
        await query(
            database_url,
            "CREATE TRIGGER refuse BEFORE UPDATE ON data_source_run FOR EACH ROW"
            " WHEN (old.tenant_id = 'acme') EXECUTE FUNCTION refuse()",
        )
        for _ in range(2):  # found, and then tried
            await cycle(app, forced=False)
    (run,) = await query(database_url, "SELECT * FROM data_source_run WHERE tenant_id = 'globex'")

    assert run["fence"] == 3
