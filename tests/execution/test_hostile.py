"""Scripts that are hostile by accident: each is a failure of its own run, and the others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.daemons import GATED, PROBE, SIMPLE, WITHIN, cycle, in_hand, running_app, runs

MAIN = "acme/probe/main"

# It lets go once the file is there, so that nothing of it outlives the test.
SWALLOWS_FOR_EVER = """
import asyncio
from datetime import timedelta
from pathlib import Path
timeout = timedelta(seconds={seconds})
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    async with db.transaction() as connection:
        await connection.execute(
            "INSERT INTO event (script, from_at, to_at) VALUES ('x', now(), now())")
        while not Path(env["GATE"]).exists():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
"""


async def test_a_script_that_no_cancellation_ends_is_left_and_not_started_beside_itself(
    database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, {"probe": {"GATE": str(gate)}})
    plugins = {
        "probe/main.py": SWALLOWS_FOR_EVER.format(seconds=1),
        "other/main.py": SIMPLE,
    }
    await a_tenant(database_url, "initech", {"other": {"KEY": "value"}})
    async with running_app(database_url, tmp_path, plugins, runs_max=2, seats_max=2) as app:
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()
        first = await runs(database_url)
        await cycle(app)
        second = await runs(database_url)
        gate.touch()

        async def comes_through() -> None:
            while (await runs(database_url))[MAIN]["word"] != "COMPLETED":
                await cycle(app)

        async with asyncio.timeout(WITHIN):
            await comes_through()

    assert first["initech/other/main"]["word"] == "COMPLETED"
    assert (first[MAIN]["word"], first[MAIN]["reason"]) == ("FAILED", "script_timed_out")
    assert second[MAIN]["word"] == "FAILED"
    assert "an earlier attempt of this run goes on" in second[MAIN]["error"]
    assert len(await query(database_url, "SELECT FROM probe.event")) == 2  # those that came through


async def test_a_script_that_no_cancellation_ends_does_not_hold_the_drain(
    database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await a_tenant(database_url, "acme", {"probe": {"GATE": str(gate)}})
    plugins = {"probe/main.py": SWALLOWS_FOR_EVER.format(seconds=1000)}
    async with running_app(database_url, tmp_path, plugins, drain_seconds=0.1) as app:
        await in_hand(app)
    # The block ends when the drain has: within WITHIN seconds, or by an error.
    gate.touch()
    run = (await runs(database_url))[MAIN]

    assert (run["word"], run["replica_id"]) == ("PENDING", None)
    assert await query(database_url, "SELECT FROM probe.event") == []


LEAVES = {
    "a task": """
        import asyncio
        async def run(*_):
            asyncio.create_task(asyncio.Event().wait())
    """,
    "a thread": """
        import threading
        from pathlib import Path
        async def run(env, *_):
            def wait():
                while not Path(env["GATE"]).exists():
                    threading.Event().wait(0.01)
            threading.Thread(target=wait, name="mine").start()
    """,
}
SAID = {"a task": "run() left 1 task behind", "a thread": "run() left the thread mine behind"}


@pytest.mark.parametrize("what", LEAVES)
async def test_a_script_that_leaves_something_behind_has_failed(
    what: str, database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await a_tenant(database_url, "acme", {"probe": {"GATE": str(gate)}})
    plugins = {"probe/main.py": LEAVES[what], "probe/fine.py": SIMPLE}
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        states = await runs(database_url)
        gate.touch()

    assert states[MAIN]["word"] == "FAILED"
    assert SAID[what] in states[MAIN]["error"]
    assert states[MAIN]["covered"] == []
    assert states["acme/probe/fine"]["word"] == "COMPLETED"


TIDY = """
import asyncio, threading, time
catch_up = False
async def run(*_):
    # side by side, so that the loop's executor makes workers for this script, who stay
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(32)))
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    asyncio.create_task(asyncio.sleep(0.05))  # a library's, about to end
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(100)))
"""


CHILD = """
import threading, time
catch_up = False
async def run(*_):
    # as asyncio's own thread does when a child process has ended
    threading.Thread(target=time.sleep, args=(0.02,), name="asyncio-waitpid-0").start()
"""


async def test_what_ends_by_itself_is_not_left_behind(database_url: str, tmp_path: Path) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = {"probe/main.py": TIDY, "probe/child.py": CHILD}
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        ended = await runs(database_url)

    assert [(run["word"], run["error"]) for run in ended.values()] == [("COMPLETED", None)] * 2


TAKES_ALL_DOWN = {
    "probe/cancels.py": """
        import asyncio
        async def run(*_):
            asyncio.create_task(asyncio.Event().wait())
            tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    """,
    "probe/stops.py": """
        import asyncio
        async def run(*_):
            asyncio.get_running_loop().stop()
    """,
    "probe/makes.py": """
        import asyncio
        async def run(*_):
            asyncio.get_running_loop().set_task_factory(None)
    """,
}


async def test_a_script_that_ends_all_tasks_or_the_loop_reaches_only_what_is_its_own(
    database_url: str, tmp_path: Path
) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    await a_tenant(database_url, "acme", {"probe": {"KEY": "value"}})
    await a_tenant(database_url, "globex", {"other": {"GATES": str(gates)}})
    plugins = TAKES_ALL_DOWN | {"other/main.py": GATED}
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)
        (gates / "main").touch()
        await app.feeder.idle()
        await cycle(app)
        states = await runs(database_url)
        attempts = await query(database_url, "SELECT DISTINCT outcome FROM harvestd.run_history")

    assert states["globex/other/main"]["word"] == "COMPLETED"
    assert states["acme/probe/cancels"]["word"] == "COMPLETED"
    assert "called stop() of the event loop" in states["acme/probe/stops"]["error"]
    assert "called set_task_factory()" in states["acme/probe/makes"]["error"]
    assert {attempt["outcome"] for attempt in attempts} == {"completed", "failed"}
