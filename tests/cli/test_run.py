"""`harvestd run` as a process: signals, addresses, --once; on both kinds of database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.cli.shell import WITHIN, Done, harvestd, shell, talking, terminal
from tests.clusters import open_folder
from tests.daemons import GATED, SIMPLE, write_plugins
from tests.processes import wait_until

FAILING = """
async def run(env, db, tenant_id, start_date, end_date):
    raise ValueError("broken")
"""
UNAUTHORISED = """
from harvestd.plugin import Unauthorised
async def run(env, db, tenant_id, start_date, end_date):
    raise Unauthorised("the token was refused")
"""
TAKES_LONG = """
import asyncio
catch_up = False
async def run(*_):
    await asyncio.sleep(0.5)
"""
LATER = """
from datetime import UTC, datetime, timedelta
from harvestd.plugin import Wait
async def run(env, db, tenant_id, start_date, end_date):
    raise Wait(datetime.now(UTC) + timedelta(hours=1), "rate limit")
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A data folder for the embedded server, made once for the tests of this module."""
    with open_folder() as folder:
        yield folder / "data"


def password_in(file: Path) -> str:
    return str(json.loads(file.read_text())["harvestd"])


def status_of(url: str) -> int:
    """The status of an HTTP answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.status)


async def once(url: str, tmp_path: Path, plugins: dict[str, str], *arguments: str) -> Done:
    """`harvestd run --once` for a tenant that has every plugin."""
    folder = write_plugins(tmp_path / "plugins", plugins)
    await a_tenant(url, "acme", {"probe": {"KEY": "canary-in-run-once"}})
    settings = {"DATA_DIR": str(tmp_path / "data"), "PLUGIN_DIRS": str(folder)}
    done = await harvestd("run", "--once", *arguments, url=url, settings=settings)
    assert "canary-in-run-once" not in done.out + done.err
    return done


async def test_once_covers_everything_and_ends_with_a_table(
    database_url: str, tmp_path: Path
) -> None:
    done = await once(database_url, tmp_path, {"probe/main.py": SIMPLE})
    events = await query(database_url, "SELECT count(*) AS n FROM probe.event")
    living = await query(database_url, "SELECT FROM harvestd.replica WHERE dead_at IS NULL")

    assert done.code == 0, done.err
    assert "probe/main" in done.out
    assert "COMPLETED" in done.out
    assert events[0]["n"] >= 90
    assert living == []


async def test_once_is_exit_code_one_when_somebody_has_to_look_at_a_run(
    database_url: str, tmp_path: Path
) -> None:
    plugins = {
        "probe/failing.py": FAILING,
        "probe/needy.py": 'dependencies = ["failing"]\n' + SIMPLE,
        "probe/refused.py": UNAUTHORISED,
        "probe/fine.py": SIMPLE,
    }
    done = await once(database_url, tmp_path, plugins, "--json")
    states = {run["script"]: (run["status"], run["blocked_by"]) for run in done.json}

    assert done.code == 1
    assert states == {
        "failing": ("FAILED", None),
        "fine": ("COMPLETED", None),
        "needy": ("BLOCKED", "probe/failing"),
        "refused": ("WAITING", None),
    }
    assert "acme probe/failing FAILED: ValueError: broken" in done.err
    assert "acme probe/needy BLOCKED: needs probe/failing" in done.err
    assert "acme probe/refused WAITING: the token was refused" in done.err
    assert "3 runs did not get through" in done.err


async def test_once_names_a_plugin_file_that_cannot_be_used(
    database_url: str, tmp_path: Path
) -> None:
    done = await once(database_url, tmp_path, {"probe/broken.py": "def run(:\n"})

    assert (done.code, done.out) == (1, "")
    assert "probe/broken.py:1: " in done.err
    assert "no tenant has a configuration" not in done.err


async def test_once_names_a_schema_that_is_refused(database_url: str, tmp_path: Path) -> None:
    plugins = {"probe/schema.sql": "CREATE TABL x ()", "probe/main.py": SIMPLE}
    done = await once(database_url, tmp_path, plugins, "--json")

    assert done.code == 1
    assert "harvestd: schema.sql of probe: " in done.err
    assert [run["status"] for run in done.json] == ["BLOCKED"]
    assert done.json[0]["blocked_by"].startswith("schema.sql of probe: ")


async def test_once_is_exit_code_zero_when_time_alone_mends_what_waits(
    database_url: str, tmp_path: Path
) -> None:
    done = await once(database_url, tmp_path, {"probe/main.py": LATER}, "--json")

    assert done.code == 0, done.err
    assert [(run["status"], run["reason"]) for run in done.json] == [("WAITING", "rate limit")]


