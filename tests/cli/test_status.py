"""`status`: what runs, waits and fails, and why."""

from __future__ import annotations

import re

import pytest

from harvestd.database.pool import Database
from tests.builders import a_held_run, a_run, a_tenant, query, silence
from tests.cli.shell import harvestd

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
        "refused": "status = 'WAITING', reason = '401', due_at = now() + interval '1 hour'",
        "retired": "retired_at = now()",
        "strange": "blocked_by = 'needs resource ''x'', which no script of ''git'' provides'",
        "waiting": "status = 'WAITING', reason = 'rate limit', not_before = '2126-01-01Z'",
    }.items():
        await a_run(database_url, f"acme/git/{script}")
        changed = f"UPDATE data_source_run SET {change} WHERE script = $1"
        await query(database_url, changed, script)
    whole = (await harvestd("status", url=database_url)).out
    overview = (await harvestd("status", "--json", url=database_url)).json["overview"]
    text = (await harvestd("status", "acme", url=database_url)).out
    lines = {line.split()[0]: line for line in lines_of(text.partition("\n\n")[0])}
    runs = (await harvestd("status", "acme", "--json", url=database_url)).json["runs"]

    assert "runs: 5: 2 waiting, 1 failed, 2 blocked; " in whole  # each of them once
    kinds = ("pending", "running", "waiting", "completed", "failed", "blocked")
    assert sum(overview[kind] for kind in kinds) == overview["runs"]
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
        "git/refused WAITING: 401",
        "  next: harvestd config set TENANT git KEY, with what is missing, lets it go on at once; "
        "it also asks again every hour",
        "",
        "git/strange BLOCKED: needs resource 'x', which no script of 'git' provides",
        "",
        "git/waiting WAITING: rate limit",
        "  next: nothing: it goes on after 2126-01-01 00:00",
    ]
    words = {run["script"]: run["status"] for run in runs}
    assert words == {
        line.split()[0].removeprefix("git/"): line.split()[1] for line in lines_of(table)
    }
    assert words["strange"] == "BLOCKED"
    assert runs[5]["waits_until"] == "2126-01-01T00:00:00Z"


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
    heartbeat = await a_held_run(database, database_url, "acme/git/commit")
    well = await harvestd("status", "acme", url=database_url)
    await query(
        database_url, "UPDATE harvestd.replica SET heartbeat_at = now() - interval '18 seconds'"
    )
    quiet = await harvestd("status", "acme", url=database_url)
    await silence(database_url, heartbeat.replica_id)
    gone = await harvestd("status", url=database_url)

    its_own = "UPDATE harvestd.replica SET lease = interval '10 minutes', houses = false"
    await query(database_url, its_own)
    patient = await harvestd("status", "acme", url=database_url)
    patient_whole = await harvestd("status", url=database_url)

    assert "held by" in well.out
    assert "free in" not in well.out
    assert re.search(r"its runs are free in \d+ s unless", quiet.out)
    assert "the next replica that runs takes its runs" in gone.out
    for seen in (patient.out, patient_whole.out):
        assert "heard of" in seen
        assert "silent" not in seen
        assert "gone" not in seen
    assert "home of nobody (it drains, runs once, or its cycles fail" in patient_whole.out


async def test_status_names_a_holder_that_nobody_knows(
    database: Database, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    heartbeat = await a_held_run(database, database_url, "acme/git/commit")
    await query(database_url, "DELETE FROM harvestd.replica")
    seen = await harvestd("status", "acme", url=database_url)

    assert f"held by replica {heartbeat.replica_id}, which nobody knows" in " ".join(
        seen.out.split()
    )
