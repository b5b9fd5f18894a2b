"""Signals, sent to a real process by the kernel."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_tenant, query
from tests.daemons import SIMPLE, write_plugins
from tests.processes import harvestd_run, wait_until

pytestmark = pytest.mark.slow

STUCK = """
import asyncio
from pathlib import Path
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    async with db.transaction() as connection:
        await connection.execute(
            "INSERT INTO event (script, from_at, to_at) VALUES ('stuck', $1, $2)",
            start_date, end_date)
        Path(env["STARTED"]).touch()
        await asyncio.Event().wait()
"""


async def the_run(url: str) -> dict[str, Any]:
    (row,) = await query(url, "SELECT *, status::text AS word FROM data_source_run")
    return row


async def stuck(url: str, tmp_path: Path) -> dict[str, object]:
    """Settings of a daemon with one script that never ends by itself."""
    plugins = write_plugins(tmp_path / "plugins", {"probe/stuck.py": STUCK})
    await a_tenant(url, "acme", {"probe": {"STARTED": str(tmp_path / "started")}})
    return {
        "database_url": url,
        "plugin_dirs": plugins,
        "data_dir": tmp_path / "data",
        "interval_seconds": 3600,
    }


async def started(tmp_path: Path) -> None:
    async def there() -> bool:
        return await asyncio.to_thread((tmp_path / "started").exists)

    await wait_until(there, "the script is in the middle of its transaction")


async def test_a_hundred_sighups_end_in_a_whole_forced_cycle_and_not_in_a_hundred(
    database_url: str, tmp_path: Path
) -> None:
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
    await a_tenant(database_url, "acme", {"probe": {"KEY": "value"}})
    async with harvestd_run(
        database_url=database_url,
        plugin_dirs=plugins,
        data_dir=tmp_path,
        interval_seconds=3600,
        log_level="debug",
    ) as daemon:
        await daemon.logged("run_finished")
        fence = (await the_run(database_url))["fence"]
        for _ in range(100):
            daemon.process.send_signal(signal.SIGHUP)
        await daemon.logged("run_finished", times=2)

        async def again() -> bool:
            return bool((await the_run(database_url))["fence"] > fence)

        await wait_until(again, "the run of the forced cycle")
        assert await daemon.stop() == 0
    cycles = [line for line in daemon.lines if '"cycle_finished"' in line]
    assert 2 <= len(cycles) <= 102
    assert any('"forced":true' in line for line in cycles)


async def test_sigterm_gives_an_attempt_its_grace_and_then_the_run_back(
    database_url: str, tmp_path: Path
) -> None:
    settings = await stuck(database_url, tmp_path)
    async with harvestd_run(**settings, drain_seconds=0.3) as daemon:
        await started(tmp_path)
        assert await daemon.stop() == 0
    row = await the_run(database_url)
    assert (row["word"], row["replica_id"], row["failures"]) == ("PENDING", None, 0)
    (attempt,) = await query(database_url, "SELECT outcome FROM harvestd.run_history")
    assert attempt["outcome"] == "cancelled"
    assert await query(database_url, "SELECT FROM probe.event") == []
    assert await query(database_url, "SELECT FROM harvestd.replica WHERE dead_at IS NULL") == []
    seats = await query(
        database_url, "SELECT FROM pg_stat_activity WHERE application_name LIKE 'harvestd:%'"
    )
    assert seats == []


async def test_a_second_sigterm_ends_at_once_whatever_the_grace(
    database_url: str, tmp_path: Path
) -> None:
    settings = await stuck(database_url, tmp_path)
    async with harvestd_run(**settings, drain_seconds=600) as daemon:
        await started(tmp_path)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.logged("daemon_stopping")
        assert await daemon.stop() == 0
    assert (await the_run(database_url))["word"] == "PENDING"


async def test_ctrl_c_ends_an_idle_daemon_with_exit_code_0(
    database_url: str, tmp_path: Path
) -> None:
    async with harvestd_run(database_url=database_url, data_dir=tmp_path) as daemon:
        await daemon.logged("daemon_ready")
        assert await daemon.stop(signal.SIGINT) == 0
    assert not any("Traceback" in line for line in daemon.lines)


async def test_a_removed_configuration_cancels_the_run_under_way_within_two_ticks(
    database_url: str, tmp_path: Path
) -> None:
    settings = await stuck(database_url, tmp_path) | {"interval_seconds": 0.5}
    async with harvestd_run(**settings) as daemon:
        await started(tmp_path)
        await query(database_url, "DELETE FROM tenant_data_source_config")
        await daemon.logged("run_lost")

        async def retired() -> bool:
            row = await the_run(database_url)
            return bool(row["retired_at"])

        await wait_until(retired, "the run is retired once its transaction is gone")
        assert await daemon.stop() == 0
    assert (await the_run(database_url))["word"] == "PENDING"
    assert await query(database_url, "SELECT FROM probe.event") == []
