"""The standard suite passes what is right, and each kind of mistake fails in the test for it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harvestd.database import step
from harvestd.testing import Harvest, Ran, StandardSuite
from harvestd.testing.faults import killed, spread
from harvestd.testing.server import Server
from tests.testing.shops import a_shop

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC)

UPSERTS = """
    from datetime import timedelta

    async def run(env, db, tenant_id, start_date, end_date):
        await db.upsert("item", items(env, start_date, end_date), key=["id"])

    def items(env, start, end):
        first = int(start.timestamp()) // 3600
        for hour in range(first, int(end.timestamp()) // 3600):
            if hour % 6 == 0:
                yield {"id": hour, "name": env.get("NAME", "a name"), "at": None}
"""
APPENDS = """
    from datetime import UTC, datetime, timedelta

    async def run(env, db, tenant_id, start_date, end_date):
        hours = range(int(start_date.timestamp()) // 3600, int(end_date.timestamp()) // 3600)
        rows = [{"at": datetime.fromtimestamp(hour * 3600, UTC)} for hour in hours]
        await db.copy("event", rows, until=end_date)
"""
MARKS = """
    catch_up = False

    async def run(env, db, tenant_id, start_date, end_date):
        async with db.transaction():
            await db.upsert("item", [{"id": n, "name": "x"} for n in range(8)], key=["id"])
            await db.set_bookmark("loaded", True)
        await db.sweep("item", {}, range(8))
"""


class Suite(StandardSuite):
    """Of the script ``main``; not collected, its tests are called."""

    script = "main"
    start, end = START, END
    points_max = 5


def the_tests() -> list[str]:
    return [name for name, _ in inspect.getmembers(StandardSuite) if name.startswith("test_")]


async def call(
    test: str, harvest: Harvest, *, other_env: Mapping[str, str] | None = None, **attributes: Any
) -> None:
    suite = type("Suite", (Suite,), attributes)()
    environments = {"env": harvest.env, "other_env": other_env or harvest.env}
    method = getattr(suite, test)
    wanted = inspect.signature(method).parameters.keys() & environments.keys()
    await method(harvest, **{name: environments[name] for name in wanted})


@pytest.mark.parametrize("test", the_tests())
@pytest.mark.parametrize(
    ("text", "attributes"),
    [(UPSERTS, {}), (APPENDS, {}), (MARKS, {"start": None, "end": None})],
    ids=["upserts", "appends", "snapshot"],
)
async def test_what_is_right_passes(
    harvestd_server: Server, tmp_path: Path, test: str, text: str, attributes: dict[str, Any]
) -> None:
    shop = a_shop(harvestd_server, tmp_path, main=text)
    if test == "test_windows_in_any_order" and attributes:
        with pytest.raises(pytest.skip.Exception, match="no windows"):
            await call(test, shop, **attributes)
    else:
        await call(test, shop, **attributes)


FILLED = """
CREATE TABLE IF NOT EXISTS shop.item (
    tenant_id text NOT NULL,
    id        bigint NOT NULL,
    name      text DEFAULT '(none)',
    path      text GENERATED ALWAYS AS (tenant_id || '/' || id) STORED,
    loaded    timestamptz DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT item_pkey PRIMARY KEY (tenant_id, id)
);
"""
NAMES = """
    async def run(env, db, tenant_id, start_date, end_date):
        await db.upsert("item", [{"id": 1, "name": env["NAME"]}], key=["id"])
"""


async def test_what_the_database_fills_in_is_no_difference(
    harvestd_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.testing.shops.SCHEMA", FILLED)
    shop = a_shop(harvestd_server, tmp_path, {"NAME": "one"}, main=NAMES)
    await call("test_killed_at_each_write", shop)
    await call("test_tenants_side_by_side", shop)


async def test_a_column_with_a_constant_default_is_compared(
    harvestd_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.testing.shops.SCHEMA", FILLED)
    _, said, text = WRONG["one variable for all tenants"]
    shop = a_shop(harvestd_server, tmp_path, {"NAME": "one"}, main=text)
    with pytest.raises(pytest.fail.Exception, match=said):
        await call("test_tenants_side_by_side", shop, other_env={"NAME": "other"})


async def test_tenants_are_new_even_where_the_test_s_own_is_not(
    harvestd_server: Server, tmp_path: Path
) -> None:
    shop = a_shop(harvestd_server, tmp_path, main=UPSERTS)
    for test in ("test_killed_at_each_write", "test_cancelled_at_each_write"):
        await call(test, shop, points_max=1)


WRONG = {
    "a moment of its own": (
        "test_a_second_run_writes_nothing",
        "other rows than after an undisturbed run",
        """
        from datetime import UTC, datetime

        async def run(env, db, tenant_id, start_date, end_date):
            await db.upsert("item", [{"id": 1, "at": datetime.now(UTC)}], key=["id"])
        """,
    ),
    "rows written again as they were": (
        "test_a_second_run_writes_nothing",
        "wrote rows of item again",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            await db.upsert("item", [{"id": 1, "name": "x"}], key=["id"])
            async with db.transaction() as connection:
                await connection.execute("UPDATE shop.item SET name = 'x'")
        """,
    ),
    "noted as done before it is": (
        "test_killed_at_each_write",
        "killed at step 2 of .* [(]write[)].*\nitem: missing 1 of 1 rows",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            if not await db.bookmark("done"):
                await db.set_bookmark("done", True)
                await db.upsert("item", [{"id": 1}], key=["id"])
        """,
    ),
    "noted as done when it was cancelled": (
        "test_cancelled_at_each_write",
        "cancelled at step 1 of .* [(]write[)].*\nitem: missing",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            if await db.bookmark("done"):
                return
            try:
                await db.upsert("item", [{"id": 1}], key=["id"])
            finally:
                await db.set_bookmark("done", True)
        """,
    ),
    "errors swallowed": (
        "test_disconnected_at_each_write",
        "disconnected at step 1 of .* [(]write[)].*\nitem: missing",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            try:
                async with db.transaction():
                    await db.upsert("item", [{"id": start_date.day}], key=["id"])
            except Exception:
                pass
        """,
    ),
    "errors swallowed of a call alone": (
        "test_disconnected_at_each_write",
        "disconnected at step 1 of .* [(]write[)].*\nitem: missing",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            try:
                await db.upsert("item", [{"id": start_date.day}], key=["id"])
            except Exception:
                pass
        """,
    ),
    "rows appended apart from their progress": (
        "test_killed_at_each_write",
        "[(]record[)].*\nevent: too many 1 of 2 rows",
        """
        catch_up = False

        async def run(env, db, tenant_id, start_date, end_date):
            async with db.transaction() as connection:
                await connection.execute("INSERT INTO shop.event (at) VALUES ('2026-01-01Z')")
        """,
    ),
    "one variable for all tenants": (
        "test_tenants_side_by_side",
        "beside another tenant's run",
        """
        current = None

        async def run(env, db, tenant_id, start_date, end_date):
            global current
            current = env["NAME"]
            await db.upsert("item", [{"id": 1}], key=["id"])
            await db.upsert("item", [{"id": 1, "name": current}], key=["id"])
        """,
    ),
    "a variable that outlives the run": (
        "test_tenants_side_by_side",
        "item: 1 rows differ in name",
        """
        name = None

        async def run(env, db, tenant_id, start_date, end_date):
            global name
            name = name or env["NAME"]
            await db.upsert("item", [{"id": 1, "name": name}], key=["id"])
        """,
    ),
    "the window itself in a row": (
        "test_windows_in_any_order",
        "with its windows backwards",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            await db.upsert("item", [{"id": 1, "at": end_date}], key=["id"])
        """,
    ),
    "nothing at all": (
        "test_killed_at_each_write",
        "wrote nothing over .* so this test would prove nothing",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            pass
        """,
    ),
    "never done": (
        "test_cancelled_at_each_write",
        "a mistake of its own",
        """
        async def run(env, db, tenant_id, start_date, end_date):
            if await db.bookmark("begun"):
                raise ValueError("a mistake of its own")
            await db.set_bookmark("begun", True)
            await db.upsert("item", [{"id": 1}], key=["id"])
        """,
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
async def test_a_mistake_fails_in_the_test_for_it(
    harvestd_server: Server, tmp_path: Path, mistake: str
) -> None:
    test, said, text = WRONG[mistake]
    shop = a_shop(harvestd_server, tmp_path, {"NAME": "one"}, main=text)
    wanted = ValueError if mistake == "never done" else pytest.fail.Exception
    span: dict[str, Any] = {"start": None, "end": None} if "catch_up" in text else {}
    with pytest.raises(wanted, match=f"(?s){said}"):
        await call(test, shop, other_env={"NAME": "other"}, **span)


async def test_what_the_script_depends_on_is_run_before_it(
    harvestd_server: Server, tmp_path: Path
) -> None:
    needs = """
    dependencies = ["source/first"]

    async def run(env, db, tenant_id, start_date, end_date):
        rows = await db.fetch("SELECT id, name FROM item WHERE id >= 0")
        await db.upsert("item", [{"id": -row["id"], "name": "seen"} for row in rows], key=["id"])
    """
    shop = a_shop(
        harvestd_server,
        tmp_path,
        main=needs.replace("source/first", "shop/first"),
        first=UPSERTS,
    )
    await call("test_killed_at_each_write", shop)


async def test_of_a_snapshot_the_dates_are_for_what_it_depends_on(
    harvestd_server: Server, tmp_path: Path
) -> None:
    sweeps = """
    catch_up = False
    dependencies = ["first"]

    async def run(env, db, tenant_id, start_date, end_date):
        ids = [row["id"] for row in await db.fetch("SELECT id FROM item")]
        await db.sweep("item", {}, ids[1:])
    """
    shop = a_shop(harvestd_server, tmp_path, main=sweeps, first=UPSERTS)
    await call("test_killed_at_each_write", shop)


def test_faults_are_spread_over_a_long_run() -> None:
    assert spread(3, 12) == [1, 2, 3]
    assert spread(100, 5) == [1, 26, 51, 75, 100]
    assert spread(1, 5) == [1]
    assert spread(9, 1) == [1]


async def test_a_test_that_is_cancelled_leaves_nothing_behind(
    harvestd_server: Server, tmp_path: Path
) -> None:
    shop = a_shop(harvestd_server, tmp_path, main=UPSERTS)
    before = asyncio.all_tasks()
    async with shop.replica() as replica:
        arrived = asyncio.Event()

        async def attempt() -> Ran:
            await step.step("write")
            raise AssertionError("it stands still before that")

        async def stand(*_: object) -> None:
            arrived.set()
            await asyncio.Event().wait()

        # At its write the attempt stands still, and so does the test.
        replica.take_over = stand  # type: ignore[assignment]
        test = asyncio.create_task(killed(replica, shop.key("main"), attempt, 1))
        await asyncio.wait_for(arrived.wait(), 10)
        test.cancel()
        await asyncio.wait({test}, timeout=10)
    assert test.cancelled()
    assert asyncio.all_tasks() == before
    assert step.hook is None
