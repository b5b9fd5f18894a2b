"""A script that blocks the event loop: told by name, ended in time, and then held alone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest

from harvestd.execution.watchdog import ENDED_BY_WATCHDOG, LAST_WORDS, Watchdog
from harvestd.runs.heartbeat import HELD_AFTER_DEATHS
from tests.builders import a_tenant
from tests.daemons import SIMPLE, WITHIN, runs, write_plugins
from tests.processes import Daemon, harvestd_run, wait_until

BLOCKS = """
import asyncio, time
catch_up = False
async def run(env, *_):
    async def spin():
        while env["BLOCK"] == "yes":
            time.sleep(0.05)
    await asyncio.gather(spin())
"""


async def test_a_blocked_loop_is_told_with_its_task_and_place_and_ended_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    over = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        over.set()

    watchdog = Watchdog(tmp_path, end_after_seconds=0.75, end=end)
    watchdog.start()

    async def blocks() -> None:
        over.wait(WITHIN)

    await asyncio.create_task(blocks(), name="acme/probe/main")
    watchdog.stop()

    words = json.loads((tmp_path / LAST_WORDS).read_text())
    assert ended[0] == ENDED_BY_WATCHDOG
    assert words["task"] == "acme/probe/main"
    assert any("test_watchdog.py" in place and "blocks" in place for place in words["stack"])
    assert "loop_blocked" in capfd.readouterr().err


async def test_a_loop_that_turns_is_left_alone(tmp_path: Path) -> None:
    ended: list[int] = []
    watchdog = Watchdog(tmp_path, end_after_seconds=0.75, end=ended.append)
    watchdog.start()
    for _ in range(5):
        time.sleep(0.2)  # noqa: ASYNC251 - busy, and back before the time is over
        await asyncio.sleep(0.01)
    watchdog.stop()

    assert ended == []
    assert not (tmp_path / LAST_WORDS).exists()


@pytest.mark.slow
async def test_a_script_that_blocks_costs_three_restarts_and_then_only_itself(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"BLOCK": "yes"}})
    await a_tenant(database_url, "globex", {"probe": {"BLOCK": "no"}, "other": {"KEY": "v"}})
    settings = {
        "database_url": database_url,
        "data_dir": tmp_path / "data",
        "plugin_dirs": write_plugins(
            tmp_path / "plugins", {"probe/main.py": BLOCKS, "other/main.py": SIMPLE}
        ),
        "interval_seconds": 0.2,
    }

    async def held() -> bool:
        run = (await runs(database_url)).get("acme/probe/main")
        return run is not None and run["error"] == HELD_AFTER_DEATHS

    async def others_complete() -> bool:
        states = await runs(database_url)
        words = {run["word"] for key, run in states.items() if key.startswith("globex")}
        return words == {"COMPLETED"}

    starts, reported = 0, False
    while starts < 5:
        starts += 1
        async with harvestd_run(**settings) as daemon:

            async def over(daemon: Daemon = daemon) -> bool:
                return daemon.process.returncode is not None or await held()

            await wait_until(over, "the process to end, or the run to be held")
            reported = reported or any("last_words_found" in line for line in daemon.lines)
            if daemon.process.returncode is None:
                await wait_until(others_complete, "the runs of the other tenant")
                assert await daemon.stop() == 0
                break
            assert daemon.process.returncode == ENDED_BY_WATCHDOG
    states = await runs(database_url)

    assert starts <= 4
    assert reported
    assert states["acme/probe/main"]["word"] == "FAILED"
