"""Changing what runs do: trigger and reset, and what a killed owner held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harvestd.database.pool import Database
from harvestd.service.acts import Acts, take_over_embedded
from tests.builders import LEASE, TICK, a_held_run, a_replica, a_run, a_tenant, query
from tests.cli.shell import harvestd, terminal
from tests.daemons import SIMPLE, cycle, running_app
from tests.processes import wait_until

SEEN = """
    SELECT data_source || '/' || script AS name, status::text, covered = '{}' AS empty,
           last_fetched_data_date AS watermark, due_at <= now() AS due, not_before::text, fence,
           failures, replica_id IS NOT NULL AS held
    FROM data_source_run ORDER BY 1
"""
WAITING = """
    UPDATE data_source_run
    SET fence = 3, status = 'WAITING', failures = 2, due_at = now() + interval '1 day',
        not_before = now() + interval '1 day', reason = 'rate limit',
        covered = '{[2026-01-01Z,2026-02-01Z)}', last_fetched_data_date = '2026-02-01Z'
"""
BOOKMARKS = """
    INSERT INTO harvestd.bookmark (tenant_id, data_source, script, name, value)
    SELECT 'acme', 'git', script, 'heads', '1' FROM unnest(ARRAY['commit', 'repository']) script
"""


async def test_a_trigger_without_a_tenant_asks_every_replica_for_a_forced_cycle(
    database_url: str,
) -> None:
    done = await harvestd("trigger", "--json", url=database_url)
    text = await harvestd("trigger", "--dry-run", url=database_url)
    rows = await query(
        database_url,
        "SELECT forced_at > now() - interval '1 minute' AS asked FROM harvestd.installation",
    )

    assert done.json == {"tenant_id": None, "due": [], "under_way": [], "dry_run": False}
    assert rows[0]["asked"]
    assert "a cycle over all 0 runs, but those that wait for a date, would be asked for" in text.err
    assert "no replica is running" in done.err


async def test_a_trigger_makes_only_the_named_runs_due_and_leaves_a_held_one_alone(
    database: Database, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    for script in ("commit", "held", "repository"):
        await a_run(database_url, f"acme/git/{script}")
    await query(database_url, WAITING)
    heartbeat = await a_replica(database)
    held = "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1 WHERE script = 'held'"
    await query(database_url, held, heartbeat.replica_id)
    one = await harvestd(
        "trigger", "acme", "--source", "git", "--script", "commit", url=database_url
    )
    after_one = {row["name"]: row for row in await query(database_url, SEEN)}
    whole = await harvestd("trigger", "acme", "--json", url=database_url)
    after_all = {row["name"]: row for row in await query(database_url, SEEN)}

    assert one.code == 0
    assert after_one["git/commit"]["due"]
    assert after_one["git/commit"]["not_before"] == "-infinity"
    assert not after_one["git/repository"]["due"]
    assert whole.json["due"] == ["git/commit", "git/repository"]
    assert whole.json["under_way"] == ["git/held"]
    assert after_all["git/repository"]["due"]
    assert after_all["git/held"]["fence"] == 3
    assert not after_all["git/held"]["due"]
    assert not any(row["empty"] for row in after_all.values())


async def test_a_reset_forgets_ledger_and_bookmarks_of_the_named_runs_only(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    for script in ("commit", "repository"):
        await a_run(database_url, f"acme/git/{script}")
    await query(database_url, WAITING)
    await query(database_url, BOOKMARKS)
    done = await harvestd(
        *("reset", "acme", "--source", "git", "--script", "commit", "--yes", "--json"),
        url=database_url,
    )
    commit, repository = await query(database_url, SEEN)
    kept = await query(database_url, "SELECT script FROM harvestd.bookmark")

    assert done.json == {"tenant_id": "acme", "reset": ["git/commit"], "dry_run": False}
    assert (commit["empty"], commit["watermark"], commit["due"]) == (True, None, True)
    assert (commit["failures"], commit["not_before"], commit["fence"]) == (0, "-infinity", 3)
    assert commit["status"] == "WAITING"  # docs/states.md: never the status
    assert (repository["empty"], repository["failures"]) == (False, 2)
    assert kept == [{"script": "repository"}]


@pytest.mark.parametrize("act", [("reset", "acme"), ("backfill", "--tenant", "acme")])
async def test_what_reads_again_names_the_tables_that_have_no_key_to_find_a_row_by(
    database_url: str, act: tuple[str, ...]
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await query(database_url, WAITING)
    for statement in (
        "CREATE SCHEMA git",
        "CREATE TABLE git.event (tenant_id text, n int)",
        "CREATE TABLE git.commit (tenant_id text, id int, PRIMARY KEY (tenant_id, id))",
    ):
        await query(database_url, statement)
    since = ("--from", "2026-01-10") if act[0] == "backfill" else ()
    looked = await harvestd(*act, *since, "--dry-run", url=database_url)
    done = await harvestd(*act, *since, "--yes", "--json", url=database_url)

    for one in (looked, done):
        assert one.code == 0
        assert "of tables without a key (git.event) no row is found again" in one.err


async def test_a_reset_of_a_date_that_was_set_by_hand_meets_its_trigger_without_harm(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await query(database_url, BOOKMARKS)
    await query(
        database_url,
        "UPDATE data_source_run SET last_fetched_data_date = origin, covered = '{}'",
    )
    done = await harvestd("reset", "acme", "--yes", url=database_url)
    (run,) = await query(database_url, SEEN)

    assert done.code == 0
    assert (run["watermark"], run["empty"]) == (None, True)
    assert await query(database_url, "SELECT name FROM harvestd.bookmark") == []


@pytest.mark.parametrize(("answer", "code", "empty"), [("n\n", 2, False), ("yes\n", 0, True)])
async def test_a_reset_asks_at_a_terminal_and_does_what_the_person_says(
    database_url: str, answer: str, code: int, empty: bool
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await query(database_url, WAITING)
    with terminal("reset", "acme", settings={"DATABASE_URL": database_url}) as screen:
        await screen.until("[y/N]")
        screen.type(answer)
        ended = await screen.ended()
    (run,) = await query(database_url, SEEN)

    assert (ended, run["empty"]) == (code, empty)


async def test_a_reset_without_a_terminal_needs_yes_and_changes_nothing(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await query(database_url, WAITING)
    done = await harvestd("reset", "acme", url=database_url, given="y\n")
    (run,) = await query(database_url, SEEN)

    assert done.code == 2
    assert "--yes" in done.err
    assert not run["empty"]


async def test_a_run_that_is_reset_under_way_is_given_up_and_reads_all_again(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "v"}})
    gate = """
    import asyncio
    from datetime import timedelta
    from pathlib import Path
    import_window_duration = timedelta(days=30)
    async def run(env, db, tenant_id, start_date, end_date):
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ('gate', $1, $2)",
                start_date, end_date)
        here = Path(__file__).parent
        if not (here / "open").exists() and (here / "closed").exists():
            (here / "waits").touch()
            await asyncio.sleep(600)
    """
    plugins = {"probe/gate.py": gate, "probe/free.py": SIMPLE}
    async with running_app(database_url, tmp_path, plugins, lease_seconds=3.0) as app:
        await cycle(app)
        folder = tmp_path / "plugins" / "probe"
        (folder / "closed").touch()
        app.wanted.ask("the test", forced=True)
        await wait_until(lambda: exists(folder / "waits"), "the script hangs")
        database = Database(database_url)
        (folder / "open").touch()  # before: the run may be claimed again at once
        reset = await Acts(database).reset("acme", "probe", "gate")
        await wait_until(lambda: given_back(database_url, "gate"), "the holder gives it back")
        await cycle(app, forced=False)
        await database.close()
    events = await query(
        database_url, "SELECT from_at FROM probe.event WHERE script = 'gate' ORDER BY 1 LIMIT 2"
    )
    history = await query(
        database_url, "SELECT outcome FROM harvestd.run_history WHERE script = 'gate'"
    )

    assert [one.held for one in reset] == [True]
    # the first window of the origin was read twice: before the reset and after it
    assert events[0]["from_at"] == events[1]["from_at"]
    again = await _run(database_url, "gate")
    assert (again["status"], again["empty"]) == ("COMPLETED", False)
    assert {row["outcome"] for row in history} == {"completed"}


async def test_a_trigger_reaches_a_living_replica_within_its_next_heartbeat(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "v"}})
    plugins = {"probe/one.py": SIMPLE, "probe/two.py": SIMPLE}
    async with running_app(database_url, tmp_path, plugins, lease_seconds=3.0) as app:
        await cycle(app)
        far = "UPDATE data_source_run SET due_at = now() + interval '1 day'"
        await query(database_url, far)
        named = await harvestd(*("trigger", "acme", "--script", "one", "--json"), url=database_url)
        await wait_until(lambda: started(database_url, "one", 2), "the named run started")
        two_left_alone = await started(database_url, "two", 1)
        await query(database_url, far)
        await harvestd("trigger", url=database_url)
        await wait_until(lambda: started(database_url, "one", 3), "both ran")
        await wait_until(lambda: started(database_url, "two", 2), "both ran")

    assert named.json["due"] == ["probe/one"]
    assert two_left_alone


async def started(url: str, script: str, times: int) -> bool:
    return (await _run(url, script))["fence"] == times


async def given_back(url: str, script: str) -> bool:
    return not (await _run(url, script))["held"]


async def exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def _run(url: str, script: str) -> dict[str, object]:
    return next(row for row in await query(url, SEEN) if row["name"] == f"probe/{script}")


async def test_what_a_killed_owner_held_is_free_at_once_for_the_next(
    database: Database, database_url: str
) -> None:
    heartbeat = await a_held_run(database, database_url, "acme/git/commit")
    freed = await take_over_embedded(database, lease=LEASE, tick=TICK)
    (run,) = await query(database_url, SEEN)

    assert freed == 1
    assert (run["held"], run["status"], run["fence"], run["due"]) == (False, "PENDING", 2, True)
    assert not (await heartbeat.beat({})).alive
