"""`--dry-run` says what would happen and changes nothing: the dump before is the dump after."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from harvestd.database.pool import Database
from harvestd.errors import SchemaRefused
from harvestd.loading.schemas import refuse_unfit_schema
from tests.builders import a_replica, a_run, a_tenant, query
from tests.cli.shell import harvestd
from tests.cli.stored import everything

CHANGE = """
    UPDATE data_source_run
    SET fence = 2, covered = '{[2026-01-01Z,2026-02-01Z)}', last_fetched_data_date = '2026-02-01Z',
        due_at = now() + interval '1 day'
"""
LINES: dict[str, tuple[tuple[str, ...], str]] = {
    "reset": (("reset", "acme"), "would be reset: git/commit, git/held"),
    "backfill": (("backfill", "--from", "2026-01-05"), "nothing was changed (--dry-run)"),
    "trigger": (("trigger", "acme"), "would be due now: git/commit"),
    "trigger all": (("trigger",), "would be asked for"),
    "unset": (("config", "unset", "acme", "git", "KEY"), "would be removed: KEY"),
    "set": (("tenant", "set", "acme", "--runs-max", "3"), "would be: name 'acme', runs at once 3"),
    "pause": (("tenant", "pause", "acme"), "given up (what was committed stays): git/held"),
    "resume": (("tenant", "resume", "zeta"), "would go on, due now: git/commit"),
    "migrate": (("migrate",), "nothing was changed (--dry-run)"),
}


@pytest.mark.parametrize("name", LINES)
async def test_a_dry_run_says_what_would_happen_and_leaves_every_row_as_it_is(
    database: Database, database_url: str, name: str
) -> None:
    await a_tenant(database_url, "acme", {"git": {"KEY": "v"}})
    await a_tenant(database_url, "zeta")
    for key in ("acme/git/commit", "acme/git/held", "zeta/git/commit"):
        await a_run(database_url, key)
    await query(database_url, CHANGE)
    heartbeat = await a_replica(database)
    held = "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1 WHERE script = 'held'"
    await query(database_url, held, heartbeat.replica_id)
    await query(database_url, "UPDATE tenant SET paused_at = now() WHERE id = 'zeta'")
    line, said = LINES[name]
    before = await everything(database_url)
    done = await harvestd(*line, "--dry-run", url=database_url)
    json = await harvestd(*line, "--dry-run", "--json", url=database_url)
    after = await everything(database_url)

    assert done.code == json.code == 0, done.err
    assert said in done.err
    assert json.json["dry_run"] is True
    assert after == before
    real = await harvestd(*line, *yes(line), url=database_url)
    assert real.code == 0, real.err
    assert await everything(database_url) != before  # or the comparison proves nothing


def yes(line: tuple[str, ...]) -> tuple[str, ...]:
    return ("--yes",) if line[0] in {"reset", "backfill"} else ()


async def test_a_dry_run_neither_makes_nor_migrates_a_database(
    empty_database: str, tmp_path: Path
) -> None:
    foreseen = await harvestd("migrate", "--dry-run", "--json", url=empty_database)
    text = await harvestd("migrate", "--dry-run", url=empty_database)
    reset = await harvestd("reset", "acme", "--dry-run", url=empty_database)
    nowhere = await harvestd(
        "migrate", "--dry-run", settings={"DATA_DIR": str(tmp_path / "nothing here")}
    )
    made = await query(empty_database, "SELECT to_regnamespace('harvestd') AS made")

    assert foreseen.code == 0
    assert foreseen.json["migrations"][0] == "0001_status_words"
    assert foreseen.json["schemas"] == ["git"]
    assert "would apply git/schema.sql" in text.out
    assert (reset.code, nowhere.code) == (1, 1)
    assert "harvestd migrate" in reset.err
    assert made == [{"made": None}]
    assert not (tmp_path / "nothing here").exists()


async def test_a_dry_run_of_migrate_says_when_nothing_is_left_to_do(database_url: str) -> None:
    await harvestd("migrate", url=database_url)
    done = await harvestd("migrate", "--dry-run", "--json", url=database_url)

    assert (done.json["migrations"], done.json["schemas"]) == ([], [])


UNFIT = {
    "CREATE TABLE probe.t (id int);\nALTER\n  TABL probe.t": ':3: syntax error at or near "TABL"',
    "CREATE TABLE probe.t (id int);\nCOMMIT": ":2: it begins or ends a transaction: COMMIT",
    "CREATE TABLE probe.t (id int);\nTRUNCATE probe.t": ":2: it writes rows: TRUNCATE probe.t",
}


@pytest.mark.parametrize("text", UNFIT, ids=["no SQL", "transaction", "rows"])
async def test_a_dry_run_of_migrate_refuses_a_schema_that_can_never_be_applied(
    empty_database: str, tmp_path: Path, text: str
) -> None:
    schema = tmp_path / "probe" / "schema.sql"
    schema.parent.mkdir()
    schema.write_text(text)
    line = ("migrate", "--dry-run", "--json")
    done = await harvestd(*line, url=empty_database, settings={"PLUGIN_DIRS": str(tmp_path)})

    assert done.code == 1
    assert f"probe/schema.sql{UNFIT[text]}" in done.err
    assert [refused["source"] for refused in done.json["refused"]] == ["probe"]
    assert done.json["schemas"] == ["git"]


async def test_a_dry_run_of_migrate_runs_nothing_of_a_schema(
    database: Database, database_url: str
) -> None:
    attacks = (
        "CREATE SCHEMA breach",
        "CREATE TABLE t (id int); END $$; CREATE SCHEMA breach; DO $$ BEGIN NULL",
        "DROP TABLE t; EXCEPTION WHEN OTHERS THEN CREATE SCHEMA breach",
        "CREATE TABLE t (d text DEFAULT $unrun_0$); CREATE SCHEMA breach; --$unrun_0$)",
    )
    async with database.line("test").connection() as connection:
        for text in attacks:
            with suppress(SchemaRefused):
                await refuse_unfit_schema(connection, source="probe", schema_sql=text)

    assert await query(database_url, "SELECT FROM pg_namespace WHERE nspname = 'breach'") == []
