"""PostgreSQL stops and comes back: the daemon stays, says why, and goes on by itself."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harvestd.database import step as steps
from harvestd.service.app import App
from harvestd.settings import load_settings
from tests.builders import a_tenant, query
from tests.clusters import create_daemon_role, create_database, stopped_cluster, wanted_version
from tests.daemons import SIMPLE, running_app, write_plugins
from tests.processes import wait_until

pytestmark = pytest.mark.slow


async def readiness(app: App) -> tuple[int, dict[str, Any]]:
    """Status code and body of /readyz."""

    def ask() -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{app.address}/readyz", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(ask)


async def test_the_daemon_outlives_postgresql_and_runs_resume_by_themselves(
    tmp_path: Path,
) -> None:
    with stopped_cluster(wanted_version()) as (cluster, running), ExitStack() as server:
        server.enter_context(running())
        await create_daemon_role(cluster)
        url = cluster.url(await create_database(cluster))
        plugins = {"probe/main.py": SIMPLE}
        quick = {"lease_seconds": 3.0, "interval_seconds": 0.2}
        async with running_app(url, tmp_path, plugins, **quick) as app:
            await a_tenant(url, "acme", {"probe": {"KEY": "value"}})

            async def loaded() -> int:
                rows = await query(url, "SELECT count(*) AS n FROM probe.event")
                return int(rows[0]["n"])

            async def walked() -> bool:
                return await loaded() >= 90

            await wait_until(walked, "the first import")
            assert (await readiness(app))[0] == 200

            server.close()  # the server stops, fast

            async def unready() -> bool:
                status, said = await readiness(app)
                return status == 503 and "cannot be reached" in said["problems"].get("database", "")

            await wait_until(unready, "/readyz says that the database is away")

            server.enter_context(running())

            async def ready() -> bool:
                return (await readiness(app))[0] == 200

            await wait_until(ready, "/readyz after the server is back")
            before = await loaded()

            async def more() -> bool:
                return await loaded() > before

            await wait_until(more, "runs resume by themselves")
        rows = await query(url, "SELECT from_at, to_at FROM probe.event ORDER BY from_at")
    assert all(a["to_at"] == b["from_at"] for a, b in pairwise(rows))


async def test_a_daemon_that_starts_before_postgresql_waits_for_it(tmp_path: Path) -> None:
    with stopped_cluster(wanted_version()) as (cluster, running), ExitStack() as server:
        with running():
            await create_daemon_role(cluster)
            url = cluster.url(await create_database(cluster))
        plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
        settings = load_settings(
            {}, data_dir=tmp_path, plugin_dirs=(plugins,), http_address="127.0.0.1:0"
        )
        app = App(settings, url)
        task = asyncio.create_task(app.run())

        async def listening() -> bool:
            return app.address is not None

        await wait_until(listening, "the address")
        status, said = await readiness(app)
        assert status == 503
        assert "database" in said["problems"]
        server.enter_context(running())

        async def ready() -> bool:
            return (await readiness(app))[0] == 200

        await wait_until(ready, "/readyz")
        app.stop("the test is over")
        async with asyncio.timeout(20):
            await task


async def test_a_heartbeat_loop_that_stands_still_fails_the_liveness_probe(
    database_url: str, tmp_path: Path
) -> None:
    async def hook(name: str) -> None:
        if name == "heartbeat":
            await asyncio.Event().wait()

    async with running_app(database_url, tmp_path, lease_seconds=3.0) as app:
        alive = app.health.alive
        steps.hook = hook
        try:

            async def fails() -> bool:
                return not app.health.alive

            await wait_until(fails, "the sign of life to be too old")
        finally:
            steps.hook = None
    assert alive
