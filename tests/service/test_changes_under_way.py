"""What is changed while a run is under way: it has its own end, and nothing else stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harvestd.service.acts import Acts
from harvestd.service.app import App
from tests.builders import a_tenant, query
from tests.daemons import GATED, in_hand, running_app, runs
from tests.processes import wait_until

BESIDE = "catch_up = False\nasync def run(*_):\n    pass\n"
MAIN = "acme/probe/main"


@asynccontextmanager
async def under_way(url: str, tmp_path: Path) -> AsyncIterator[App]:
    """A replica in whose hands is one run of acme; globex has only short ones."""
    (tmp_path / "gates").mkdir()
    await a_tenant(url, "acme", {"probe": {"GATES": str(tmp_path / "gates")}})
    await a_tenant(url, "globex", {"beside": {"KEY": "value"}})
    plugins = {"probe/main.py": GATED, "beside/short.py": BESIDE}
    quick = {"lease_seconds": 3.0, "interval_seconds": 0.2}
    async with running_app(url, tmp_path, plugins, **quick) as app:
        await main_in_hand(app)
        yield app
        # Nothing else stopped: the other tenant's run is done again and again.
        before = (await runs(url))["globex/beside/short"]["fence"]

        async def goes_on() -> bool:
            return bool((await runs(url))["globex/beside/short"]["fence"] > before + 1)

        await wait_until(goes_on, "the other tenant goes on")
        open_gate(tmp_path)
        assert not await query(
            url, "SELECT FROM data_source_run WHERE status = 'RUNNING' AND replica_id IS NULL"
        )


async def main_in_hand(app: App) -> None:
    """Wait until the gated run is under way."""

    async def there() -> bool:
        return any(str(hand.claim.key) == MAIN for hand in app.hands.by_run.values())

    await wait_until(there, "the run is in hand")


async def main_ended(url: str, app: App, **expected: Any) -> dict[str, Any]:
    """Wait until the run is in nobody's hand, and its row is as expected."""

    async def ended() -> bool:
        row = (await runs(url))[MAIN]
        at_ease = row["replica_id"] is None
        return at_ease and all(row[column] == value for column, value in expected.items())

    await wait_until(ended, f"the run is given up: {expected}")
    return (await runs(url))[MAIN]


def open_gate(tmp_path: Path) -> None:
    (tmp_path / "gates" / "main").touch()


async def test_a_deleted_configuration_ends_its_run_which_is_retired_and_keeps_its_ledger(
    database_url: str, tmp_path: Path
) -> None:
    async with under_way(database_url, tmp_path) as app:
        await query(database_url, "DELETE FROM tenant_data_source_config WHERE tenant_id = 'acme'")
        row = await main_ended(database_url, app, word="PENDING")
        assert row["retired_at"] is not None
        assert row["failures"] == 0


async def test_a_tenant_deleted_by_the_application_ends_its_runs_which_are_retired(
    database_url: str, tmp_path: Path
) -> None:
    async with under_way(database_url, tmp_path) as app:
        await query(database_url, "DELETE FROM tenant WHERE id = 'acme'")
        row = await main_ended(database_url, app, word="PENDING")
        assert row["retired_at"] is not None
        left = await query(
            database_url, "SELECT FROM tenant_data_source_config WHERE tenant_id = 'acme'"
        )
        assert not left


async def test_a_paused_tenants_run_is_given_up_and_goes_on_after_the_pause(
    database_url: str, tmp_path: Path
) -> None:
    async with under_way(database_url, tmp_path) as app:
        acts = Acts(app.database)
        await acts.pause("acme")
        row = await main_ended(database_url, app, word="PENDING")
        assert row["failures"] == 0
        fence = row["fence"]
        await acts.resume("acme")
        open_gate(tmp_path)
        row = await main_ended(database_url, app, word="COMPLETED")
        assert row["fence"] > fence


async def test_an_edited_plugin_is_used_by_the_next_attempt_and_not_by_the_one_under_way(
    database_url: str, tmp_path: Path
) -> None:
    script = tmp_path / "plugins" / "probe" / "main.py"
    async with under_way(database_url, tmp_path) as app:
        version = app.cycle.catalog.version
        script.write_text("async def run(*_):\n    raise ValueError('the new one')\n")

        async def reloaded() -> bool:
            return app.cycle.catalog.version != version

        await wait_until(reloaded, "the edit is seen")
        assert (await runs(database_url))[MAIN]["word"] == "RUNNING"
        open_gate(tmp_path)
        row = await main_ended(database_url, app, word="FAILED")
        assert "the new one" in row["error"]
    outcomes = await query(
        database_url,
        "SELECT outcome FROM harvestd.run_history WHERE tenant_id = 'acme' ORDER BY ended_at",
    )
    assert [row["outcome"] for row in outcomes][:2] == ["completed", "failed"]


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_removed_or_renamed_script_ends_its_attempt_and_then_says_why_it_stands(
    database_url: str, tmp_path: Path, renamed: bool
) -> None:
    script = tmp_path / "plugins" / "probe" / "main.py"
    async with under_way(database_url, tmp_path) as app:
        if renamed:
            script.rename(script.with_name("second.py"))
        else:
            script.unlink()

        async def gone() -> bool:
            return "main" not in app.cycle.catalog.sources["probe"].scripts

        await wait_until(gone, "the script is gone from the catalog")
        assert (await runs(database_url))[MAIN]["word"] == "RUNNING"
        open_gate(tmp_path)

        async def told() -> bool:
            row = (await runs(database_url))[MAIN]
            return row["word"] == "COMPLETED" and "no plugin folder" in (row["blocked_by"] or "")

        await wait_until(told, "the row says why it stands")
        others = set(await runs(database_url)) - {MAIN, "globex/beside/short"}
        assert others == ({"acme/probe/second"} if renamed else set())
        await in_hand(app, int(renamed))
        (tmp_path / "gates" / "second").touch()
