"""`harvestd migrate`: what it did, and all that keeps it from doing it."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from tests.builders import query
from tests.cli.shell import harvestd
from tests.database.adoption.tables import PRISMA


async def test_migrate_says_what_it_did_and_may_be_repeated(empty_database: str) -> None:
    first = await harvestd("migrate", url=empty_database)
    again = await harvestd("migrate", url=empty_database)
    json = await harvestd("migrate", "--json", url=empty_database)
    tables = await query(empty_database, "SELECT to_regclass('git.commit') IS NOT NULL AS there")

    assert first.code == again.code == 0
    assert "applied git/schema.sql" in first.out
    assert "applied 0004" in first.out
    assert again.out == "the database is up to date\n"
    nothing: dict[str, object] = {"migrations": [], "schemas": [], "refused": [], "notes": []}
    assert json.json == nothing | {"hardened": [], "hardening": [], "losers": {}, "dry_run": False}
    assert tables == [{"there": True}]


async def test_migrate_tells_a_program_what_it_applied(empty_database: str) -> None:
    done = await harvestd("migrate", "--json", url=empty_database)

    assert done.code == 0
    assert done.json["migrations"][0] == "0001_status_words"
    assert done.json["schemas"] == ["git"]
    assert done.json["refused"] == done.json["notes"] == []


async def test_all_columns_that_do_not_fit_are_named_at_once(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute(
        PRISMA + "ALTER TABLE data_source_run DROP COLUMN error, DROP COLUMN completed_at,"
        " ADD COLUMN shard integer NOT NULL; ALTER TABLE tenant_data_source_config"
        " ALTER COLUMN value TYPE varchar(40), DROP COLUMN key;"
    )
    await connection.close()
    done = await harvestd("migrate", url=empty_database)
    what, _, next_step = done.err.splitlines()

    assert done.code == 1
    for named in ("data_source_run has no column error", "no column completed_at", "run.shard is"):
        assert named in what
    assert "config has no column key" in what
    assert "config.value is of type character varying" in what
    assert "public.data_source_run ADD COLUMN error text;" in next_step
    assert "ADD COLUMN completed_at timestamp with time zone;" in next_step


async def test_a_refused_schema_is_not_called_up_to_date(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    folder.mkdir()
    (folder / "schema.sql").write_text("CREATE TABL x")
    settings = {"PLUGIN_DIRS": str(tmp_path)}
    done = await harvestd("migrate", url=database_url, settings=settings)

    assert done.code == 1
    assert "probe/schema.sql:1: syntax error" in done.err
    assert "schema.sql refused: probe; all else is up to date" in done.err
    assert "up to date" not in done.out
