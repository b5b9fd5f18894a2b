"""`harvestd runs` and `harvestd gaps`: attempts by run, and source time that was not read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harvestd.catalog.script import Script
from harvestd.cli.progress import kind_of
from harvestd.service.status import GapSeen
from harvestd.terms import ScriptName
from tests.builders import a_run, a_tenant, query
from tests.cli.shell import harvestd
from tests.daemons import SIMPLE, cycle, running_app, write_plugins

FAILING = """
async def run(env, db, tenant_id, start_date, end_date):
    raise ValueError("the upstream speaks nonsense")
"""
HOLED = """
    UPDATE data_source_run
    SET origin = now() - interval '20 days', fence = 1,
        covered = tstzmultirange(tstzrange(now() - interval '20 days', now() - interval '9 days'),
                                 tstzrange(now() - interval '4 days', now() - interval '1 minute'))
    WHERE tenant_id = 'acme'
"""
TICK = timedelta(seconds=60)


async def test_the_history_shows_attempts_newest_first_with_what_went_wrong(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "v"}})
    await a_tenant(database_url, "zeta", {"probe": {"KEY": "v"}})
    plugins = {"probe/good.py": SIMPLE, "probe/bad.py": FAILING}
    async with running_app(database_url, tmp_path, plugins) as app:
        await cycle(app)
        await cycle(app)
    done = await harvestd("runs", "acme", "--history", "--json", url=database_url)
    bad = await harvestd(
        "runs", "acme", "--script", "bad", "--history", "--limit", "1", url=database_url
    )
    plain = await harvestd("runs", "acme", "--source", "probe", "--json", url=database_url)
    history = done.json["history"]

    assert [run["script"] for run in done.json["runs"]] == ["bad", "good"]
    assert [one["started_at"] for one in history] == sorted(
        (one["started_at"] for one in history), reverse=True
    )
    assert [one["outcome"] for one in history if one["script"] == "bad"] == ["failed"] * 2
    (good,) = [one for one in history if one["windows"] == 90]
    assert (good["outcome"], good["error"]) == ("completed", None)
    table, _, attempts = bad.out.partition("outcome")
    assert "good" not in bad.out
    assert "FAILED" in table
    assert attempts.count("failed") == 1
    assert "the upstream speaks nonsense" in attempts
    assert "only the newest 1 are shown" in bad.err
    assert "history" not in plain.json


async def test_runs_answers_unknown_names_with_the_nearest(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    wrong = await harvestd("runs", "acme", "--script", "comit", url=database_url)
    zero = await harvestd("runs", "acme", "--limit", "0", url=database_url)

    assert (wrong.code, zero.code) == (1, 2)
    assert "did you mean 'commit'?" in wrong.err
    assert "1 to 100,000" in zero.err


async def test_gaps_shows_holes_and_live_gaps_the_biggest_first(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"PLUGIN_DIRS": str(write_plugins(tmp_path, {"probe/main.py": SIMPLE}))}
    for tenant in ("acme", "zeta"):
        await a_tenant(database_url, tenant)
        await a_run(database_url, f"{tenant}/probe/main", days=3)
    await query(database_url, HOLED)
    await query(
        database_url, "UPDATE data_source_run SET blocked_by = 'x/y' WHERE tenant_id = 'zeta'"
    )
    whole = (await harvestd("gaps", "--json", url=database_url, settings=settings)).json
    one = await harvestd("gaps", "acme", url=database_url, settings=settings)
    first = await harvestd("gaps", "--limit", "1", url=database_url, settings=settings)

    assert (whole["holes"], whole["live_gaps"]) == (1, 2)
    sizes = [(gap["tenant_id"], gap["live"], round(gap["seconds"])) for gap in whole["gaps"]]
    assert sizes[:2] == [("acme", False, 5 * 86400), ("zeta", True, sizes[1][2])]
    assert sizes[1][2] == pytest.approx(3 * 86400, abs=60)
    assert sizes[2][2] == pytest.approx(60, abs=30)
    assert [gap["kind"] for gap in whole["gaps"][:2]] == ["hole", "live, late"]
    assert [gap["status"] for gap in whole["gaps"][:2]] == ["PENDING", "BLOCKED"]
    assert (
        "live, late, BLOCKED" in (await harvestd("gaps", url=database_url, settings=settings)).out
    )
    assert "zeta" not in one.out
    assert "hole: source time behind the newest data" in one.err
    assert "in all: 1 hole, 1 live gap" in one.err
    assert "only the biggest 1 are shown" in first.err
    assert "zeta" not in first.out


async def test_gaps_without_runs_and_of_a_paused_tenant_say_so(database_url: str) -> None:
    none = await harvestd("gaps", url=database_url)
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit", days=3)
    await query(database_url, "UPDATE tenant SET paused_at = now()")
    paused = await harvestd("gaps", url=database_url)

    assert "no gap" in none.err
    assert "snapshot's age, late, paused" in paused.out
    assert "its next run lists everything anew" in paused.err
    assert "why, and what to do: harvestd status acme" in paused.err


@pytest.mark.parametrize(
    ("seconds", "live", "interval", "catch_up", "kind"),
    [
        (69, True, None, True, "live, normal"),
        (71, True, None, True, "live, late"),
        (3600, True, timedelta(hours=1), True, "live, normal"),
        (3671, True, timedelta(hours=1), True, "live, late"),
        (10, False, None, True, "hole"),
        (71, True, None, False, "snapshot's age, late"),
        (9, True, None, False, "snapshot's age, normal"),
    ],
)
def test_a_live_gap_is_normal_up_to_interval_tick_and_visibility_lag(
    seconds: float, live: bool, interval: timedelta | None, catch_up: bool, kind: str
) -> None:
    name = ScriptName("git", "commit")
    script = Script(name, _nothing, "", interval=interval, catch_up=catch_up)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    gap = GapSeen("acme", "git", "commit", now, now, seconds, live, False, "COMPLETED", None)

    assert kind_of(gap, {name: script}, TICK) == kind
    assert kind_of(gap, {}, TICK) == ("live" if live else "hole")


async def _nothing(*_: object) -> None:
    """A script's run()."""
