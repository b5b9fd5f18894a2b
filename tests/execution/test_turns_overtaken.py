"""What changes while a tenant's turn is listed or under way: the turn goes on from what is true."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harvestd.database import step as steps
from harvestd.execution.feeder import Feeder
from harvestd.service.acts import Acts
from tests.builders import a_tenant, query
from tests.daemons import GATED, WITHIN, in_hand, running_app, runs, write_plugins
from tests.execution.turning import SNAPSHOT, attempts_of, gated, one_cycle
from tests.processes import wait_until


async def test_a_tenant_whose_runs_were_retired_while_it_was_listed_ends_nobody(
    database_url: str, tmp_path: Path
) -> None:
    config = gated(tmp_path)
    for tenant_id in [f"t{number}" for number in range(12)]:  # eight are in hand at once
        await a_tenant(database_url, tenant_id, config)
    async with running_app(database_url, tmp_path, {"probe/main.py": GATED}, runs_max=1) as app:
        await in_hand(app)
        await query(
            database_url,
            "UPDATE data_source_run SET retired_at = now() WHERE replica_id IS NULL",
        )
        (tmp_path / "gates" / "main").touch()
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()
        await a_tenant(database_url, "late", config)
        await one_cycle(app)
        await attempts_of(database_url, "late/probe/main", 1)


async def test_a_new_configuration_waits_for_no_attempt_that_goes_on_with_the_old_one(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {"probe/long.py": GATED, "probe/short.py": SNAPSHOT}
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)
        await attempts_of(database_url, "acme/probe/short", 1)
        await Acts(app.database).set_config("acme", "probe", "MORE", "x")
        for attempts in (2, 3):
            await one_cycle(app)
            await attempts_of(database_url, "acme/probe/short", attempts)
        states = await runs(database_url)
        (tmp_path / "gates" / "long").touch()
        await attempts_of(database_url, "acme/probe/long", 1)

    assert states["acme/probe/long"]["word"] == "RUNNING"


async def test_an_edited_plugin_and_a_new_script_start_beside_an_attempt_of_the_old_one(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {"probe/long.py": GATED, "probe/short.py": SNAPSHOT}
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)
        await attempts_of(database_url, "acme/probe/short", 1)
        write_plugins(tmp_path / "plugins", {"probe/third.py": SNAPSHOT})
        await one_cycle(app)
        await attempts_of(database_url, "acme/probe/third", 1)
        states = await runs(database_url)
        (tmp_path / "gates" / "long").touch()

    assert states["acme/probe/long"]["word"] == "RUNNING"


async def test_what_needs_a_run_that_another_took_since_it_was_listed_is_not_blocked(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "x"}})
    plugins = {
        "probe/needed.py": 'resources = ["thing"]\n' + SNAPSHOT,
        "probe/needy.py": 'dependencies = ["thing"]\n' + SNAPSHOT,
    }
    claims = 0

    async def another_was_first(name: str) -> None:
        nonlocal claims
        claims += name == "claim"
        if name == "claim" and claims == 1:
            await query(
                database_url, "UPDATE data_source_run SET fence = 1 WHERE script = 'needed'"
            )

    monkeypatch.setattr(steps, "hook", another_was_first)
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        states = await runs(database_url)
        await one_cycle(app)
        await attempts_of(database_url, "acme/probe/needy", 1)

    assert states["acme/probe/needy"]["fence"] == 0
    assert states["acme/probe/needy"]["blocked_by"] is None


async def test_a_long_backfill_goes_on_with_a_new_configuration_after_its_slice(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"WHICH": "old"}})
    told = tmp_path / "told"
    script = f"""
import asyncio
from datetime import timedelta
from pathlib import Path
import_window_duration = timedelta(seconds=1)
async def run(env, *_):
    Path({str(told)!r}).write_text(env["WHICH"])
    await asyncio.sleep(0.001)
