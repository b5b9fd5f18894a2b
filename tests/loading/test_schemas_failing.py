"""A schema.sql that fails, ends its transaction, or has no right to its schema."""

from __future__ import annotations

import asyncpg
import pytest

from tests.clusters import Cluster, create_database, database_of, drop_database
from tests.loading.walls import GOOD, ONE_TABLE, TABLE, Connection, Wall, a_login, fill, wall_at


async def test_a_failing_edit_leaves_the_old_schema_and_says_where(wall: Wall) -> None:
    await wall.apply(ONE_TABLE)

    refused = await wall.refusal(
        f"-- edited\n{ONE_TABLE};\nCREATE TABLE shop.b (tenant_id text);\n\n"
        "CREATE INDEX i\n  ON shop.a\n  (nothing);"
    )

    assert refused.what == 'column "nothing" does not exist'
    assert "CREATE INDEX i ON shop.a (nothing)" in refused.why
    assert (refused.path, refused.line) == ("shop/schema.sql", 5)
    assert await wall.tables() == ["a"]
    assert await wall.apply(ONE_TABLE) is False


async def test_a_syntax_error_is_told_on_its_own_line(wall: Wall) -> None:
    refused = await wall.refusal("CREATE TABLE shop.t (\n  tenant_id text\n  id int\n);")

    assert refused.what == 'syntax error at or near "id"'
    assert refused.line == 3


async def test_a_schema_made_in_other_words_is_refused_with_those_that_work(wall: Wall) -> None:
    refused = await wall.refusal("CREATE SCHEMA shop")

    assert "CREATE SCHEMA IF NOT EXISTS shop" in refused.next_step


async def test_no_value_of_a_row_is_quoted(wall: Wall) -> None:
    await wall.apply("CREATE TABLE IF NOT EXISTS shop.a (tenant_id text, word text)")
    await wall.daemon.execute("INSERT INTO shop.a VALUES ('acme', 'confidential')")

    refused = await wall.refusal("ALTER TABLE shop.a ALTER word TYPE int USING word::int")

    assert "confidential" not in str(refused)
    assert "22P02" in refused.why


@pytest.mark.parametrize(
    "ending", ["COMMIT", "ROLLBACK", "END", "commit and chain", "BEGIN", "SAVEPOINT s"]
)
async def test_a_transaction_of_the_files_own_is_refused_before_it_runs(
    ending: str, wall: Wall
) -> None:
    refused = await wall.refusal(f"{TABLE}\n/* now */ {ending};\nSELECT 1")

    assert refused.what == f"it begins or ends a transaction: {ending}"
    assert refused.line == 3
    assert await wall.tables() == []


@pytest.mark.parametrize("ending", ["COMMIT", "COMMIT AND CHAIN", "COMMIT; BEGIN", "ROLLBACK"])
async def test_a_hidden_commit_is_found_out_and_its_tables_stay_out_of_reach(
    ending: str, wall: Wall, seat: Connection
) -> None:
    # With standard_conforming_strings off the server reads on where we see a string end, and
    # ends its statement where we see a string in dollars.
    hidden = f"{TABLE}SET standard_conforming_strings = off; SELECT 'a\\', $$'; {ending}; --$$"

    refused = await wall.refusal(hidden)

    assert refused.what == "it begins or ends a transaction"  # found out by its id, not by words
    if await wall.tables():
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await seat.fetch("SELECT FROM shop.t")
    assert await wall.apply(TABLE.replace("TABLE", "TABLE IF NOT EXISTS")) is True
    assert await seat.fetch("SELECT FROM shop.t") == []


@pytest.mark.parametrize("write", ["UPDATE shop.a SET id = 2", "TRUNCATE shop.a"])
async def test_the_owner_cannot_touch_rows_in_the_file(write: str, wall: Wall) -> None:
    await wall.apply(ONE_TABLE)
    await wall.daemon.execute("INSERT INTO shop.a (tenant_id, id) VALUES ('acme', 1)")

    for sql in (write, f"DO $$ BEGIN {write}; END $$"):
        refused = await wall.refusal(f"SELECT 1;\n{sql}")
        assert "DDL only" in refused.why
        assert "by DEFAULT" in refused.next_step
        assert refused.line == 2

    assert await wall.daemon.fetchval("SELECT id FROM shop.a") == 1


async def test_a_file_that_ends_its_own_backend_is_refused_like_any_other(wall: Wall) -> None:
    refused = await wall.refusal("SELECT 1;\nSELECT pg_terminate_backend(pg_backend_pid())")

    assert "the connection was lost" in refused.why
    assert refused.line == 2
    assert await wall.apply(ONE_TABLE) is True


async def test_a_character_that_cannot_be_stored_is_refused_with_its_line(wall: Wall) -> None:
    refused = await wall.refusal("SELECT 1;\nSELECT '\0'")

    assert refused.line == 2


@pytest.mark.parametrize("name", ["public", "harvestd", "harvestd_api", "pg_shop", "Shop", "a b"])
async def test_a_reserved_or_impossible_name_is_refused(name: str, wall: Wall) -> None:
    refused = await wall.refusal("SELECT 1", name)

    assert "rename its folder" in refused.next_step


async def test_a_schema_of_somebody_else_is_refused_with_its_owner(
    wall: Wall, admin: Connection
) -> None:
    await admin.execute("CREATE SCHEMA shop; CREATE TABLE shop.order (id int)")

    refused = await wall.refusal(ONE_TABLE)

    assert refused.what == "the schema shop belongs to postgres"
    assert await wall.tables() == ["order"]


async def test_a_clone_gets_its_own_roles_and_keeps_the_rows(
    server: Cluster, database_url: str
) -> None:
    async with wall_at(database_url) as original:
        await original.apply(GOOD)
        await fill(original)
    name = await create_database(server, template=database_of(database_url))
    try:
        async with wall_at(server.url(name)) as clone:
            assert clone.roles != original.roles
            assert await clone.apply(GOOD)
            assert await clone.daemon.fetchval("SELECT count(*) FROM shop.customer") == 2
            rows = await clone.daemon.fetch(
                "SELECT DISTINCT role.rolname::text, pg_describe_object(classid, objid, objsubid),"
                " deptype FROM pg_shdepend"
                " JOIN pg_roles AS role ON role.oid = refobjid"
                " JOIN pg_database AS base ON base.oid = dbid"
                " WHERE datname = current_database() AND starts_with(role.rolname, $1)",
                original.roles.prefix,
            )
            assert [tuple(row) for row in rows] == []
            async with a_login(clone, member_of=clone.roles.reader) as reader:
                assert await reader.fetchval("SELECT count(*) FROM shop.buyer") == 2
    finally:
        await drop_database(server, name)


async def test_a_restored_schema_that_the_daemon_may_not_take_over_is_left_to_an_administrator(
    wall: Wall, admin: Connection
) -> None:
    await wall.apply(ONE_TABLE)
    await admin.execute("ALTER SCHEMA shop OWNER TO postgres; ALTER TABLE shop.a OWNER TO postgres")
    await admin.execute("UPDATE harvestd.source_schema SET hex = '00000000'")

    refused = await wall.refusal(ONE_TABLE)

    assert "a database administrator runs: " in refused.next_step
    await admin.execute(refused.next_step.partition("runs: ")[2])
    assert await wall.apply(ONE_TABLE) is True
