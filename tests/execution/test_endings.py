"""However a script ends, its run says so, nothing false is covered, and the others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harvestd.terms import Outcome
from tests.builders import a_tenant, query
from tests.daemons import PROBE, SIMPLE, WITHIN, cycle, in_hand, running_app, runs, write_plugins
from tests.processes import harvestd_run

MAIN = "acme/probe/main"

ODD = {
    "unauthorised": """
        from harvestd.plugin import Unauthorised
        async def run(*_):
            raise Unauthorised(ValueError("401 \\x00 \\ud800"))
    """,
    "for_ever": """
        from datetime import UTC, datetime
        from harvestd.plugin import Wait
        async def run(*_):
            raise Wait(datetime.max.replace(tzinfo=UTC), 429)
    """,
    "beyond_utc": """
        from datetime import datetime, timedelta, timezone
        from harvestd.plugin import Wait
        async def run(*_):
            raise Wait(datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "later")
    """,
    "property": """
        class Odd(Exception):
            @property
            def sqlstate(self):
                raise LookupError
        async def run(*_):
            raise Odd
    """,
    "text": """
        class Odd(Exception):
            def __str__(self):
                raise LookupError
        async def run(*_):
            raise Odd
    """,
    "exits": """
        class Odd(Exception):
            def __str__(self):
                raise SystemExit
        async def run(*_):
            raise Odd
    """,
    "cancelled": """
        import asyncio
        async def run(*_):
            raise asyncio.CancelledError
    """,
}
"""What may be raised so that telling of it goes wrong too."""


async def test_an_exception_that_cannot_be_told_ends_its_own_run_truthfully(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = {f"probe/{name}.py": text for name, text in ODD.items()}
    async with running_app(database_url, tmp_path, plugins | {"probe/fine.py": SIMPLE}) as app:
        await app.feeder.idle()
        states = await runs(database_url)

    ended = {
        run["script"]: (run["word"], run["reason"], run["failures"]) for run in states.values()
    }
    word, reason, failures = ended.pop("unauthorised")
    assert (word, failures) == ("WAITING", 0)
    assert reason.startswith("401 ")
    assert ended == {
        "for_ever": ("WAITING", "429", 0),
        "beyond_utc": ("FAILED", "OverflowError", 1),
        "property": ("FAILED", "Odd", 1),
        "text": ("FAILED", "Odd", 1),
        "exits": ("FAILED", "Odd", 1),
        "cancelled": ("FAILED", "script_failed", 1),
        "fine": ("COMPLETED", None, 0),
    }


SWALLOWS = """
import asyncio
from datetime import timedelta
timeout = timedelta(seconds={seconds})
import_window_duration = timedelta(days=400)
async def run(env, db, tenant_id, start_date, end_date):
    try:
        await asyncio.Event().wait()
    except BaseException:
        {then}
"""


@pytest.mark.parametrize("then", ["return", "raise ValueError"])
async def test_a_time_limit_that_run_swallows_covers_nothing(
    then: str, database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    script = SWALLOWS.format(seconds=0.1, then=then)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await app.feeder.idle()
        run = (await runs(database_url))[MAIN]

    assert (run["word"], run["reason"], run["covered"]) == ("FAILED", "script_timed_out", [])


@pytest.mark.parametrize("then", ["return", "raise ValueError"])
async def test_a_cancellation_that_run_swallows_covers_nothing_and_is_no_failure(
    then: str, database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    script = SWALLOWS.format(seconds=100, then=then)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await in_hand(app)
        app.hands.cancel(Outcome.CANCELLED)
        await app.feeder.idle()
        run = (await runs(database_url))[MAIN]

    assert (run["word"], run["failures"], run["covered"]) == ("PENDING", 0, [])


EXITS = """
import asyncio, sys
catch_up = False
async def one():
    sys.exit(3)
async def run(*_):
    await asyncio.gather(one(), one())
