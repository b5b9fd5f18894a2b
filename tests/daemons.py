"""A whole replica inside the test: real database, real files, real HTTP; only the clock's
interval is long, so that a cycle begins when the test says so."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harvestd.service.app import App
from harvestd.settings import load_settings
from tests.builders import query
from tests.processes import wait_until

WITHIN = 20.0
"""Seconds after which an event that a test waits for is missing."""

PROBE = {"probe": {"KEY": "value"}}
"""The configuration of a tenant for the data source of most tests."""

EVENT_TABLE = """
CREATE TABLE IF NOT EXISTS {source}.event (
    tenant_id text NOT NULL, script text NOT NULL, from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL);
"""
"""Append-only: a window that is handed out twice shows as two rows."""

SIMPLE = """
async def run(env, db, tenant_id, start_date, end_date):
    async with db.transaction() as connection:
        await connection.execute(
            "INSERT INTO event (script, from_at, to_at) VALUES ($1, $2, $3)",
            __name__.rpartition(".")[2], start_date, end_date)
        await db.checkpoint(end_date)
"""

GATED = """
import asyncio
from pathlib import Path
from typing import Any
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    while not Path(env["GATES"], __name__.rpartition(".")[2]).exists():
        await asyncio.sleep(0.01)
"""
"""In progress until a file with the script's name stands in the folder GATES."""


def write_plugins(folder: Path, files: Mapping[str, str]) -> Path:
    """Write ``source/file`` → text under ``folder``; each source gets the event table."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        schema = path.parent / "schema.sql"
        if not schema.exists() and "schema.sql" not in name:
            schema.write_text(EVENT_TABLE.format(source=path.parent.name), encoding="utf-8")
    return folder


@asynccontextmanager
async def running_app(
    url: str, tmp_path: Path, plugins: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[App]:
    """A replica after its first cycle; it is stopped, drained, when the block ends."""
    folder = write_plugins(tmp_path / "plugins", plugins or {})
    folder.mkdir(exist_ok=True)
    defaults: dict[str, object] = {
        "data_dir": tmp_path / "data",
        "plugin_dirs": (folder,),
        "http_address": "127.0.0.1:0",
        "interval_seconds": 3600.0,
        "allow_local_repositories": True,
        "drain_seconds": 5.0,
    }
    app = App(load_settings({}, **(defaults | settings)), url)
    ready = asyncio.Event()
    task = asyncio.create_task(app.run(on_ready=lambda _: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    try:
        async with asyncio.timeout(WITHIN):
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            await app.cycles.get()
        yield app
    finally:
        waiting.cancel()
        app.stop("the test is over")
        async with asyncio.timeout(WITHIN):
            await task


async def cycle(app: App, *, forced: bool = True) -> None:
    """One whole cycle, and every turn that follows from it."""
    async with asyncio.timeout(WITHIN):
        while not app.cycles.empty():
            app.cycles.get_nowait()
        app.wanted.ask("the test", forced=forced)
        await app.cycles.get()
        await app.feeder.idle()


async def in_hand(app: App, attempts: int = 1) -> None:
    """Wait until so many attempts are in progress."""

    async def taken() -> bool:
        return len(app.hands.by_run) == attempts

    await wait_until(taken, f"{attempts} attempts in progress")


async def runs(url: str) -> dict[str, dict[str, Any]]:
    """Every run row by tenant/source/script."""
    rows = await query(url, "SELECT *, status::text AS word FROM data_source_run")
    return {f"{r['tenant_id']}/{r['data_source']}/{r['script']}": r for r in rows}
