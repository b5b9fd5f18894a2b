"""What plugin SQL did to others before it was closed: each was seen to work."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack

import asyncpg
import pytest

from harvestd.database.pool import Database
from harvestd.errors import LeaseLost
from harvestd.loading.breaches import find_breaches
from tests.builders import made_roles, query
from tests.clusters import HARDENED_VARIABLE, Cluster
from tests.loading.dbs import Shop, a_shop
from tests.loading.walls import a_login, wall_at

ITEM = """
CREATE TABLE shop.item (tenant_id text, id bigint, word text, PRIMARY KEY (tenant_id, id));
"""
ONE_ROW = [{"id": 1, "word": "of globex"}]
BACKEND = "SELECT session_user || '/' || pg_backend_pid()"
POLICIES = "SELECT polname::text, polroles::regrole[]::text FROM pg_policy ORDER BY 1"


async def run_sql(shop: Shop, tenant_id: str, *statements: str) -> None:
    """A run that sends them, each by itself, and ends."""
    db = await shop.db_of(tenant_id, f"script_of_{tenant_id}")
    for statement in statements:
        await db.fetch(statement)


async def test_no_seat_reads_or_writes_as_whom_it_worked_for_when_a_snapshot_was_taken(
    database: Database, database_url: str
) -> None:
    async with a_shop(database, database_url, ITEM) as shop:
        globex = await shop.claims_run_of("globex")
        await shop.db(globex).upsert("item", ONE_ROW, ["id"])
        await shop.db(globex).set_bookmark("mark", "of globex")
        one, other = await shop.db_of("acme", "one"), await shop.db_of("acme", "other")
        async with AsyncExitStack() as stack:
            async with shop.db(globex).transaction() as theirs:
                before = await theirs.fetchval(BACKEND)
                keeping = await stack.enter_async_context(one.transaction())  # the second seat
                await keeping.execute("COMMIT")
                await keeping.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                snapshot = await keeping.fetchval("SELECT pg_export_snapshot()")
            async with other.transaction() as connection:
                assert await connection.fetchval(BACKEND) == before
                await connection.execute("COMMIT")
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                told = await connection.fetchval("SELECT harvestd_api.tenant()")
                rows = await connection.fetch("SELECT * FROM item")
                bookmark = await connection.fetchval("SELECT harvestd_api.bookmark('mark')")
                with pytest.raises(LeaseLost):
                    await connection.execute("INSERT INTO item (id, word) VALUES (2, 'forged')")
                await connection.execute("ROLLBACK")
                await connection.execute("BEGIN")
        assert (told, rows, bookmark) == (None, [], None)
        assert await shop.rows("SELECT tenant_id, id, word FROM shop.item") == [
            ("globex", 1, "of globex")
        ]


async def test_a_transaction_that_sees_one_moment_reads_and_writes_its_own_tenants_rows(
    database: Database, database_url: str
) -> None:
    async with a_shop(database, database_url, ITEM, seats_max=1) as shop:
        await run_sql(shop, "globex", "SELECT 1")  # so that the binding is one that was replaced
        async with (await shop.db_of("acme")).transaction() as connection:
            await connection.execute("SELECT 1")
            await connection.execute("COMMIT")
            await connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            await connection.execute("INSERT INTO item (id, word) VALUES (1, 'mine')")
            assert await connection.fetchval("SELECT word FROM item") == "mine"
        assert await shop.rows("SELECT tenant_id FROM shop.item") == [("acme",)]


@pytest.mark.parametrize("whose", ["exec", "seat"])
async def test_no_seat_drops_the_policy_of_all_tenants(
    whose: str, database: Database, database_url: str
) -> None:
    roles = await made_roles(database_url)
    role = roles.exec if whose == "exec" else roles.seat(1)
    async with a_shop(database, database_url, ITEM, seats_max=1) as shop:
        before = await query(database_url, POLICIES)
        await run_sql(shop, "acme", f"DROP OWNED BY {role} CASCADE")

        assert await query(database_url, POLICIES) == before
        await (await shop.db_of("globex")).upsert("item", ONE_ROW, ["id"])
        assert await shop.rows("SELECT tenant_id FROM shop.item") == [("globex",)]


LARGE = pytest.mark.skipif(
    bool(os.environ.get(HARDENED_VARIABLE)), reason="no seat makes large objects there"
)
MANY = "SELECT count(lo_from_bytea(0, 'x')) FROM generate_series(1, 30000)"


@LARGE
async def test_more_large_objects_than_one_transaction_can_remove_are_removed_all_the_same(
    database: Database, database_url: str
) -> None:
    async with a_shop(database, database_url, ITEM, seats_max=1) as shop:
        await run_sql(shop, "acme", MANY)
        await (await shop.db_of("globex")).upsert("item", ONE_ROW, ["id"])

        assert await shop.rows("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]


@LARGE
async def test_a_large_object_of_the_role_that_all_seats_have_in_common_is_removed(
    server: Cluster, database: Database, database_url: str
) -> None:
    if server.major >= 16:
        pytest.skip("no seat can give anything to that role")
    roles = await made_roles(database_url)
    async with a_shop(database, database_url, ITEM, seats_max=1) as shop:
        await run_sql(
            shop, "acme", f"SET ROLE {roles.exec}", "SELECT lo_from_bytea(0, 'x')", "RESET ROLE"
        )
        await run_sql(shop, "globex", "SELECT 1")

        assert await shop.rows("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]


STANDING = (
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO pg_monitor",
    "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM CURRENT_USER",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO CURRENT_USER WITH GRANT OPTION",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT ALL ON TABLES TO PUBLIC, pg_monitor",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON SEQUENCES TO CURRENT_USER",
)


async def test_default_privileges_of_a_run_are_gone_before_the_next(
    database: Database, database_url: str
) -> None:
    standing = "SELECT defaclobjtype, defaclacl::text FROM pg_default_acl"
    async with a_shop(database, database_url, ITEM, seats_max=1) as shop:
        await run_sql(shop, "acme", *STANDING)
        assert len(await shop.rows(standing)) > 1
        await run_sql(shop, "globex", "SELECT 1")

        assert await shop.rows(standing) == []


async def test_the_next_attempt_of_a_run_finds_nothing_of_the_last(
    database: Database, database_url: str
) -> None:
    async with a_shop(database, database_url, ITEM, seats_max=1) as shop:
        first = await shop.claims_run_of("acme")
        await shop.db(first).fetch("SET statement_timeout = '1ms'")
        raised = "UPDATE data_source_run SET fence = fence + 1 WHERE run_no = $1"
        await shop.rows(raised, first.run_no)
        second = shop.db(first._replace(fence=first.fence + 1))

        assert await second.fetchval("SHOW statement_timeout") == "0"


async def test_a_reader_who_drops_the_policy_of_readers_shows_nobody_more(
    database: Database, database_url: str
) -> None:
    async with a_shop(database, database_url, ITEM), wall_at(database_url) as wall:
        async with a_login(wall, member_of=wall.roles.reader) as reader:
            await reader.execute(f"DROP OWNED BY {wall.roles.reader}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch("SELECT * FROM shop.item")
        found = await find_breaches(wall.daemon, wall.roles)

    assert [one.what for one in found] == ["shop.item: policy harvestd_reader: missing"]