"""


@pytest.mark.slow
async def test_sys_exit_in_a_task_of_a_script_does_not_end_the_daemon(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": EXITS})
    async with harvestd_run(
        database_url=database_url, data_dir=tmp_path / "data", plugin_dirs=plugins
    ) as daemon:
        await daemon.logged('"outcome":"failed"')
        assert await daemon.stop() == 0

    assert (await runs(database_url))[MAIN]["reason"] == "script_failed"


EXITS_IN_A_CALLBACK = """
import asyncio, sys
catch_up = False
async def run(*_):
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_soon(sys.exit, 3)
    loop.call_later(0.01, sys.exit)
    later.add_done_callback(sys.exit)
    loop.call_later(0.02, later.set_result, None)
    await later  # its other callback, which was there first, has run by then
"""


@pytest.mark.slow
async def test_sys_exit_in_a_callback_of_a_script_does_not_end_the_daemon(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": EXITS_IN_A_CALLBACK})
    async with harvestd_run(
        database_url=database_url, data_dir=tmp_path / "data", plugin_dirs=plugins
    ) as daemon:
        await daemon.logged('"outcome":"completed"')
        assert await daemon.stop() == 0

    assert sum('"script_exit_ignored"' in line for line in daemon.lines) == 3
    assert (await runs(database_url))[MAIN]["word"] == "COMPLETED"


THING = """
CREATE TABLE IF NOT EXISTS probe.thing (
    tenant_id text NOT NULL, id bigint NOT NULL, PRIMARY KEY (tenant_id, id));
"""
ROLLS_BACK = """
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    await db.upsert("thing", [{"id": n} for n in range(2)], key=["id"])
    try:
        async with db.transaction():
            await db.upsert("thing", [{"id": n} for n in range(9)], key=["id"])
            raise LookupError
    except LookupError:
        pass
"""


async def test_rows_of_a_transaction_that_was_rolled_back_are_not_counted(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = {"probe/schema.sql": THING, "probe/main.py": ROLLS_BACK}
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        run = (await runs(database_url))[MAIN]

    assert (run["word"], run["rows_written"]) == ("COMPLETED", 2)
    assert len(await query(database_url, "SELECT FROM probe.thing")) == 2


COMMIT_FAILS = """
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    try:
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO thing (id) VALUES (1), (1)")
    except Exception:
        await db.fetch("SELECT FROM thing")
    else:
        raise LookupError("it was committed")
"""


async def test_after_a_commit_that_failed_the_sources_tables_are_still_found(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    deferred = THING.replace("(tenant_id, id))", "(tenant_id, id) DEFERRABLE INITIALLY DEFERRED)")
    plugins = {"probe/schema.sql": deferred, "probe/main.py": COMMIT_FAILS}
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        run = (await runs(database_url))[MAIN]

    assert run["word"] == "COMPLETED", run["error"]


BUSY = """
import asyncio
from datetime import timedelta
catch_up = False
timeout = timedelta(seconds=0.2)
kept = []
async def run(env, db, tenant_id, start_date, end_date):
    async with db.transaction() as connection:
        busy = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        busy.add_done_callback(lambda task: task.cancelled() or task.exception())
        kept.append(busy)
        await asyncio.Event().wait()
"""


async def test_a_time_limit_ends_an_attempt_whose_transaction_is_in_the_middle_of_a_statement(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": BUSY}) as app:
        async with asyncio.timeout(WITHIN / 2):
            await app.feeder.idle()
        run = (await runs(database_url))[MAIN]

    assert (run["word"], run["reason"]) == ("FAILED", "script_timed_out")


OUTLIVES = """
import asyncio
catch_up = False
kept = []
async def run(env, db, tenant_id, start_date, end_date):
    inside = asyncio.Event()
    async def stay():
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ('x', now(), now())")
            inside.set()
            await asyncio.Event().wait()
    staying = asyncio.create_task(stay())
    staying.add_done_callback(lambda task: task.cancelled() or task.exception())
    kept.append(staying)
    await inside.wait()
"""


async def test_a_task_that_outlives_run_keeps_neither_its_row_nor_its_seat(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": OUTLIVES}, seats_max=1) as app:
        async with asyncio.timeout(WITHIN / 4):
            await app.feeder.idle()
        await cycle(app)
        run = (await runs(database_url))[MAIN]

    assert (run["word"], run["fence"]) == ("FAILED", 2)
    assert "run() left 1 task behind" in run["error"]
    assert await query(database_url, "SELECT FROM probe.event") == []
