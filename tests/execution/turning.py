"""What the tests of turns build with."""

from __future__ import annotations

import asyncio
from pathlib import Path

from harvestd.service.app import App
from tests.daemons import WITHIN, runs
from tests.processes import wait_until

SNAPSHOT = "catch_up = False\nasync def run(*_):\n    pass\n"


def gated(tmp_path: Path) -> dict[str, dict[str, str]]:
    """A configuration with a folder for gates."""
    (tmp_path / "gates").mkdir()
    return {"probe": {"GATES": str(tmp_path / "gates")}}


async def one_cycle(app: App) -> None:
    """A tick: until its due list was handed over, not until what follows from it has ended."""
    while not app.cycles.empty():
        app.cycles.get_nowait()
    app.wanted.ask("the test", forced=False)
    async with asyncio.timeout(WITHIN):
        await app.cycles.get()


async def attempts_of(url: str, run: str, at_least: int) -> None:
    """Wait until a run was completed so often."""

    async def done() -> bool:
        state = (await runs(url))[run]
        return bool(state["word"] == "COMPLETED" and state["fence"] >= at_least)

    await wait_until(done, f"{run} was completed {at_least} times")
