"""What a test of a data source works with."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harvestd.errors import HarvestdError, MissingKey, SchemaRefused, WindowRefused
from harvestd.plugin import Wait
from harvestd.terms import Outcome
from harvestd.testing import Harvest
from harvestd.testing.server import Server
from tests.testing.shops import a_shop
from tests.testing.test_standard import APPENDS, END, START, UPSERTS

SNAPSHOT = """
    catch_up = False

    async def run(env, db, tenant_id, start_date, end_date):
        await db.upsert("item", [{"id": 1, "name": env["NAME"]}, {"id": 2}], key=["id"])
        await db.sweep("item", {}, [1], force=True)
"""


async def test_a_span_is_read_window_by_window(harvestd_server: Server, tmp_path: Path) -> None:
    shop = a_shop(harvestd_server, tmp_path, item=UPSERTS)
    ran = await shop.run("item", START, END)
    again = await shop.run("item", START, END)
    part = await shop.run("item", START, START + timedelta(hours=12))

    day = timedelta(days=1)
    assert [window.start for window in ran.windows] == [START, START + day, START + 2 * day]
    assert (ran.outcome, ran.rows, ran.windows[-1].end) == (Outcome.COMPLETED, 12, END)
    assert (again.rows, len(again.windows)) == (0, 3)
    assert [window.width for window in part.windows] == [timedelta(hours=12)]


async def test_without_a_span_it_is_one_window_up_to_now(
    harvestd_server: Server, tmp_path: Path
) -> None:
    shop = a_shop(harvestd_server, tmp_path, item=UPSERTS)
    (window,) = (await shop.run("item")).windows
    assert window.width == timedelta(days=1)
    assert timedelta(seconds=10) <= datetime.now(UTC) - window.end < timedelta(seconds=60)


async def test_rows_are_the_tenants_live_ones_by_key(
    harvestd_server: Server, tmp_path: Path
) -> None:
    shop = a_shop(harvestd_server, tmp_path, {"NAME": "one"}, all=SNAPSHOT, append=APPENDS)
    await shop.run("all")
    await shop.run("all", env={"NAME": "other"}, tenant_id="globex")
    await shop.run("append", START, START + timedelta(hours=2))

    assert await shop.rows("item") == [{"id": 1, "name": "one", "at": None}]
    assert (await shop.rows("item", tenant_id="globex"))[0]["name"] == "other"
    assert [row["at"] for row in await shop.rows("event")] == [START, START + timedelta(hours=1)]


async def test_what_a_script_raises_reaches_the_test(
    harvestd_server: Server, tmp_path: Path
) -> None:
    waits = """
    from datetime import UTC, datetime
    from harvestd.plugin import Wait

    async def run(env, db, tenant_id, start_date, end_date):
        raise Wait(datetime(2030, 1, 1, tzinfo=UTC), "later")
    """
    shop = a_shop(harvestd_server, tmp_path, waits=waits, all=SNAPSHOT)
    with pytest.raises(Wait, match="later"):
        await shop.run("waits")
    with pytest.raises(MissingKey, match="NAME"):
        await shop.run("all")


async def test_db_is_that_of_a_run_under_way(harvestd_server: Server, tmp_path: Path) -> None:
    shop = a_shop(harvestd_server, tmp_path, item=UPSERTS)
    async with shop.db(START, END) as db, shop.db(tenant_id="globex") as others:
        await db.upsert("item", [{"id": 1}], key=["id"])
        await db.checkpoint(START + timedelta(hours=1))
        with pytest.raises(WindowRefused):
            await db.checkpoint(END + timedelta(hours=1))
        assert await db.fetchval("SELECT count(*) FROM item") == 1
        assert await others.fetchval("SELECT count(*) FROM item") == 0
        assert len(await shop.rows("item")) == 1


async def test_scripts_of_several_tenants_run_side_by_side(
    harvestd_server: Server, tmp_path: Path
) -> None:
    shop = a_shop(harvestd_server, tmp_path, item=UPSERTS)
    runs = [shop.run("item", START, END, tenant_id=f"t{n}") for n in range(6)]
    assert {ran.rows for ran in await asyncio.gather(*runs)} == {12}


async def test_the_module_of_a_script_can_be_patched(
    harvestd_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = a_shop(harvestd_server, tmp_path, item=UPSERTS)
    monkeypatch.setattr(shop.module("item"), "items", lambda *_: [{"id": 7}])
    await shop.run("item")
    assert [row["id"] for row in await shop.rows("item")] == [7]


async def test_a_script_can_be_had_as_if_nothing_had_run_before(
    harvestd_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = """
    calls = 0

    async def run(env, db, tenant_id, start_date, end_date):
        global calls
        calls += 1
        await db.upsert("item", [{"id": calls}], key=["id"])
    """
    shop = a_shop(harvestd_server, tmp_path, counts=counts)
    await shop.run("counts")
    fresh = vars(sys.modules[shop.script("counts").run.__module__])
    assert fresh["calls"] == 1
    assert shop.fresh_script("counts").run.__globals__["calls"] == 0
    assert shop.module("counts").calls == 1
    assert shop.fresh_script("counts") is shop.script("counts")  # its module may be patched now


async def test_mistakes_of_the_test_are_told(harvestd_server: Server, tmp_path: Path) -> None:
    shop = a_shop(harvestd_server, tmp_path, item=UPSERTS, all=SNAPSHOT, broken="def")
    with pytest.raises(HarvestdError, match="no script 'itme'"):
        await shop.run("itme")
    with pytest.raises(HarvestdError, match=r"broken\.py:1"):
        await shop.run("broken")
    with pytest.raises(ValueError, match="snapshot"):
        await shop.run("all", START)
    with pytest.raises(HarvestdError, match="no mapping of text to text"):
        await shop.run("item", env={"PORT": 8080})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="future"):
        await shop.run("item", START, datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(HarvestdError, match="no data source"):
        Harvest(tmp_path, harvestd_server, tenant_id="acme", env={}, cache_root=tmp_path)


def test_a_schema_that_is_refused_says_so(
    harvestd_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.testing.shops.SCHEMA", "CREATE TABLE shop.item (id bigint);")
    with pytest.raises(SchemaRefused, match="tenant_id"):
        a_shop(harvestd_server, tmp_path, item=UPSERTS)


async def test_a_time_limit_of_the_test_holds(harvestd_server: Server, tmp_path: Path) -> None:
    hangs = """
    import asyncio

    async def run(env, db, tenant_id, start_date, end_date):
        await db.upsert("item", [{"id": 1}], key=["id"])
        await asyncio.sleep(60)
    """
    shop = a_shop(harvestd_server, tmp_path, hangs=hangs)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await shop.run("hangs")


async def test_what_is_allowed_later_is_allowed(harvestd_server: Server, tmp_path: Path) -> None:
    asks = """
    from harvestd.plugin import allowed

    async def run(env, db, tenant_id, start_date, end_date):
        assert allowed("local_repositories")
    """
    shop = a_shop(harvestd_server, tmp_path, asks=asks)
    async with shop.db():  # as by the fixture db, which comes before the test
        shop.allowed.add("local_repositories")
        await shop.run("asks")
