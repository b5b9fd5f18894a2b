"""Who waits for whom: within a tenant only for what it needs, among tenants for a fair share."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from harvestd.observing import metrics
from tests.builders import a_tenant, query
from tests.daemons import GATED, PROBE, SIMPLE, WITHIN, in_hand, running_app, runs
from tests.execution.turning import SNAPSHOT, attempts_of, gated, one_cycle
from tests.processes import wait_until

MANY_WINDOWS = (
    """
from datetime import timedelta
import_window_duration = timedelta(minutes=1)
"""
    + SIMPLE
)


async def test_a_script_that_takes_long_holds_up_none_but_those_that_need_it(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {
        "probe/long.py": 'resources = ["thing"]\n' + GATED,
        "probe/needy.py": 'dependencies = ["thing"]\n' + SNAPSHOT,
        "probe/short.py": SNAPSHOT,
    }
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)
        for attempts in (1, 2, 3):
            await attempts_of(database_url, "acme/probe/short", attempts)
            await one_cycle(app)
        states = await runs(database_url)
        assert states["acme/probe/long"]["word"] == "RUNNING"
        assert states["acme/probe/needy"]["fence"] == 0
        (tmp_path / "gates" / "long").touch()
        await attempts_of(database_url, "acme/probe/needy", 1)

        states = await runs(database_url)
        needed, needy = states["acme/probe/long"], states["acme/probe/needy"]
        assert needed["completed_at"] <= needy["started_at"]


async def test_what_is_blocked_is_told_while_another_script_takes_long(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {
        "probe/long.py": GATED,
        "probe/lost.py": 'dependencies = ["nothing"]\n' + SNAPSHOT,
    }
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)

        async def told() -> bool:
            return (await runs(database_url))["acme/probe/lost"]["blocked_by"] is not None

        await wait_until(told, "the reason is in the row")
        assert len(app.hands.by_run) == 1
        (tmp_path / "gates" / "long").touch()


async def test_a_cycle_ends_though_a_script_can_never_run(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = {
        "probe/lost.py": 'dependencies = ["nothing"]\n' + SNAPSHOT,
        "probe/short.py": SNAPSHOT,
    }
    async with running_app(database_url, tmp_path, plugins) as app:
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()

    states = await runs(database_url)
    assert states["acme/probe/short"]["word"] == "COMPLETED"
    assert "needs resource 'nothing'" in states["acme/probe/lost"]["blocked_by"]


async def test_what_joins_a_turn_keeps_to_the_tenants_limit(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {f"probe/{name}.py": GATED for name in ("one", "two", "three")}
    async with running_app(database_url, tmp_path, plugins, tenant_runs_max=2) as app:
        await in_hand(app, 2)
        for _ in range(3):
            await one_cycle(app)
        assert len(app.hands.by_run) == 2
        for name in ("one", "two", "three"):
            (tmp_path / "gates" / name).touch()
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()

    states = await runs(database_url)
    assert {state["word"] for state in states.values()} == {"COMPLETED"}


async def test_a_tenant_with_one_window_starts_beside_one_with_a_hundred_thousand(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "many", PROBE)
    settings = {"runs_max": 1, "slice_seconds": 0.05, "first_import_days": 90}
    plugins = {"probe/main.py": MANY_WINDOWS}
    async with running_app(database_url, tmp_path, plugins, **settings) as app:
        await in_hand(app)
        await a_tenant(database_url, "one", PROBE)
        await query(
            database_url,
            "INSERT INTO data_source_run (tenant_id, data_source, script, origin)"
            " VALUES ('one', 'probe', 'main', now() - interval '50 seconds')",
        )
        await one_cycle(app)
        await one_cycle(app)
        await attempts_of(database_url, "one/probe/main", 1)

        many = (await runs(database_url))["many/probe/main"]
        assert many["word"] != "COMPLETED"
        assert many["rows_written"] < 90 * 24 * 60
        app.stop("there is no need to wait for all of it")


async def test_with_every_slot_taken_by_slow_scripts_ticks_still_enrol_plan_and_report(
    database_url: str, tmp_path: Path
) -> None:
    slow = gated(tmp_path)
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, slow)
    plugins = {"probe/main.py": GATED}
    async with running_app(database_url, tmp_path, plugins, runs_max=2) as app:
        await in_hand(app, 2)
        await a_tenant(database_url, "late", slow)
        (tmp_path / "plugins" / "probe" / "broken.py").write_text("not Python", encoding="utf-8")
        await one_cycle(app)
        await one_cycle(app)

        late = (await runs(database_url))["late/probe/main"]
        assert (late["fence"], late["word"]) == (0, "PENDING")
        assert metrics.RUNS_DUE._value.get() >= 1
        assert [problem.script for problem in app.cycle.catalog.problems] == ["broken"]
        (told,) = await query(database_url, "SELECT plugin_problems FROM harvestd.replica")
        assert "broken" in told["plugin_problems"][0]
        assert len(app.hands.by_run) == 2
        (tmp_path / "gates" / "main").touch()
        await attempts_of(database_url, "late/probe/main", 1)


async def test_a_new_list_replaces_the_old_one_and_yielded_runs_come_last(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex", "initech"):
        await a_tenant(database_url, tenant_id, PROBE)
    long = MANY_WINDOWS.replace("minutes=1", "days=30")
    settings = {"runs_max": 1, "slice_seconds": 0.000_001}
    async with running_app(database_url, tmp_path, {"probe/main.py": long}, **settings) as app:
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()

    states = await runs(database_url)
    assert {state["word"] for state in states.values()} == {"COMPLETED"}
    assert timedelta(days=89) < min(
        state["covered"][0].upper - state["covered"][0].lower for state in states.values()
    )
