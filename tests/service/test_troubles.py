"""What one source, script or full disk does is told, and stays its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harvestd.database import step
from harvestd.loading import running
from harvestd.loading.refusals import LOCK_SECONDS
from harvestd.service import source_schemas
from harvestd.service.status import Status
from tests.builders import a_tenant, a_transaction, query
from tests.cli.shell import harvestd
from tests.daemons import EVENT_TABLE, PROBE, SIMPLE, cycle, running_app, runs, write_plugins
from tests.processes import wait_until

TENANTS = ("acme", "globex")
MAIN = "acme/probe/main"
LOCK = "SELECT pg_advisory_xact_lock(4711)"


async def test_a_schema_that_takes_long_holds_up_only_its_own_source(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tenant_id in TENANTS:
        await a_tenant(database_url, tenant_id, {"probe": {"KEY": "v"}, "other": {"KEY": "v"}})
    takes_long = EVENT_TABLE.format(source="probe") + f"SET lock_timeout = 0; {LOCK};"
    files = {"probe/schema.sql": takes_long, "probe/main.py": SIMPLE, "other/main.py": SIMPLE}
    monkeypatch.setattr(source_schemas, "PATIENCE_SECONDS", 0.5)
    states: dict[str, dict[str, Any]] = {}

    async def others_done() -> bool:
        states.update(await runs(database_url))
        return {states[f"{name}/other/main"]["word"] for name in TENANTS} == {"COMPLETED"}

    async def all_done() -> bool:
        return {run["word"] for run in (await runs(database_url)).values()} == {"COMPLETED"}

    async with AsyncExitStack() as held:
        await held.enter_async_context(a_transaction(database_url, LOCK))
        async with running_app(database_url, tmp_path, files):
            await wait_until(others_done, "the runs of the other source")
            assert states[MAIN]["word"] == "PENDING"
            assert "it is being applied" in states[MAIN]["blocked_by"]
            await held.aclose()
            await wait_until(all_done, "the slow schema to be done, and its runs after it")


async def test_an_error_that_nobody_foresaw_in_a_schema_fails_no_cycle(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)

    async def fail(name: str) -> None:
        if name == "schema_finished":
            raise ZeroDivisionError

    step.hook = fail
    try:
        async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
            await app.feeder.idle()
            why = app.cycle.unusable["probe"]
            step.hook = None
            await cycle(app)
            assert app.cycle.unusable == {}
    finally:
        step.hook = None

    assert "ZeroDivisionError inside harvestd" in why
    assert (await runs(database_url))[MAIN]["word"] == "COMPLETED"


async def test_a_schema_whose_table_was_in_use_is_tried_again_at_the_next_tick(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_schemas, "PATIENCE_SECONDS", 20)
    sooner = running.OUR_SESSION.replace(f"lock_timeout = '{LOCK_SECONDS}s'", "lock_timeout = 100")
    monkeypatch.setattr(running, "OUR_SESSION", sooner)
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await app.feeder.idle()
        text = EVENT_TABLE.format(source="probe")
        more = text + "ALTER TABLE probe.event ADD COLUMN IF NOT EXISTS more text;"
        write_plugins(tmp_path / "plugins", {"probe/schema.sql": more})
        async with a_transaction(database_url, "LOCK TABLE probe.event"):
            await cycle(app, forced=False)
            refused = dict(app.cycle.unusable)
        await cycle(app, forced=False)
        mended = dict(app.cycle.unusable)

    assert "was in use" in refused["probe"]
    assert mended == {}


@pytest.mark.slow
async def test_what_a_script_prints_is_its_log_without_its_secrets(
    database_url: str, tmp_path: Path
) -> None:
    prints = """
        import sys
        catch_up = False
        async def run(env, *_):
            print("the key is", env["KEY"])
            print("and again", env["KEY"], file=sys.stderr, end="")
            sys.stderr.close()
            sys.stdout.close()
            print("still here")
    """
    await a_tenant(database_url, "acme", {"probe": {"KEY": "sup3r-secret-value"}})
    plugins = write_plugins(tmp_path / "plugins", {"probe/main.py": prints})
    done = await harvestd(
        "run",
        "--once",
        "--json",
        url=database_url,
        settings={"PLUGIN_DIRS": str(plugins), "DATA_DIR": str(tmp_path)},
    )

    assert done.code == 0, done.err
    assert [run["status"] for run in done.json] == ["COMPLETED"]
    assert "the key is [redacted]" in done.err
    assert "and again [redacted]" in done.err
    assert "still here" in done.err
    assert "sup3r-secret-value" not in done.err


async def test_while_ends_cannot_be_recorded_the_replica_is_not_ready(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    raises = "async def run(*_):\n    raise ValueError\n"
    async with running_app(database_url, tmp_path, {"probe/main.py": raises}) as app:
        await app.feeder.idle()
        # As a full disk does: every record is refused.
        await query(
            database_url,
            "ALTER TABLE harvestd.run_history ADD CONSTRAINT full_disk CHECK (false) NOT VALID",
        )
        await cycle(app)
        refused = dict(app.health.problems)
        await query(database_url, "ALTER TABLE harvestd.run_history DROP CONSTRAINT full_disk")
        await cycle(app)
        await cycle(app)
        mended = dict(app.health.problems)

    assert "was not recorded" in refused["records"]
    assert mended == {}


async def test_a_plugin_that_never_could_be_used_is_told_by_status(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    files = {"probe/main.py": "this is not python\n", "other/schema.sql": "CREATE TABL x ()"}
    async with running_app(database_url, tmp_path, files | {"other/main.py": SIMPLE}) as app:
        (replica,) = await Status(app.database).replicas()
        text = (await harvestd("status", url=database_url)).out
        write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
        write_plugins(
            tmp_path / "plugins", {"other/schema.sql": EVENT_TABLE.format(source="other")}
        )
        await cycle(app)
        (mended,) = await Status(app.database).replicas()

    assert len(replica.plugin_problems) == 2
    assert "cannot use" in text
    assert "probe/main.py:1" in text
    assert "schema.sql of other" in text
    assert mended.plugin_problems == []


async def test_a_schema_that_is_put_back_as_it_was_is_applied_again(
    database_url: str, tmp_path: Path
) -> None:
    def saying(word: str) -> dict[str, str]:
        table = EVENT_TABLE.format(source="probe")
        return {"probe/schema.sql": f"{table} COMMENT ON TABLE probe.event IS '{word}'"}

    files = {"probe/main.py": SIMPLE, **saying("one")}
    async with running_app(database_url, tmp_path, files) as app:
        for word in ("two", "one"):
            write_plugins(tmp_path / "plugins", saying(word))
            await cycle(app)

    rows = await query(database_url, "SELECT obj_description('probe.event'::regclass) AS said")
    assert rows == [{"said": "one"}]
