"""What one replica must stand, seen from outside: rows, states, metrics."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from harvestd.observing.metrics import exposition
from tests.builders import a_tenant, query
from tests.daemons import GATED, PROBE, SIMPLE, cycle, in_hand, running_app, runs, write_plugins

FLAKY = """
    from pathlib import Path
    resources = ["thing"]
    async def run(env, db, tenant_id, start_date, end_date):
        if tenant_id == "acme" and Path(env["SWITCH"]).exists():
            raise ValueError("the upstream said something with secret-token-123")
"""
NEEDY = 'dependencies = ["thing"]\n' + SIMPLE


async def test_a_script_that_never_ran_runs_and_walks_its_ninety_days(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)

    events = await query(database_url, "SELECT from_at, to_at FROM probe.event ORDER BY from_at")
    assert len(events) >= 90
    assert all(earlier["to_at"] == later["from_at"] for earlier, later in pairwise(events))
    assert all(event["to_at"] - event["from_at"] <= timedelta(days=1) for event in events)
    run = (await runs(database_url))["acme/probe/main"]
    assert run["word"] == "COMPLETED"
    assert run["origin"] == events[0]["from_at"]
    assert run["last_fetched_data_date"] == events[-1]["to_at"]


async def test_the_next_cycle_continues_where_the_last_success_ended(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        await cycle(app)

    events = await query(database_url, "SELECT from_at, to_at FROM probe.event ORDER BY from_at")
    assert all(earlier["to_at"] == later["from_at"] for earlier, later in pairwise(events))


async def test_a_script_that_raises_takes_with_it_only_what_needs_it(
    database_url: str, tmp_path: Path
) -> None:
    switch = tmp_path / "broken"
    switch.touch()
    config = {"probe": {"SWITCH": str(switch), "TOKEN": "secret-token-123"}}
    await a_tenant(database_url, "acme", config)
    await a_tenant(database_url, "globex", config)
    plugins = {"probe/flaky.py": FLAKY, "probe/needy.py": NEEDY, "probe/free.py": SIMPLE}
    async with running_app(database_url, tmp_path, plugins) as app:
        await cycle(app)
        before = await runs(database_url)
        await app.gauges.measure()
        text = exposition()[0]
        switch.unlink()
        await cycle(app, forced=False)
        after = await runs(database_url)

    assert b'harvestd_runs_blocked{script="needy",source="probe"} 1.0' in text
    assert b'outcome="failed",script="flaky",source="probe"' in text
    assert before["acme/probe/flaky"]["word"] == "FAILED"
    assert before["acme/probe/flaky"]["failures"] >= 1
    assert "secret-token-123" not in before["acme/probe/flaky"]["error"]
    assert before["acme/probe/needy"]["word"] == "PENDING"
    assert before["acme/probe/needy"]["blocked_by"] == "probe/flaky"
    assert before["acme/probe/needy"]["covered"] == []
    for untouched in ("acme/probe/free", "globex/probe/flaky", "globex/probe/needy"):
        assert before[untouched]["word"] == "COMPLETED"
    # at the next tick it is tried again, and then what needs it runs
    assert after["acme/probe/flaky"]["word"] == "COMPLETED"
    assert after["acme/probe/flaky"]["failures"] == 0
    assert after["acme/probe/needy"]["word"] == "COMPLETED"
    assert after["acme/probe/needy"]["blocked_by"] is None


async def test_removing_a_tenants_configuration_stops_only_that_tenant(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        await query(database_url, "DELETE FROM tenant_data_source_config WHERE tenant_id = 'acme'")
        counted = "SELECT tenant_id, count(*) AS n FROM probe.event GROUP BY 1"
        before = {row["tenant_id"]: row["n"] for row in await query(database_url, counted)}
        await cycle(app)
        after = {row["tenant_id"]: row["n"] for row in await query(database_url, counted)}
        retired = await runs(database_url)
        await query(
            database_url,
            "INSERT INTO tenant_data_source_config (tenant_id, data_source, key, value) "
            "VALUES ('acme', 'probe', 'KEY', 'value')",
        )
        await cycle(app)
        back = await runs(database_url)

    assert after["acme"] == before["acme"]
    assert after["globex"] > before["globex"]
    assert retired["acme/probe/main"]["retired_at"] is not None
    assert retired["acme/probe/main"]["covered"] != []
    assert back["acme/probe/main"]["retired_at"] is None
    assert back["acme/probe/main"]["covered"][0].lower == retired["acme/probe/main"]["origin"]


async def test_nothing_that_a_script_raises_or_a_tenant_configures_ends_the_daemon(
    database_url: str, tmp_path: Path
) -> None:
    exits = "import sys\nasync def run(*_a):\n    sys.exit(3)\n"
    interrupts = "async def run(*_a):\n    raise KeyboardInterrupt\n"
    returns = "async def run(*_a):\n    return 5\n"
    hangs = """
    import asyncio
    from datetime import timedelta
    timeout = timedelta(milliseconds=50)
    async def run(env, db, tenant_id, start_date, end_date):
        await asyncio.Event().wait()
    """
    config = {
        "probe": {"KEY": "\N{SNOWMAN}\n$(reboot)"},
        "git": {"GIT_REPOSITORIES": "'unclosed ext::sh -c% touch% x"},
        "../../etc": {"PATH": "/nonexistent"},
        "no such source": {"": ""},
    }
    await a_tenant(database_url, "../../x'; DROP TABLE tenant; --", config)
    await a_tenant(database_url, "acme", PROBE)
    plugins = {
        "probe/exits.py": exits,
        "probe/interrupts.py": interrupts,
        "probe/returns.py": returns,
        "probe/hangs.py": hangs,
        "probe/fine.py": SIMPLE,
    }
    async with running_app(database_url, tmp_path, plugins) as app:
        await cycle(app)
        states = await runs(database_url)

    for script in ("exits", "interrupts", "returns", "hangs"):
        assert states[f"acme/probe/{script}"]["word"] == "FAILED", script
    assert states["acme/probe/fine"]["word"] == "COMPLETED"
    assert states["../../x'; DROP TABLE tenant; --/probe/fine"]["word"] == "COMPLETED"
    assert states["../../x'; DROP TABLE tenant; --/git/repository"]["word"] == "FAILED"
    outcomes = await query(database_url, "SELECT script, outcome FROM harvestd.run_history")
    assert ("hangs", "timed_out") in {(row["script"], row["outcome"]) for row in outcomes}


async def test_an_error_text_that_postgresql_cannot_store_costs_no_other_run_its_record(
    database_url: str, tmp_path: Path
) -> None:
    script = """
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        if tenant_id == "acme":
            raise ValueError("upstream said \\x00 and \\ud800")
    """
    for tenant_id in ("acme", "globex", "initech"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await cycle(app)
        states = await runs(database_url)
    assert states["acme/probe/main"]["word"] == "FAILED"
    assert {states[f"{t}/probe/main"]["word"] for t in ("globex", "initech")} == {"COMPLETED"}


async def test_an_edited_plugin_is_used_at_the_next_tick_and_a_broken_one_is_not(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        write_plugins(
            tmp_path / "plugins",
            {"probe/main.py": "def run(:", "probe/second.py": "async def run(*_a): pass"},
        )
        await cycle(app)
        states = await runs(database_url)
        problems = app.cycle.catalog.problems
        assert b"harvestd_plugin_problems 1.0" in exposition()[0]
    assert states["acme/probe/main"]["word"] == "COMPLETED"
    assert states["acme/probe/second"]["word"] == "COMPLETED"
    (problem,) = problems
    assert (problem.script, problem.line) == ("main", 1)


async def test_a_refused_schema_blocks_only_its_own_source(
    database_url: str, tmp_path: Path
) -> None:
    plugins = {
        "bad/schema.sql": "CREATE TABLE bad.t (id int PRIMARY KEY);",
        "bad/main.py": SIMPLE,
        "good/main.py": SIMPLE,
    }
    await a_tenant(database_url, "acme", {"bad": {"K": "v"}, "good": {"K": "v"}})
    async with running_app(database_url, tmp_path, plugins) as app:
        await cycle(app)
        states = await runs(database_url)
    assert states["acme/good/main"]["word"] == "COMPLETED"
    assert states["acme/bad/main"]["fence"] == 0


async def test_a_cycle_asked_for_during_a_cycle_or_a_run_begins_afterwards(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(tmp_path)}})
    async with running_app(database_url, tmp_path, {"probe/main.py": GATED}) as app:
        await in_hand(app)
        for _ in range(50):
            app.reload()  # while the run is in progress
        async with asyncio.timeout(10):
            await app.cycles.get()
        (before,) = (await runs(database_url)).values()
        (tmp_path / "main").touch()
        async with asyncio.timeout(10):
            await app.feeder.idle()
        await cycle(app, forced=False)
        (after,) = (await runs(database_url)).values()
    assert before["fence"] == 1
    assert after["fence"] >= 2
    assert after["word"] == "COMPLETED"
