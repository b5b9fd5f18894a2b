"""Why a run does not run is said in its row, and a change of what held it lets it go on."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pytest

from harvestd.service.acts import Acts
from tests.builders import a_run, a_tenant, query
from tests.daemons import PROBE, SIMPLE, cycle, in_hand, running_app, runs, write_plugins
from tests.processes import wait_until

MAIN = "acme/probe/main"
FAILING = "async def run(*_):\n    raise ValueError('not yet')\n"
WAITING = """
    from harvestd.plugin import Unauthorised
    catch_up = False
    async def run(env, *_):
        if env["KEY"] == "value":
            raise Unauthorised("401")
"""

HELD_BACK = """
    import asyncio
    from pathlib import Path
    from harvestd.plugin import Unauthorised
    catch_up = False
    async def run(env, *_):
        while Path(env["GATE"]).exists():
            await asyncio.sleep(0.01)
        if env["KEY"] == "old":
            raise Refused("401")
"""


async def test_a_refused_schema_is_the_reason_until_it_is_mended(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    files = {"probe/schema.sql": "CREATE TABL probe.thing ()", "probe/main.py": SIMPLE}
    async with running_app(database_url, tmp_path, files) as app:
        await cycle(app)
        refused = (await runs(database_url))[MAIN]
        (tmp_path / "plugins/probe/schema.sql").unlink()
        write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
        await cycle(app)
        mended = (await runs(database_url))[MAIN]

    assert refused["word"] == "PENDING"
    assert refused["blocked_by"].startswith("schema.sql of probe: ")
    assert "TABL" in refused["blocked_by"]
    assert (mended["word"], mended["blocked_by"]) == ("COMPLETED", None)


async def test_a_script_without_a_good_version_is_the_reason_with_file_and_line(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
    # A new process has no last good version.
    async with running_app(database_url, tmp_path, {"probe/main.py": "def run(:\n"}) as app:
        await cycle(app)
        broken = (await runs(database_url))[MAIN]

    assert "probe/main.py:1" in broken["blocked_by"]
    assert broken["word"] == "COMPLETED"  # its progress is untouched


async def test_a_removed_script_is_the_reason_of_its_runs(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    files = {"probe/main.py": SIMPLE, "probe/other.py": SIMPLE}
    async with running_app(database_url, tmp_path, files) as app:
        await cycle(app)
        (tmp_path / "plugins/probe/main.py").unlink()
        await cycle(app)
        rows = await runs(database_url)

    assert rows[MAIN]["blocked_by"].startswith("no plugin folder of ")
    assert rows["acme/probe/other"]["blocked_by"] is None


async def test_new_plugin_content_ends_the_backoff_also_after_a_restart(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    backed_off = "SELECT due_at > now() AS later, failures FROM data_source_run"
    async with running_app(database_url, tmp_path, {"probe/main.py": FAILING}) as app:
        await app.feeder.idle()
        await cycle(app)
        before = await query(database_url, backed_off)
        write_plugins(tmp_path / "plugins", {"probe/main.py": FAILING + "# tried\n"})
        await cycle(app, forced=False)
        edited = await query(database_url, backed_off)
        await cycle(app)
    async with running_app(database_url, tmp_path, {"probe/main.py": FAILING + "# tried\n"}):
        same = await query(database_url, backed_off)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await app.feeder.idle()
        mended = (await runs(database_url))[MAIN]

    assert before == [{"later": True, "failures": 2}]
    assert edited == [{"later": False, "failures": 1}]
    assert same == [{"later": True, "failures": 2}]  # a restart alone ends nothing
    assert mended["word"] == "COMPLETED"


@pytest.mark.parametrize("change", ["its plugin", "its configuration", "a refused token"])
async def test_what_changed_while_a_run_failed_with_the_old_ends_its_wait(
    change: str, database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await a_tenant(database_url, "acme", {"probe": {"KEY": "old", "GATE": str(gate)}})
    refused = "Unauthorised" if change == "a refused token" else "ValueError"
    script = HELD_BACK.replace("Refused", refused)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await app.feeder.idle()
        await cycle(app)  # the second failure: from now on it backs off
        gate.touch()
        app.wanted.ask("the test", forced=True)
        await in_hand(app)
        if change == "its plugin":
            write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
        else:
            await query(
                database_url,
                "UPDATE tenant_data_source_config SET value = 'new' WHERE key = 'KEY'",
            )
        while not app.cycles.empty():
            app.cycles.get_nowait()
        app.wanted.ask("the test", forced=False)
        await app.cycles.get()
        gate.unlink()
        await app.feeder.idle()
        ended = (await runs(database_url))[MAIN]
        await cycle(app, forced=False)
        woken = (await runs(database_url))[MAIN]

    assert (ended["word"], ended["due_at"] > ended["completed_at"]) in (
        ("FAILED", True),
        ("WAITING", True),
    )
    assert woken["word"] == "COMPLETED"


async def test_new_plugins_are_enrolled_although_the_cycle_that_found_them_failed(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await app.feeder.idle()
        write_plugins(tmp_path / "plugins", {"probe/other.py": SIMPLE})
        await query(database_url, "ALTER TABLE tenant_data_source_config RENAME TO away")
        app.wanted.ask("the test", forced=False)

        async def failed() -> bool:
            return "cycle" in app.health.problems

        await wait_until(failed, "a cycle that fails")
        await query(database_url, "ALTER TABLE away RENAME TO tenant_data_source_config")
        await cycle(app, forced=False)
        rows = await runs(database_url)

    assert set(rows) == {MAIN, "acme/probe/other"}


async def test_a_configuration_changed_while_the_daemon_was_down_ends_the_wait(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": WAITING}) as app:
        await cycle(app)
        before = await runs(database_url)
    await query(
        database_url,
        "UPDATE tenant_data_source_config SET value = 'new' WHERE tenant_id = 'acme'",
    )
    async with running_app(database_url, tmp_path, {"probe/main.py": WAITING}) as app:
        await app.feeder.idle()
        after = await runs(database_url)

    assert before[MAIN]["word"] == "WAITING"
    assert after[MAIN]["word"] == "COMPLETED"
    # Its change was seen before the restart: the restart is no news.
    assert after["globex/probe/main"]["fence"] == before["globex/probe/main"]["fence"]


@pytest.mark.parametrize("change", ["its plugin", "its configuration"])
async def test_a_turn_that_takes_long_starts_nothing_from_what_has_changed_since(
    change: str, database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    await a_tenant(database_url, "acme", {"probe": {"KEY": "new", "GATE": str(gate)}})
    await query(
        database_url, "UPDATE tenant_data_source_config SET value = 'old' WHERE key = 'KEY'"
    )
    second = "dependencies = ['probe/main']\n" + textwrap.dedent(HELD_BACK).replace(
        "Refused", "Unauthorised"
    )
    first = HELD_BACK.replace('if env["KEY"] == "old"', "if False")
    files = {"probe/main.py": first, "probe/second.py": second}
    async with running_app(database_url, tmp_path, files) as app:
        await in_hand(app)
        if change == "its plugin":
            write_plugins(tmp_path / "plugins", {"probe/second.py": SIMPLE})
        else:
            await query(
                database_url,
                "UPDATE tenant_data_source_config SET value = 'new' WHERE key = 'KEY'",
            )
        app.wanted.ask("the test", forced=False)
        await app.cycles.get()
        gate.unlink()
        await app.feeder.idle()
        await cycle(app, forced=False)
        second_run = (await runs(database_url))["acme/probe/second"]

    assert (second_run["word"], second_run["blocked_by"]) == ("COMPLETED", None)


@pytest.mark.parametrize("mended", ["by hand", "by its author"])
async def test_what_waits_for_a_mended_script_runs_right_after_it(
    mended: str, database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await a_tenant(database_url, "acme", {"probe": {"GATE": str(gate)}})
    first = """
        from pathlib import Path
        catch_up = False
        async def run(env, *_):
            if Path(env["GATE"]).exists():
                raise ValueError("not yet")
    """
    after = "dependencies = ['probe/{}']\ncatch_up = False\nasync def run(*_): pass\n"
    plugins = {"a": first, "b": after.format("a"), "c": after.format("b")}
    files = {f"probe/{name}.py": text for name, text in plugins.items()}
    async with running_app(database_url, tmp_path, files) as app:
        await app.feeder.idle()
        gate.touch()
        for _ in range(3):
            await cycle(app, forced=False)  # until the failing one backs off
        blocked = {key: row["blocked_by"] for key, row in (await runs(database_url)).items()}
        if mended == "by hand":
            gate.unlink()
            await Acts(app.database).trigger("acme", "probe", "a")
        else:
            write_plugins(tmp_path / "plugins", {"probe/a.py": plugins["b"].partition("\n")[2]})
        before = await runs(database_url)
        await cycle(app, forced=False)
        rows = await runs(database_url)

    assert blocked == {
        "acme/probe/a": None,
        "acme/probe/b": "probe/a",
        "acme/probe/c": "probe/b",
    }
    for key, row in rows.items():
        assert (row["word"], row["blocked_by"]) == ("COMPLETED", None), key
        assert row["fence"] == before[key]["fence"] + 1, key


async def test_a_configuration_of_megabytes_holds_up_nobody_but_its_own_runs(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    set_to = "UPDATE tenant_data_source_config SET value = repeat('aA1/+\u00e9\n', $1)"
    await query(database_url, f"{set_to} WHERE tenant_id = 'acme'", 3_000_000)
    async with running_app(database_url, tmp_path, {"probe/main.py": FAILING}) as app:
        await cycle(app)
        large = await runs(database_url)
        await query(database_url, f"{set_to} WHERE tenant_id = 'acme'", 30_000)
        await cycle(app, forced=False)
        shorter = (await runs(database_url))[MAIN]

    assert large[MAIN]["fence"] == 0
    assert large[MAIN]["blocked_by"].startswith("the configuration of probe is larger than 256 KiB")
    assert large["globex/probe/main"]["word"] == "FAILED"
    assert (shorter["word"], shorter["blocked_by"]) == ("FAILED", None)


async def test_a_tenant_whose_id_fits_into_no_index_keeps_nobody_else_from_running(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("x" * 2001, "acme"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        rows = await runs(database_url)
    shutil.rmtree(tmp_path / "plugins")

    assert {key: row["word"] for key, row in rows.items()} == {MAIN: "COMPLETED"}


@pytest.mark.parametrize(
    "gets_on",
    [
        "await db.checkpoint(end_date)",
        "await db.set_bookmark('page', 7)",
    ],
)
async def test_an_attempt_that_gets_on_is_not_taken_for_one_that_kills_its_process(
    gets_on: str, database_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"""
import asyncio
from pathlib import Path

import pytest
async def run(env, db, tenant_id, start_date, end_date):
    {gets_on}
    while not Path(env["GATE"]).exists():
        await asyncio.sleep(0.01)
"""
    await a_tenant(database_url, "acme", {"probe": {"GATE": str(gate)}})
    await a_run(database_url)
    await query(database_url, "UPDATE data_source_run SET deaths = 2")
    async with running_app(database_url, tmp_path, {"probe/main.py": script}):

        async def forgotten() -> bool:
            row = (await runs(database_url))[MAIN]
            return (row["word"], row["deaths"]) == ("RUNNING", 0)

        await wait_until(forgotten, "the deaths to be forgotten under way")
        gate.touch()
