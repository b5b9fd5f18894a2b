"""`harvestd try`: what a script would write, on the real database, and nothing of it stays."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_tenant, query
from tests.cli.shell import Done, harvestd, talking, terminal
from tests.cli.stored import everything
from tests.daemons import SIMPLE, cycle, running_app, write_plugins
from tests.processes import wait_until

SCHEMA = """
CREATE TABLE IF NOT EXISTS shop.item (
    tenant_id text NOT NULL, id integer NOT NULL, name text, PRIMARY KEY (tenant_id, id));
CREATE TABLE IF NOT EXISTS shop.sale (
    tenant_id text NOT NULL, at timestamptz NOT NULL, price numeric NOT NULL);
"""
HEAD = "async def run(env, db, tenant_id, start_date, end_date):\n"
WRITES = (
    HEAD
    + """
    from harvestd.plugin import log, progress
    print("said on stdout")
    log.info("looked", token=env["TOKEN"], of=tenant_id)
    seen = await db.bookmark("pages")
    await db.upsert("item", [{"id": n, "name": f"{env['TOKEN'][:1]}{n}"} for n in range(5)], ["id"])
    await db.copy("sale", [{"at": start_date, "price": 3}, {"at": end_date, "price": 4}], end_date)
    async with db.transaction() as connection:
        await connection.execute("UPDATE item SET name = 'new' WHERE id = 1")
        await db.set_bookmark("pages", (seen or 0) + 1)
    progress(5, 5)
"""
)
FAILS = (
    HEAD
    + """
    await db.upsert("item", [{"id": 7, "name": "kept until the end"}], key=["id"])
    raise ValueError("the upstream speaks nonsense to " + env["TOKEN"])
"""
)
COMMITS = (
    HEAD
    + """
    await db.upsert("item", [{"id": 7, "name": "never"}], key=["id"])
    try:
        await db.fetch("COMMIT")
    except Exception:
        pass
    await db.upsert("item", [{"id": 8, "name": "never"}], key=["id"])
"""
)
CATCHES = (
    HEAD
    + """
    try:
        async with db.transaction() as connection:
            await db.upsert("item", [{"id": 1, "name": "undone"}], key=["id"])
            await connection.execute("SELECT 1/0")
    except Exception:
        pass
    try:
        await db.fetch("SELECT 1/0")
    except Exception:
        pass
    await db.upsert("item", [{"id": 2, "name": "kept"}], key=["id"])
    assert [row["id"] for row in await db.fetch("SELECT id FROM item ORDER BY 1")] == [2]
"""
)
HANGS = (
    HEAD
    + """
    import asyncio
    from harvestd.plugin import progress
    await db.upsert("item", [{"id": 9, "name": "never"}], key=["id"])
    await db.set_bookmark("pages", 3)
    progress(1, 1)
    await asyncio.sleep(600)
"""
)
STRAYS = (
    HEAD
    + """
    async with db.transaction() as connection:
        await connection.execute(
            "INSERT INTO probe.event (script, from_at, to_at) VALUES ('x', now(), now())")
"""
)
WAITS = """
from datetime import UTC, datetime
from harvestd.plugin import Wait
async def run(env, db, tenant_id, start_date, end_date):
    raise Wait(datetime(2126, 1, 1, tzinfo=UTC), "rate limit")
