"""The process ends when it is told to, whatever a script left in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.cli.shell import WITHIN, harvestd
from tests.daemons import write_plugins
from tests.processes import harvestd_run

pytestmark = pytest.mark.slow

NEVER_ENDS = {
    "a task": """
        import asyncio
        from datetime import timedelta
        timeout = timedelta(seconds=0.1)
        async def run(*_):
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
    """,
    "a thread of the loop's": """
        import asyncio
        import threading
        from datetime import timedelta
        timeout = timedelta(seconds=0.1)
        async def run(*_):
            await asyncio.to_thread(threading.Event().wait)
    """,
    "a thread": """
        import threading
        async def run(*_):
            threading.Thread(target=threading.Event().wait).start()
    """,
}


@pytest.mark.parametrize("what", NEVER_ENDS)
async def test_a_daemon_ends_although_something_of_a_script_does_not(
    what: str, database_url: str, tmp_path: Path
) -> None:
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": NEVER_ENDS[what]})
    await a_tenant(database_url, "acme", {"probe": {"KEY": "value"}})
    settings = {"database_url": database_url, "plugin_dirs": plugins, "data_dir": tmp_path}
    async with harvestd_run(**settings, interval_seconds=3600) as daemon:
        await daemon.logged("run_finished")
        assert await daemon.stop() == 0

    assert any('"daemon_stopped"' in line for line in daemon.lines)
    assert await query(database_url, "SELECT FROM harvestd.replica WHERE dead_at IS NULL") == []


async def test_run_once_keeps_its_answer_and_exit_code_beside_such_a_script(
    database_url: str, tmp_path: Path
) -> None:
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": NEVER_ENDS["a thread"]})
    await a_tenant(database_url, "acme", {"probe": {"KEY": "value"}})
    settings = {"DATA_DIR": str(tmp_path / "data"), "PLUGIN_DIRS": str(plugins)}
    async with asyncio.timeout(WITHIN):
        done = await harvestd("run", "--once", "--json", url=database_url, settings=settings)

    assert done.code == 1
    assert [run["status"] for run in done.json] == ["FAILED"]