"""
    settings = {"slice_seconds": 0.05}
    async with running_app(database_url, tmp_path, {"probe/main.py": script}, **settings) as app:
        await in_hand(app)
        await Acts(app.database).set_config("acme", "probe", "WHICH", "new")
        await one_cycle(app)

        async def with_the_new_one() -> bool:
            return told.read_text() == "new"

        await wait_until(with_the_new_one, "run() is handed the new value", within=5.0)
        app.stop("there is no need to wait for all of it")


async def test_what_joins_a_turn_is_judged_by_what_its_needs_are_now(
    database_url: str, tmp_path: Path
) -> None:
    """Mended beside the turn, or broken: not as they were when the turn began."""
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {
        "probe/long.py": GATED,
        "probe/needed.py": 'resources = ["thing"]\n' + SNAPSHOT,
        "probe/needy.py": 'dependencies = ["thing"]\n' + SNAPSHOT,
    }
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)
        await attempts_of(database_url, "acme/probe/needy", 1)
        await query(
            database_url,
            "UPDATE data_source_run SET status = 'FAILED', due_at = now() + interval '1 hour'"
            " WHERE script = 'needed'",
        )
        await one_cycle(app)

        async def blocked() -> bool:
            return (await runs(database_url))["acme/probe/needy"]["blocked_by"] is not None

        await wait_until(blocked, "what needs the broken one waits")
        await Acts(app.database).trigger("acme", "probe", "needed")
        await one_cycle(app)
        await attempts_of(database_url, "acme/probe/needy", 2)
        (tmp_path / "gates" / "long").touch()


async def test_what_another_completed_since_holds_nothing_up_once_more_is_due(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {
        "probe/long.py": GATED,
        "probe/needed.py": 'resources = ["thing"]\n' + SNAPSHOT,
        "probe/needy.py": 'dependencies = ["thing"]\n' + SNAPSHOT,
    }
    first = asyncio.Lock()
    done = False

    async def another_was_first(name: str) -> None:
        nonlocal done
        async with first:
            if name != "claim" or done:
                return
            done = True
            await query(
                database_url,
                "UPDATE data_source_run SET fence = 1, status = 'COMPLETED', completed_at = now(),"
                " due_at = now() + interval '1 hour' WHERE script = 'needed'",
            )

    monkeypatch.setattr(steps, "hook", another_was_first)
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app)
        await one_cycle(app)
        await attempts_of(database_url, "acme/probe/needy", 1)
        states = await runs(database_url)
        (tmp_path / "gates" / "long").touch()

    assert states["acme/probe/long"]["word"] == "RUNNING"


async def test_an_attempt_of_a_run_that_was_retired_meanwhile_ends_no_other(
    database_url: str, tmp_path: Path
) -> None:
    config = gated(tmp_path)
    await a_tenant(database_url, "acme", config | {"other": config["probe"]})
    windows = "from datetime import timedelta\nimport_window_duration = timedelta(hours=1)\n"
    plugins = {
        "other/main.py": windows + GATED.replace("catch_up = False", ""),
        "probe/long.py": GATED,
        "probe/short.py": SNAPSHOT,
    }
    async with running_app(database_url, tmp_path, plugins, slice_seconds=0.01) as app:
        await in_hand(app, 2)
        await attempts_of(database_url, "acme/probe/short", 1)
        await query(
            database_url, "DELETE FROM tenant_data_source_config WHERE data_source = 'other'"
        )
        await one_cycle(app)
        await attempts_of(database_url, "acme/probe/short", 2)
        (tmp_path / "gates" / "main").touch()
        await in_hand(app, 1)
        await one_cycle(app)
        await attempts_of(database_url, "acme/probe/short", 3)
        (tmp_path / "gates" / "long").touch()
        await attempts_of(database_url, "acme/probe/long", 1)
        states = await runs(database_url)

    assert states["acme/probe/long"]["fence"] == 1


async def test_what_ended_while_a_page_was_read_counts_as_it_ended(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_tenant(database_url, "acme", gated(tmp_path))
    plugins = {
        "probe/one.py": 'resources = ["first"]\n' + GATED,
        "probe/two.py": 'resources = ["second"]\n' + GATED,
        "probe/needy.py": 'dependencies = ["first", "second"]\n' + SNAPSHOT,
        "probe/short.py": SNAPSHOT,
    }
    read_turns, was_read, late = Feeder._read_turns, asyncio.Event(), asyncio.Event()

    async def read_late(*asked: Any) -> Any:
        found = await read_turns(*asked)
        was_read.set()
        await late.wait()
        return found

    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app, 2)
        await attempts_of(database_url, "acme/probe/short", 1)
        monkeypatch.setattr(Feeder, "_read_turns", read_late)
        await one_cycle(app)
        await was_read.wait()
        (tmp_path / "gates" / "one").touch()
        await attempts_of(database_url, "acme/probe/one", 1)
        await in_hand(app, 1)
        late.set()
        await attempts_of(database_url, "acme/probe/short", 2)
        (tmp_path / "gates" / "two").touch()
        await attempts_of(database_url, "acme/probe/needy", 1)