"""
SCRIPTS = {
    "writes": WRITES,
    "fails": FAILS,
    "commits": COMMITS,
    "catches": CATCHES,
    "hangs": HANGS,
    "strays": STRAYS,
    "waits": WAITS,
}
PLUGINS = {f"shop/{name}.py": text for name, text in SCRIPTS.items()} | {"shop/schema.sql": SCHEMA}


async def prepared(url: str, tmp_path: Path) -> dict[str, str]:
    """A tenant with a token, plugins, their tables; the settings of the command."""
    await a_tenant(url, "acme", {"shop": {"TOKEN": "canary-token"}})
    folder = write_plugins(tmp_path / "plug ins", PLUGINS | {"probe/main.py": SIMPLE})
    settings = {"PLUGIN_DIRS": str(folder), "DATA_DIR": str(tmp_path / "data")}
    migrated = await harvestd("migrate", url=url, settings=settings)
    assert migrated.code == 0, migrated.err
    return settings


async def kept(url: str) -> dict[str, Any]:
    """All rows; sequences go on whatever is rolled back, and one membership is made."""
    seen = await everything(url)
    seen["rows"] = await query(url, "SELECT * FROM shop.item")
    seen["sales"] = await query(url, "SELECT * FROM shop.sale")
    return {name: rows for name, rows in seen.items() if name not in ("sequences", "members")}


async def test_rows_counts_bookmark_and_checkpoint_are_shown_and_nothing_stays(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    before = await kept(database_url)
    line = ("try", "shop/writes", "--tenant", "acme", "--from", "2026-01-01", "--to", "2026-01-02")
    json = await harvestd(*line, "--json", url=database_url, settings=settings)
    text = await harvestd(*line, "--limit", "2", url=database_url, settings=settings)
    after = await kept(database_url)
    tables = {table["name"]: table for table in json.json["tables"]}

    assert (json.code, text.code) == (0, 0), json.err
    assert (tables["item"]["inserted"], tables["item"]["updated"]) == (5, 1)
    assert tables["item"]["columns"] == ["id", "name"]
    assert sorted(tables["item"]["rows"]) == [
        [0, "c0"],
        [1, "new"],
        [2, "c2"],
        [3, "c3"],
        [4, "c4"],
    ]
    assert [row[0] for row in tables["sale"]["rows"]] == [
        "2026-01-01T00:00:00Z",
        "2026-01-02T00:00:00Z",
    ]
    assert json.json["bookmarks"] == ["pages"]
    assert json.json["checkpoint"] == "2026-01-02T00:00:00Z"
    assert json.json["error"] is None
    assert "shop.item: 5 inserted, 1 changed" in text.out
    assert "only the first 2 rows shown" in text.err
    assert "rolled back: nothing of it was kept" in text.err
    assert "progress: 5 of 5" in text.err
    assert "said on stdout" in text.err
    assert "looked" in text.err
    assert "canary-token" not in text.err + text.out + json.err + json.out
    assert after == before


async def test_a_window_wider_than_a_run_is_handed_is_said(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    line = ("try", "shop/writes", "--tenant", "acme", "--from", "2026-01-01", "--json", "--to")
    wide = await harvestd(*line, "2026-01-03T12:00", url=database_url, settings=settings)
    as_handed = await harvestd(*line, "2026-01-02", url=database_url, settings=settings)

    assert (wide.code, as_handed.code) == (0, 0)
    assert "a run is handed this in 3 windows, of 24 h at most" in wide.err
    assert "a run is handed" not in as_handed.err


async def test_a_failure_is_said_with_its_place_and_what_was_written_until_then(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    done = await harvestd(
        "try", "shop/fails", "--tenant", "acme", url=database_url, settings=settings
    )
    json = await harvestd(
        "try", "shop/fails", "--tenant", "acme", "--json", url=database_url, settings=settings
    )

    assert done.code == json.code == 1
    assert f"{tmp_path}/plug ins/shop/fails.py:4: ValueError" in done.err
    assert "kept until the end" in done.out
    assert json.json["error"]["place"].endswith("fails.py:4")
    assert json.json["tables"][0]["inserted"] == 1
    assert "canary-token" not in done.err + done.out + json.out
    assert await query(database_url, "SELECT FROM shop.item") == []


async def test_a_commit_of_the_script_keeps_nothing_and_is_found_out(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    before = await kept(database_url)
    done = await harvestd(
        "try", "shop/commits", "--tenant", "acme", url=database_url, settings=settings
    )

    assert done.code == 1
    assert "the trial's transaction is over; nothing was kept" in done.err
    assert await kept(database_url) == before


async def test_what_a_script_rolls_back_and_catches_is_rolled_back_alone(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    done = await harvestd(
        *("try", "shop/catches", "--tenant", "acme", "--json"), url=database_url, settings=settings
    )

    assert done.code == 0, done.err
    assert done.json["tables"][0]["rows"] == [[2, "kept"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_neither_ctrl_c_nor_a_kill_leaves_anything_behind(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    settings = await prepared(database_url, tmp_path)
    await query(database_url, "SELECT 1")
    before = await kept(database_url)
    line = ("try", "shop/hangs", "--tenant", "acme")
    async with talking(*line, settings=settings | {"DATABASE_URL": database_url}) as talk:
        await talk.until("progress: 1 of 1")
        talk.send(number)
        code = await talk.ended()

    async def is_gone() -> bool:
        left = "SELECT FROM pg_stat_activity WHERE application_name = 'harvestd: try'"
        return await query(database_url, left) == []

    await wait_until(is_gone, "the server noticed")
    assert code == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert await kept(database_url) == before


async def test_a_trial_disturbs_no_replica_at_work_and_sees_its_own_tenant_only(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    await a_tenant(database_url, "mine")
    plugins = {"shop/writes.py": WRITES, "shop/schema.sql": SCHEMA}
    async with talking(
        *("try", "shop/hangs", "--tenant", "mine"),
        settings=settings | {"DATABASE_URL": database_url},
    ) as talk:
        await talk.until("progress: 1 of 1")
        async with running_app(database_url, tmp_path, plugins) as app:
            await cycle(app)  # it enrols, makes its seats and loads beside the open trial
        talk.send(signal.SIGINT)
        await talk.ended()
    runs = await query(database_url, "SELECT tenant_id, script, status::text FROM data_source_run")
    done = await harvestd(
        *("try", "shop/catches", "--tenant", "mine", "--env-file", "-", "--json"),
        url=database_url,
        settings=settings,
        given="# of a tenant without configuration\nTOKEN='given'\n",
    )
    written = await query(database_url, "SELECT tenant_id, count(*) AS n FROM shop.item GROUP BY 1")

    assert runs == [{"tenant_id": "acme", "script": "writes", "status": "COMPLETED"}]
    assert written == [{"tenant_id": "acme", "n": 5}]
    assert done.code == 0, done.err  # its script found one row, not those of acme
    assert done.json["tables"][0]["rows"] == [[2, "kept"]]


async def test_the_environment_is_added_to_from_a_file_or_a_prompt_never_an_argument(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    file = tmp_path / "env file"
    file.write_text('export TOKEN="xyz-from-file"\n\n# no\n')
    line = ("try", "shop/writes", "--tenant", "acme")
    from_file = await harvestd(
        *line, "--json", "--env-file", str(file), url=database_url, settings=settings
    )
    argument = await harvestd(*line, "--env", "TOKEN=canary-argument", url=database_url)
    piped = await harvestd(*line, "--env", "TOKEN", url=database_url, settings=settings)
    broken = await harvestd(
        *line, "--env-file", "-", url=database_url, settings=settings, given="canary line\n"
    )
    with terminal(
        *line, "--env", "TOKEN", settings=settings | {"DATABASE_URL": database_url}
    ) as screen:
        await screen.until("TOKEN (not shown):")
        screen.type("qqq-typed\n")
        typed = await screen.ended()

    assert from_file.code == 0, from_file.err
    assert [0, "x0"] in from_file.json["tables"][0]["rows"]
    assert (argument.code, piped.code, broken.code) == (2, 2, 2)
    assert "canary" not in argument.err + broken.err
    assert "--env-file" in piped.err
    assert "line 1 is not KEY=VALUE" in broken.err
    assert typed == 0
    assert "q0" in screen.said
    assert "qqq-typed" not in screen.said


async def test_what_a_real_run_would_refuse_or_wait_for_fails(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)

    async def tried(script: str) -> Done:
        line = ("try", f"shop/{script}", "--tenant", "acme")
        return await harvestd(*line, url=database_url, settings=settings)

    strays, waits = await tried("strays"), await tried("waits")

    assert strays.code == waits.code == 1
    assert "it writes to probe.event" in strays.err
    assert "a real run is refused there" in strays.err
    assert "rate limit" in waits.err
    assert await query(database_url, "SELECT FROM probe.event") == []


async def test_names_tables_and_windows_that_are_not_there_are_refused_with_a_next_step(
    database_url: str, tmp_path: Path
) -> None:
    settings = await prepared(database_url, tmp_path)
    lines = {
        ("shop/writs", "--tenant", "acme"): "did you mean 'shop/writes'?",
        ("shop", "--tenant", "acme"): "is not SOURCE/SCRIPT",
        ("shop/writes", "--tenant", "acmee"): "did you mean 'acme'?",
        ("shop/writes",): "needs --tenant",
        ("shop/writes", "--tenant", "acme", "--from", "1d", "--to", "2d"): "is no window",
        ("shop/writes", "--tenant", "acme", "--limit", "-1"): "out of range",
    }
    for line, said in lines.items():
        done = await harvestd("try", *line, url=database_url, settings=settings)
        assert done.code in {1, 2}
        assert said in done.err
    schema = tmp_path / "plug ins" / "shop" / "schema.sql"
    schema.write_text(SCHEMA + "-- changed\n")
    stale = await harvestd(
        "try", "shop/writes", "--tenant", "acme", url=database_url, settings=settings
    )
    schema.write_text(SCHEMA)
    (tmp_path / "plug ins" / "shop" / "writes.py").write_text("run = 1\n")
    broken = await harvestd(
        "try", "shop/writes", "--tenant", "acme", url=database_url, settings=settings
    )

    assert (stale.code, broken.code) == (1, 1)
    assert "harvestd migrate" in stale.err
    assert "writes.py:1: run is 1 (int)" in broken.err