async def test_once_goes_on_beside_a_daemon_that_has_the_port(
    database_url: str, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else may have the port, which serves as well
            other.bind(("127.0.0.1", 9464))
            other.listen()
        done = await once(database_url, tmp_path, {"probe/main.py": SIMPLE})
        asked = await harvestd(
            *("run", "--once"),
            url=database_url,
            settings={"HTTP_ADDRESS": "127.0.0.1:9464", "DATA_DIR": str(tmp_path)},
        )

    assert done.code == 0, done.err
    assert asked.code == 2
    assert "cannot listen on 127.0.0.1:9464" in asked.err


@pytest.mark.slow
async def test_run_owns_the_embedded_database_and_ctrl_c_ends_it_cleanly(home: Path) -> None:
    settings = {"DATA_DIR": str(home), "HTTP_ADDRESS": "127.0.0.1:0", "LOG_FORMAT": "json"}
    async with talking("run", settings=settings) as daemon:
        started = json.loads(await daemon.until("embedded_started"))
        beside = await harvestd("tenant", "add", "acme", settings=settings)
        second = await harvestd("run", settings=settings)
        status = await harvestd("status", "--json", settings=settings)
        password = password_in(Path(started["password_file"]))
        psql = await shell(f"PGPASSWORD='{password}' {started['psql']} -Atc 'SELECT 42'", home)
        daemon.send(signal.SIGINT)
        code = await daemon.ended()
    after = await harvestd("status", "--json", settings=settings)

    assert code == 0, daemon.said
    assert beside.code == 0
    assert second.code == 1
    assert f"process {daemon.process.pid} already owns" in second.err
    assert [one["pid"] for one in status.json["replicas"]] == [daemon.process.pid]
    assert (psql.code, psql.out) == (0, "42\n"), psql.err
    assert after.json["replicas"] == []
    assert not (home / "pgdata" / "postmaster.pid").exists()
    assert password not in daemon.said + status.out + second.err


@pytest.mark.slow
async def test_run_says_at_a_terminal_where_it_listens_and_how_to_connect(home: Path) -> None:
    settings = {"DATA_DIR": str(home), "HTTP_ADDRESS": "127.0.0.1:0"}
    with terminal("run", settings=settings) as screen:
        await screen.until("its password is")
        address = screen.said.partition("harvestd listens on ")[2].split()[0]
        alive = await asyncio.to_thread(status_of, f"{address}/livez")
        screen.type("\x03")
        code = await screen.ended()

    assert (alive, code) == (200, 0)
    assert "psql" in screen.said
    assert str(home / "postgresql.secrets") in screen.said


@pytest.mark.slow
async def test_a_hangup_starts_a_cycle_and_sigterm_ends_the_daemon(
    database_url: str, tmp_path: Path
) -> None:
    folder = write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
    settings = {
        "DATABASE_URL": database_url,
        "DATA_DIR": str(tmp_path / "data"),
        "PLUGIN_DIRS": str(folder),
        "HTTP_ADDRESS": "127.0.0.1:0",
        "INTERVAL_SECONDS": "3600",
    }
    async with talking("run", settings=settings) as daemon:
        await daemon.until("daemon_ready")
        await daemon.until("catalog_reloaded")
        await a_tenant(database_url, "acme", {"probe": {"KEY": "v"}})
        daemon.send(signal.SIGHUP)
        await daemon.until("run_finished")
        daemon.send(signal.SIGTERM)
        code = await daemon.ended()

    assert code == 0, daemon.said
    assert "embedded_started" not in daemon.said


@pytest.mark.slow
async def test_what_a_killed_daemon_held_goes_on_with_the_next_start(home: Path) -> None:
    plugins = write_plugins(home.parent / "plugins", {"probe/main.py": SIMPLE})
    hanging = "import asyncio\nasync def run(env, db, t, s, e):\n    await asyncio.sleep(600)\n"
    hang = write_plugins(home.parent / "hanging", {"probe/main.py": hanging})
    settings = {"DATA_DIR": str(home), "HTTP_ADDRESS": "127.0.0.1:0"}
    for arguments in (["tenant", "add", "initech"], ["config", "set", "initech", "probe", "KEY"]):
        await harvestd(*arguments, settings=settings, given="v")
    async with talking("run", settings=settings | {"PLUGIN_DIRS": str(hang)}) as daemon:
        await daemon.until("embedded_started")
        while True:
            seen = await harvestd("status", "initech", "--json", settings=settings)
            if any(run["held_by"] for run in seen.json["runs"]):
                break
        os.kill(daemon.process.pid, signal.SIGKILL)
        await daemon.process.wait()
    done = await harvestd(
        *("run", "--once", "--json"), settings=settings | {"PLUGIN_DIRS": str(plugins)}
    )

    assert done.code == 0, done.err
    assert [run["status"] for run in done.json if run["tenant_id"] == "initech"] == ["COMPLETED"]


async def test_once_ends_although_its_runs_take_longer_than_the_ticks(
    database_url: str, tmp_path: Path
) -> None:
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": TAKES_LONG})
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, {"probe": {"KEY": "value"}})
    settings = {
        "DATA_DIR": str(tmp_path / "data"),
        "PLUGIN_DIRS": str(plugins),
        "RUNS_MAX": "1",
        "INTERVAL_SECONDS": "0.2",
    }
    async with asyncio.timeout(WITHIN):
        done = await harvestd("run", "--once", "--json", url=database_url, settings=settings)
    rows = await query(database_url, "SELECT fence FROM data_source_run")

    assert [run["status"] for run in done.json] == ["COMPLETED", "COMPLETED"]
    assert [row["fence"] for row in rows] == [1, 1]


async def test_once_waits_for_a_run_that_somebody_took_from_it(
    database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gates" / "main"
    gate.parent.mkdir()
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": GATED})
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gate.parent)}})
    settings = {
        "DATA_DIR": str(tmp_path / "data"),
        "PLUGIN_DIRS": str(plugins),
        "LEASE_SECONDS": "3",
    }
    done = asyncio.create_task(
        harvestd("run", "--once", "--json", url=database_url, settings=settings)
    )

    async def at_work(fence: int) -> bool:
        rows = await query(
            database_url,
            "SELECT FROM data_source_run WHERE fence = $1 AND status = 'RUNNING'",
            fence,
        )
        return bool(rows)

    await wait_until(lambda: at_work(1), "the run is under way")
    await query(database_url, "UPDATE data_source_run SET fence = fence + 1")
    await wait_until(lambda: at_work(3), "it is under way again")
    gate.touch()

    assert [run["status"] for run in (await done).json] == ["COMPLETED"]
