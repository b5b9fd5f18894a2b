"""schema.sql: run by the source's own role, inspected, and finished into the wall."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from harvestd.catalog.discover import bundled_plugin_dir
from harvestd.database import step
from harvestd.database.pool import LOST
from tests.loading.walls import GOOD, ONE_TABLE, Wall

SHIPPED = sorted(bundled_plugin_dir().glob("*/schema.sql"))


async def test_a_good_file_is_applied_once_and_makes_finished_tables(wall: Wall) -> None:
    assert await wall.apply(GOOD) is True
    assert await wall.apply(GOOD) is False

    assert await wall.tables() == ["customer", "purchase", "visit"]
    rows = await wall.daemon.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS walled,"
        " pg_get_userbyid(relowner)::text AS owner,"
        " (SELECT count(*) FROM pg_policy WHERE polrelid = relation.oid) AS policies,"
        " (SELECT count(*) FROM pg_trigger WHERE tgrelid = relation.oid"
        "  AND tgname = 'harvestd_guard' AND tgenabled = 'O') AS guards"
        " FROM pg_class AS relation WHERE relnamespace = 'shop'::regnamespace AND relkind = 'r'"
    )
    owner = wall.roles.source("shop")
    assert {tuple(row)[1:] for row in rows} == {(True, owner, 3, 1)}


async def test_keyed_tables_get_the_frameworks_columns_and_appended_ones_do_not(wall: Wall) -> None:
    await wall.apply(GOOD)

    rows = await wall.daemon.fetch(
        "SELECT table_name::text, column_name::text FROM information_schema.columns"
        " WHERE table_schema = 'shop' AND column_name IN ('written_at', 'deleted_at')"
    )
    assert {tuple(row) for row in rows} == {
        (table, column)
        for table in ("customer", "purchase")
        for column in ("written_at", "deleted_at")
    }


async def test_an_edited_file_is_applied_to_the_tables_there_are(wall: Wall) -> None:
    await wall.apply(ONE_TABLE)
    await wall.daemon.execute("INSERT INTO shop.a (tenant_id, id) VALUES ('acme', 1)")

    edited = f"{ONE_TABLE};\nALTER TABLE shop.a ADD COLUMN IF NOT EXISTS size int DEFAULT 7"
    assert await wall.apply(edited) is True

    assert await wall.daemon.fetchval("SELECT size FROM shop.a") == 7
    # The hash of the edited file is the one that counts now; the old one is another edit.
    assert await wall.apply(edited) is False
    assert await wall.apply(ONE_TABLE) is True


async def test_two_replicas_that_apply_at_once_take_turns(wall: Wall) -> None:
    answers = await asyncio.gather(*(wall.apply(GOOD) for _ in range(3)))

    assert sorted(answers) == [False, False, True]


async def test_a_crash_after_the_commit_is_mended_by_applying_again(wall: Wall) -> None:
    async def crash(name: str) -> None:
        if name == "schema_finished":
            raise RuntimeError("crashed here")

    step.hook = crash
    try:
        with pytest.raises(RuntimeError, match="crashed here"):
            await wall.apply(ONE_TABLE)
    finally:
        step.hook = None

    assert await wall.tables() == ["a"]
    assert await wall.daemon.fetchval("SELECT count(*) FROM harvestd.source_schema") == 0
    assert await wall.apply(ONE_TABLE) is True
    assert await wall.apply(ONE_TABLE) is False


async def test_what_the_owner_undid_is_finished_again(wall: Wall) -> None:
    await wall.apply(ONE_TABLE)
    undone = f"""{ONE_TABLE};
        DO $$ BEGIN IF EXISTS (SELECT FROM pg_policy WHERE polrelid = 'shop.a'::regclass) THEN
        ALTER TABLE shop.a DISABLE TRIGGER harvestd_guard, NO FORCE ROW LEVEL SECURITY;
        DROP POLICY harvestd_tenant ON shop.a;
        ALTER POLICY harvestd_reader ON shop.a USING (false);
        ALTER TABLE shop.a ALTER tenant_id DROP DEFAULT, DROP COLUMN written_at;
        GRANT ALL ON shop.a TO {wall.roles.exec};
        GRANT ALL ON SCHEMA shop TO {wall.roles.exec};
        END IF; END $$"""

    await wall.apply(undone)

    row = await wall.daemon.fetchrow(
        "SELECT relforcerowsecurity AS forced,"
        " (SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'shop.a'::regclass"
        "  AND tgname = 'harvestd_guard') AS enabled,"
        " (SELECT count(*) FROM pg_policy WHERE polrelid = 'shop.a'::regclass) AS policies,"
        " (SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polname = 'harvestd_reader'"
        "  AND polrelid = 'shop.a'::regclass) AS reading,"
        " has_table_privilege($1, 'shop.a', 'TRUNCATE, DELETE, UPDATE') AS too_much,"
        " has_schema_privilege($1, 'shop', 'CREATE') AS creates,"
        " has_column_privilege($1, 'shop.a', 'written_at', 'UPDATE') AS marks"
        " FROM pg_class WHERE oid = 'shop.a'::regclass",
        wall.roles.exec,
    )
    assert row is not None
    assert tuple(row) == (True, b"O", 3, "true", False, False, True)


async def test_a_cancelled_call_ends_its_backends_and_leaves_nothing_behind(wall: Wall) -> None:
    owner = wall.roles.source("shop")
    await wall.daemon.execute("SELECT pg_advisory_lock(4711)")
    applying = asyncio.create_task(wall.apply(f"{ONE_TABLE}; SELECT pg_advisory_lock(4711)"))
    async with asyncio.timeout(20):
        await wall.daemon.execute(
            f"""DO $$ BEGIN WHILE NOT EXISTS (
                SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                WHERE NOT granted AND objid = 4711 AND usename = '{owner}')
            LOOP PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$"""
        )
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying

    connected = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
    assert await wall.daemon.fetchval(connected, owner) == 0
    assert await wall.tables() == []
    assert await wall.apply(ONE_TABLE) is True


async def test_what_a_crashed_replica_left_connected_is_ended_first(wall: Wall) -> None:
    await wall.apply(ONE_TABLE)
    owner, password = wall.roles.source("shop"), secrets.token_urlsafe(12)
    await wall.daemon.execute(f"ALTER ROLE {owner} LOGIN PASSWORD '{password}'")
    left = await wall.database.connect("left", user=owner, password=password)
    await left.execute("BEGIN; LOCK TABLE shop.a IN ACCESS EXCLUSIVE MODE")

    assert await wall.apply(f"{ONE_TABLE} -- edited") is True

    with pytest.raises(LOST):
        await left.execute("COMMIT")


@pytest.mark.parametrize("path", SHIPPED, ids=[p.parent.name for p in SHIPPED])
async def test_the_schema_of_a_shipped_data_source_is_applied(path: Path, wall: Wall) -> None:
    sql = await asyncio.to_thread(path.read_text, encoding="utf-8")

    assert await wall.apply(sql, path.parent.name) is True
    assert await wall.tables(path.parent.name) != []


async def test_a_schema_named_like_a_word_of_sql_is_applied(wall: Wall) -> None:
    sql = 'CREATE SCHEMA IF NOT EXISTS "order"; CREATE TABLE "order".group1 (tenant_id text)'

    assert await wall.apply(sql, "order") is True
