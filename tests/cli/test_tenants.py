"""`harvestd tenant set`, `pause` and `resume`: limits, and nothing of a tenant that is paused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harvestd.database.pool import Database
from tests.builders import a_replica, a_run, a_tenant, a_transaction, query
from tests.cli.shell import harvestd
from tests.daemons import GATED, SIMPLE, cycle, in_hand, running_app
from tests.processes import wait_until

RUNS = """
    SELECT script, status::text, fence, due_at <= now() AS due, not_before::text,
           replica_id IS NOT NULL AS held, completed_at IS NOT NULL AS ran
    FROM data_source_run ORDER BY script
"""


async def kept(url: str) -> dict[str, Any]:
    rows = await query(url, "SELECT name, runs_max, paused_at FROM tenant WHERE id = 'acme'")
    return rows[0]


async def test_a_limit_and_a_name_are_set_one_by_one_and_the_limit_goes_back_to_the_setting(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    limited = await harvestd("tenant", "set", "acme", "--runs-max", "8", "--json", url=database_url)
    after_limit = await kept(database_url)
    named = await harvestd("tenant", "set", "acme", "--name", "Acme Ltd", url=database_url)
    after_name = await kept(database_url)
    freed = await harvestd(
        "tenant", "set", "acme", "--runs-max", "default", "--json", url=database_url
    )

    assert limited.json == {"tenant_id": "acme", "name": "acme", "runs_max": 8, "dry_run": False}
    assert (after_limit["name"], after_limit["runs_max"]) == ("acme", 8)
    assert "name 'Acme Ltd', runs at once 8" in named.err
    assert (after_name["name"], after_name["runs_max"]) == ("Acme Ltd", 8)
    assert freed.json["runs_max"] is (await kept(database_url))["runs_max"] is None


@pytest.mark.parametrize("limit", ["0", "-1", "1025", "many", "1.5", "٣"])
async def test_what_is_no_limit_is_a_mistake_in_usage(database_url: str, limit: str) -> None:
    await a_tenant(database_url, "acme")
    done = await harvestd("tenant", "set", "acme", f"--runs-max={limit}", url=database_url)

    assert done.code == 2
    assert "it must be 1 to 1024, or 'default'" in done.err
    assert "harvestd tenant pause TENANT" in done.err


async def test_a_set_that_sets_nothing_and_an_unknown_tenant_are_refused(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    nothing = await harvestd("tenant", "set", "acme", url=database_url)
    said = [
        await harvestd("tenant", *line, url=database_url)
        for line in (("set", "acmee", "--runs-max", "2"), ("pause", "acmee"), ("resume", "acmee"))
    ]

    assert nothing.code == 2
    assert "--runs-max 8, or --name NAME" in nothing.err
    assert [one.code for one in said] == [1, 1, 1]
    assert all("did you mean 'acme'?" in one.err for one in said)


async def test_a_pause_takes_back_what_is_under_way_and_nothing_begins_until_it_is_resumed(
    database_url: str, tmp_path: Path
) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gates)}})
    plugins = {"probe/gate.py": GATED, "probe/free.py": SIMPLE}
    async with running_app(database_url, tmp_path, plugins, lease_seconds=3.0) as app:
        await in_hand(app)
        paused = await harvestd("tenant", "pause", "acme", "--json", url=database_url)
        await wait_until(lambda: nobody_holds(database_url), "the holder gave it back")
        before = await query(database_url, RUNS)
        await cycle(app)
        still = await query(database_url, RUNS)
        whole = await harvestd("status", "--json", url=database_url)
        seen = await harvestd("status", "acme", url=database_url)
        (gates / "gate").touch()
        resumed = await harvestd("tenant", "resume", "acme", "--json", url=database_url)
        await wait_until(lambda: all_completed(database_url), "both ran")

    assert paused.json == {
        "tenant_id": "acme",
        "paused": True,
        "taken_back": ["probe/gate"],
        "dry_run": False,
    }
    assert [run["fence"] for run in before] == [run["fence"] for run in still]
    assert whole.json["overview"]["due"] == 0
    assert whole.json["overview"]["paused"] == 1
    assert "paused: nothing of it runs until harvestd tenant resume" in seen.err
    assert resumed.json["due"] == ["probe/free", "probe/gate"]
    assert (await kept(database_url))["paused_at"] is None


async def nobody_holds(url: str) -> bool:
    return not any(run["held"] for run in await query(url, RUNS))


async def all_completed(url: str) -> bool:
    return {run["status"] for run in await query(url, RUNS)} == {"COMPLETED"}


async def test_a_turn_that_was_read_before_the_pause_finds_other_fences(
    database: Database, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await a_run(database_url, "acme/git/never")
    heartbeat = await a_replica(database)
    held = "UPDATE data_source_run SET fence = 3, status = $1 WHERE script = 'commit'"
    await query(database_url, held.replace("$1", "'COMPLETED'"))
    await harvestd("tenant", "pause", "acme", url=database_url)
    again = await harvestd("tenant", "pause", "acme", url=database_url)
    runs = {run["script"]: run for run in await query(database_url, RUNS)}

    assert heartbeat
    assert runs["commit"]["fence"] == 5  # once for each pause
    assert runs["never"]["fence"] == 0  # docs/states.md: 0 means never ran
    assert "is paused already" in again.err


async def test_a_resume_ends_no_rate_limit_and_leaves_an_active_tenant_alone(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    far = "UPDATE data_source_run SET due_at = '2126-01-01Z', not_before = '2126-01-01Z', fence = 1"
    await query(database_url, far)
    idle = await harvestd("tenant", "resume", "acme", url=database_url)
    (untouched,) = await query(database_url, RUNS)
    await query(database_url, "UPDATE tenant SET paused_at = now()")
    done = await harvestd("tenant", "resume", "acme", url=database_url)
    (run,) = await query(database_url, RUNS)

    assert "is not paused; nothing was changed" in idle.err
    assert not untouched["due"]
    assert "goes on, due now: git/commit" in done.err
    assert "no replica is running" in done.err
    assert run["due"]
    assert run["not_before"].startswith("2126")


async def test_a_tenant_is_paused_even_while_its_script_holds_a_long_transaction(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await query(database_url, "UPDATE data_source_run SET fence = 1")
    async with a_transaction(database_url, "SELECT FROM data_source_run FOR NO KEY UPDATE"):
        done = await harvestd("tenant", "pause", "acme", url=database_url)

    assert done.code == 1
    assert "acme is paused, but what is under way was not taken back" in done.err
    assert (await kept(database_url))["paused_at"] is not None


async def test_run_once_says_which_tenants_are_paused(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "plugins" / "probe").mkdir(parents=True)
    (tmp_path / "plugins" / "probe" / "main.py").write_text(
        "async def run(env, db, tenant_id, start_date, end_date): pass\n"
    )
    for tenant in ("acme", "zeta"):
        await a_tenant(database_url, tenant, {"probe": {"KEY": "v"}})
    await a_run(database_url, "acme/probe/main")
    await query(database_url, "UPDATE data_source_run SET status = 'FAILED', fence = 1")
    await harvestd("tenant", "pause", "acme", url=database_url)
    done = await harvestd(
        *("run", "--once", "--json"),
        url=database_url,
        settings={"PLUGIN_DIRS": str(tmp_path / "plugins"), "DATA_DIR": str(tmp_path / "data")},
    )

    assert done.code == 0
    assert "paused, so that nothing of them ran (harvestd tenant resume): acme" in done.err
    states = {run["tenant_id"]: run["status"] for run in done.json}
    assert states == {"acme": "FAILED", "zeta": "COMPLETED"}
    assert "did not get through" not in done.err  # nobody has to look at what was paused
