"""What a finished schema.sql lets a seat, a reader, the daemon and its owner do."""

from __future__ import annotations

import secrets

import asyncpg
import pytest

from harvestd.errors import EntryRefused
from tests.loading.walls import GOOD, ONE_TABLE, Connection, Wall, a_login, bind, fill


async def test_a_bound_seat_has_its_own_tenants_rows_and_no_others(
    wall: Wall, seat: Connection
) -> None:
    await wall.apply(GOOD)
    await fill(wall)
    run_no = await bind(wall, seat, "acme")

    assert await seat.fetchval("SELECT array_agg(name) FROM shop.customer") == ["acme"]
    assert await seat.fetchval("SELECT array_agg(name) FROM shop.buyer") == ["acme"]
    await seat.execute(
        "INSERT INTO shop.customer AS stored (id, name) VALUES (1, 'new'), (2, 'two')"
        " ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, written_at = now(),"
        " deleted_at = NULL"
    )
    await seat.execute("INSERT INTO shop.purchase (id, customer_id) VALUES ('q', 2)")
    await seat.execute("INSERT INTO shop.visit DEFAULT VALUES")
    for foreign in (
        "INSERT INTO shop.customer (tenant_id, id, name) VALUES ('bolt', 9, 'x')",
        "UPDATE shop.customer SET tenant_id = 'bolt'",
        "DELETE FROM shop.customer",
        "UPDATE shop.customer SET id = 3",
        "DO $$ BEGIN LOCK TABLE shop.customer IN ACCESS EXCLUSIVE MODE; END $$",
        "TRUNCATE shop.visit",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await seat.execute(foreign)
    assert await seat.execute("UPDATE shop.customer SET name = 'x' WHERE id = 1") == "UPDATE 1"

    await wall.daemon.execute(
        "UPDATE public.data_source_run SET fence = fence + 1 WHERE run_no = $1", run_no
    )
    with pytest.raises(asyncpg.PostgresError) as lost:
        await seat.execute("INSERT INTO shop.visit DEFAULT VALUES")
    assert lost.value.sqlstate == "HD001"
    names = await wall.daemon.fetch("SELECT tenant_id, name FROM shop.customer ORDER BY 1, 2")
    assert [tuple(row) for row in names] == [("acme", "two"), ("acme", "x"), ("bolt", "bolt")]


async def test_a_seat_writes_to_no_other_sources_schema(wall: Wall, seat: Connection) -> None:
    await wall.apply(ONE_TABLE)
    await wall.apply(ONE_TABLE.replace("shop", "farm"), "farm")
    await bind(wall, seat, "acme", "farm")

    with pytest.raises(asyncpg.PostgresError) as refused:
        await seat.execute("INSERT INTO shop.a (id) VALUES (1)")

    assert refused.value.sqlstate == "HD003"
    assert await seat.execute("INSERT INTO farm.a (id) VALUES (1)") == "INSERT 0 1"


async def test_a_seat_without_a_binding_reads_nothing_and_changes_nothing(
    wall: Wall, seat: Connection
) -> None:
    await wall.apply(GOOD)
    await fill(wall)

    assert await seat.fetchval("SELECT count(*) FROM shop.customer") == 0
    assert await seat.fetchval("SELECT count(*) FROM shop.buyer") == 0
    for attempt in (
        "INSERT INTO shop.customer (tenant_id, id, name) VALUES ('acme', 2, 'x')",
        "UPDATE shop.customer SET name = 'x'",
        "DELETE FROM shop.customer",
        "TRUNCATE shop.customer CASCADE",
        "ALTER TABLE shop.customer DISABLE TRIGGER harvestd_guard",
        "ALTER TABLE shop.customer DISABLE ROW LEVEL SECURITY",
        "DROP POLICY harvestd_tenant ON shop.customer",
        "CREATE TABLE shop.mine ()",
        f"SET ROLE {wall.roles.source('shop')}",
        f"GRANT {wall.roles.daemon} TO CURRENT_USER",
        "SET session_replication_role = replica",
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await seat.execute(attempt)
        assert refused.value.sqlstate in ("42501", "HD001"), attempt

    assert await wall.daemon.fetchval("SELECT count(*) FROM shop.customer") == 2


async def test_a_reader_sees_every_tenants_rows_and_writes_none(wall: Wall) -> None:
    await wall.apply(GOOD)
    await fill(wall)

    async with a_login(wall, member_of=wall.roles.reader) as reader:
        assert await reader.fetchval("SELECT count(*) FROM shop.customer") == 2
        assert await reader.fetchval("SELECT count(*) FROM shop.buyer") == 2
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("INSERT INTO shop.visit (tenant_id) VALUES ('acme')")


async def test_a_role_that_joined_nothing_sees_nothing(wall: Wall) -> None:
    await wall.apply(GOOD)
    await fill(wall)

    async with a_login(wall) as stranger:
        for name in ("customer", "buyer"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await stranger.fetch(f"SELECT FROM shop.{name}")


async def test_the_daemon_deletes_through_a_cascade(wall: Wall) -> None:
    await wall.apply(GOOD)
    await fill(wall)

    await wall.daemon.execute("DELETE FROM shop.customer WHERE tenant_id = 'acme'")

    rows = await wall.daemon.fetch("SELECT tenant_id FROM shop.purchase")
    assert [row[0] for row in rows] == ["bolt"]


async def test_nobody_can_log_in_as_the_owner_afterwards(wall: Wall) -> None:
    known = secrets.token_urlsafe(12)
    await wall.apply(f"{ONE_TABLE}; ALTER ROLE CURRENT_USER PASSWORD '{known}'")

    with pytest.raises(EntryRefused, match="does not take the password"):
        await wall.database.connect("thief", user=wall.roles.source("shop"), password=known)
