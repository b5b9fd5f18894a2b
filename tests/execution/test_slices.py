"""An attempt whose slice is over goes behind those that wait, and on in the same cycle."""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path

from harvestd.catalog.discover import read_folder
from tests.builders import a_tenant, query
from tests.daemons import (
    GATED,
    PROBE,
    SIMPLE,
    cycle,
    in_hand,
    running_app,
    runs,
    write_plugins,
)
from tests.execution.turning import SNAPSHOT, attempts_of, one_cycle

LONG = (
    """
resources = ["thing"]
from datetime import timedelta
import_window_duration = timedelta(days=10)
"""
    + SIMPLE
)
NEEDY = 'dependencies = ["thing"]\ncatch_up = False\nasync def run(*_):\n    pass\n'
SLICE = {"slice_seconds": 0.000_001, "runs_max": 1}
ORDER = "SELECT tenant_id, script, from_at, to_at FROM probe.event ORDER BY ctid"


async def outcomes(url: str) -> list[str]:
    """How the attempts that were kept ended, in order."""
    rows = await query(url, "SELECT outcome FROM harvestd.run_history ORDER BY ended_at")
    return [row["outcome"] for row in rows]


async def test_two_tenants_with_one_slot_take_turns_and_both_end_in_one_cycle(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": LONG}, **SLICE) as app:
        await app.feeder.idle()
        states = await runs(database_url)

    events = await query(database_url, ORDER)
    in_a_row = [len(list(rows)) for _, rows in groupby(events, lambda row: row["tenant_id"])]
    assert {run["word"] for run in states.values()} == {"COMPLETED"}
    # How many are read in a row depends on how soon the other's end is recorded, and it waits.
    assert len(in_a_row) >= 3, "one had to wait for the whole of the other"
    assert "yielded" in await outcomes(database_url)
    for tenant_id in ("acme", "globex"):
        own = [event for event in events if event["tenant_id"] == tenant_id]
        assert all(earlier["to_at"] == later["from_at"] for earlier, later in pairwise(own))


async def test_nobody_yields_while_nobody_waits(database_url: str, tmp_path: Path) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": LONG}, **SLICE) as app:
        await app.feeder.idle()

    assert await outcomes(database_url) == ["completed"]


async def test_what_needs_a_run_that_yielded_waits_for_it_in_the_same_cycle(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    plugins = {"probe/main.py": LONG, "probe/needy.py": NEEDY}
    async with running_app(database_url, tmp_path, plugins, **SLICE) as app:
        await app.feeder.idle()
        states = await runs(database_url)

    assert "yielded" in await outcomes(database_url)
    assert {run["word"] for run in states.values()} == {"COMPLETED"}
    for tenant_id in ("acme", "globex"):
        needed, needy = (states[f"{tenant_id}/probe/{name}"] for name in ("main", "needy"))
        assert needed["completed_at"] <= needy["started_at"]
        assert needy["fence"] == 1


async def test_tenants_beyond_those_in_hand_get_their_turn_before_a_long_one_ends(
    database_url: str, tmp_path: Path
) -> None:
    tenants = [f"t{number}" for number in range(12)]  # eight of them are in hand at once
    for tenant_id in tenants:
        await a_tenant(database_url, tenant_id, PROBE)
    plugins = {"probe/main.py": LONG, "probe/needy.py": NEEDY}
    async with running_app(database_url, tmp_path, plugins, **SLICE) as app:
        await app.feeder.idle()
        states = await runs(database_url)

    events = await query(database_url, ORDER)
    ends = {tenant_id: 0 for tenant_id in tenants}
    begins: dict[str, int] = {}
    for number, event in enumerate(events):
        begins.setdefault(event["tenant_id"], number)
        ends[event["tenant_id"]] = number
    assert max(begins.values()) < min(ends.values())
    assert {run["word"] for run in states.values()} == {"COMPLETED"}
    assert {run["fence"] for key, run in states.items() if "needy" in key} == {1}


async def test_a_limit_of_a_data_source_holds_only_that_source(
    database_url: str, tmp_path: Path
) -> None:
    keys = {"GATES": str(tmp_path)}
    for tenant_id in ("acme", "globex", "initech"):
        await a_tenant(database_url, tenant_id, {"narrow": keys, "wide": keys})
    plugins = {"narrow/main.py": GATED, "wide/main.py": GATED}
    async with running_app(database_url, tmp_path, plugins, source_runs_max={"narrow": 1}) as app:
        await in_hand(app, 4)
        sources = sorted(hand.claim.key.source for hand in app.hands.by_run.values())
        (tmp_path / "main").touch()
        await cycle(app)
        states = await runs(database_url)

    assert sources == ["narrow", "wide", "wide", "wide"]
    assert {run["word"] for run in states.values()} == {"COMPLETED"}


async def test_tenants_that_wait_for_a_narrow_limit_hold_up_no_others(
    database_url: str, tmp_path: Path
) -> None:
    """However many they are; and all of them come, one after the other, in this one cycle."""
    waiting = [f"t{number:02}" for number in range(30)]  # sixteen tenants are in hand at once
    for tenant_id in waiting:
        await a_tenant(database_url, tenant_id, {"narrow": {"GATES": str(tmp_path)}})
    plugins = {"narrow/main.py": GATED, "wide/main.py": SNAPSHOT}
    limits = {"runs_max": 2, "source_runs_max": {"narrow": 1}}
    async with running_app(database_url, tmp_path, plugins, **limits) as app:
        await in_hand(app)
        await a_tenant(database_url, "late", {"wide": {"KEY": "value"}})
        await one_cycle(app)
        await attempts_of(database_url, "late/wide/main", 1)
        held_up = len(app.hands.by_run)
        (tmp_path / "main").touch()
        await app.feeder.idle()
        states = await runs(database_url)

    assert held_up == 1
    assert {run["word"] for run in states.values()} == {"COMPLETED"}


async def test_runs_whose_holders_died_hold_up_none_that_are_above_suspicion(
    database_url: str, tmp_path: Path
) -> None:
    plugins = {"narrow/main.py": GATED, "wide/main.py": SNAPSHOT}
    root = write_plugins(tmp_path / "plugins", plugins)
    narrow = read_folder("narrow", root / "narrow", root)
    assert narrow is not None
    suspects = [f"t{number:02}" for number in range(30)]
    for tenant_id in suspects:
        await a_tenant(database_url, tenant_id, {"narrow": {"GATES": str(tmp_path)}})
        await query(
            database_url,
            "INSERT INTO data_source_run"
            " (tenant_id, data_source, script, origin, deaths, plugin_hash, started_at)"
            " VALUES ($1, 'narrow', 'main', now() - interval '1 day', 1, $2, clock_timestamp())",
            tenant_id,
            narrow.content_hash,
        )
    async with running_app(database_url, tmp_path, plugins, runs_max=2) as app:
        await in_hand(app)
        await a_tenant(database_url, "late", {"wide": {"KEY": "value"}})
        await one_cycle(app)
        await attempts_of(database_url, "late/wide/main", 1)
        held_up = len(app.hands.by_run)
        (tmp_path / "main").touch()
        await app.feeder.idle()
        states = await runs(database_url)

    assert held_up == 1
    assert {run["deaths"] for run in states.values()} == {0}
