"""Looking at runs and changing what they do: status, trigger, reset, sql, migrate."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harvestd.database.pool import Database
from harvestd.service.acts import Acts, take_over_embedded
from tests.builders import LEASE, TICK, a_replica, a_run, a_tenant, query, silence
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
LONG = (
    "harvestd_source_git_4a59b47d._git.GitError: there is no page; why: "
    + 40 * "the upstream lost it "
    + "for good; next: ask for another"
)
"""As the runner keeps it: longer than a cell of a table."""


async def test_status_tells_the_whole_in_numbers_and_names_the_reader(database_url: str) -> None:
    await a_tenant(database_url, "acme", {"git": {"KEY": "v"}})
    await a_run(database_url, "acme/git/commit", days=2)
    json = (await harvestd("status", "--json", url=database_url)).json
    text = await harvestd("status", url=database_url)

    assert json["overview"]["runs"] == json["overview"]["pending"] == 1
    assert json["overview"]["lag_seconds"] == pytest.approx(2 * 86400, abs=60)
    assert json["tenants"][0]["sources"] == ["git"]
    assert json["replicas"] == []
    roles = await query(database_url, "SELECT FROM pg_roles WHERE rolname = $1", json["reader"])
    assert len(roles) == 1
    assert json["reader"] in text.out
    assert "none is running" in text.out
    assert "harvestd status acme" not in text.out  # nothing is wrong


async def test_status_of_a_tenant_says_why_each_run_does_not_go_on(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    for script, change in {
        "blocked": "blocked_by = 'git/repository'",
        "failed": f"status = 'FAILED', error = '{LONG}', fence = 1",
        "retired": "retired_at = now()",
        "strange": "blocked_by = 'needs resource ''x'', which no script of ''git'' provides'",
        "waiting": "status = 'WAITING', reason = 'rate limit', not_before = '2126-01-01Z'",
    }.items():
        await a_run(database_url, f"acme/git/{script}")
        changed = f"UPDATE data_source_run SET {change} WHERE script = $1"
        await query(database_url, changed, script)
    whole = (await harvestd("status", url=database_url)).out
    text = (await harvestd("status", "acme", url=database_url)).out
    lines = {line.split()[0]: line for line in lines_of(text.partition("\n\n")[0])}
    runs = (await harvestd("status", "acme", "--json", url=database_url)).json["runs"]

    assert "why, and what to do: harvestd status acme" in whole
    assert "its configuration is gone" in lines["git/retired"]
    assert "until 2126-01-01 00:00" in lines["git/waiting"]
    assert "again now" in lines["git/failed"]
    table, _, told = text.partition("\n\n")
    assert told.splitlines() == [
        "git/blocked BLOCKED: needs git/repository, and goes on by itself once that completes",
        "",
        "git/failed FAILED: there is no page",
        "  why:  " + 40 * "the upstream lost it " + "for good",
        "  next: ask for another",
        "",
        "git/strange BLOCKED: needs resource 'x', which no script of 'git' provides",
        "",
        "git/waiting WAITING: rate limit",
    ]
    words = {run["script"]: run["status"] for run in runs}
    assert words == {
        line.split()[0].removeprefix("git/"): line.split()[1] for line in lines_of(table)
    }
    assert words["strange"] == "BLOCKED"
    assert runs[4]["waits_until"] == "2126-01-01T00:00:00Z"


async def test_status_of_a_tenant_without_runs_says_what_is_missing(database_url: str) -> None:
    await a_tenant(database_url, "bare")
    await a_tenant(database_url, "acme", {"gti": {"KEY": "v"}})
    bare = await harvestd("status", "bare", url=database_url)
    misspelt = await harvestd("status", "acme", url=database_url)

    assert "harvestd config set bare SOURCE KEY" in bare.err
    assert "where a plugin provides its data sources: gti" in misspelt.err


async def test_dates_of_another_program_that_python_does_not_know_are_shown_as_near_as_can_be(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme", {"git": {"KEY": "v"}})
    await a_run(database_url, "acme/git/commit")
    await query(
        database_url,
        "UPDATE data_source_run SET fence = 1, started_at = '200000-01-01',"
        " not_before = '4000-01-01 BC', due_at = '200000-01-01'",
    )
    await query(database_url, "UPDATE tenant_data_source_config SET updated_at = '200000-01-01'")
    for words in (("status",), ("status", "acme"), ("config", "list", "acme")):
        done = await harvestd(*words, url=database_url)
        assert done.code == 0, done.err
        assert words[-1] != "acme" or "9999-12-29" in done.out


def lines_of(table: str) -> list[str]:
    """The rows of a table of runs."""
    return [line for line in table.splitlines() if line.startswith("git/")]


async def test_status_says_when_the_runs_of_a_silent_replica_are_free(
    database: Database, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    heartbeat = await a_replica(database)
    await a_run(database_url, "acme/git/commit")
    await query(
        database_url,
        "UPDATE data_source_run SET status = 'RUNNING', fence = 1, replica_id = $1",
        heartbeat.replica_id,
    )
    well = await harvestd("status", "acme", url=database_url)
    await query(
        database_url, "UPDATE harvestd.replica SET heartbeat_at = now() - interval '18 seconds'"
    )
    quiet = await harvestd("status", "acme", url=database_url)
    await silence(database_url, heartbeat.replica_id)
    gone = await harvestd("status", url=database_url)

    assert "held by" in well.out
    assert "free in" not in well.out
    assert "its runs are free in 1" in quiet.out
    assert "the next replica that runs takes its runs" in gone.out


async def test_a_trigger_without_a_tenant_asks_every_replica_for_a_forced_cycle(
    database_url: str,
) -> None:
    done = await harvestd("trigger", "--json", url=database_url)
    rows = await query(
        database_url,
        "SELECT forced_at > now() - interval '1 minute' AS asked FROM harvestd.installation",
    )

    assert done.json == {"tenant_id": None, "due": [], "under_way": [], "dry_run": False}
    assert rows[0]["asked"]
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
    heartbeat = await a_replica(database)
    await a_run(database_url, "acme/git/commit")
    await query(
        database_url,
        "UPDATE data_source_run SET status = 'RUNNING', fence = 1, replica_id = $1",
        heartbeat.replica_id,
    )
    freed = await take_over_embedded(database, lease=LEASE, tick=TICK)
    (run,) = await query(database_url, SEEN)

    assert freed == 1
    assert (run["held"], run["status"], run["fence"], run["due"]) == (False, "PENDING", 2, True)
    assert not (await heartbeat.beat({})).alive
