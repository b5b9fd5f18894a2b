"""The empty schema that a file runs on: held up by nobody, kept by nothing, made for its owner."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.loading.files import BEFORE, definition
from tests.loading.walls import Connection, Wall, bind


@asynccontextmanager
async def held_up(kept: Wall, admin: Connection) -> AsyncIterator[None]:
    """An apply that waits at the end of its run on an empty schema, until the block ends."""
    await admin.execute("SELECT pg_advisory_lock(4711)")
    waits = "DO $$ BEGIN PERFORM pg_advisory_xact_lock(4711); END $$"
    applying = asyncio.create_task(kept.apply(f"{BEFORE}; {waits}"))
    async with asyncio.timeout(30):
        await admin.execute(
            f"""DO $$ BEGIN WHILE NOT EXISTS (
                SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                WHERE NOT granted AND objid = 4711 AND usename = '{kept.roles.source("shop")}')
            LOOP PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$"""
        )
        yield
        await admin.execute("SELECT pg_advisory_unlock(4711)")
        assert await applying is True


async def test_a_seat_goes_on_reading_and_writing_while_the_file_runs_on_an_empty_schema(
    kept: Wall, seat: Connection, admin: Connection
) -> None:
    await bind(kept, seat, "acme")
    write = await seat.prepare("INSERT INTO shop.t (id, n) VALUES ($1, $2)")
    await write.fetch(2, 2)
    oid = await admin.fetchval("SELECT 'shop.t'::regclass::oid")
    await seat.execute("SET lock_timeout = '1s'")

    async with held_up(kept, admin):
        await write.fetch(3, 3)
        await seat.execute("INSERT INTO shop.u (id, t_id) VALUES (1, 3)")
        assert await seat.fetchval("SELECT count(*) FROM shop.v") == 3
        held = await admin.fetch(
            "SELECT DISTINCT mode FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE usename = $1 AND relation = $2",
            kept.roles.source("shop"),
            oid,
        )
        assert held == [], "no lock on the table there is"
        # DDL on it does not wait either, nor does a look at the schema by its name.
        await admin.execute(
            "SET lock_timeout = '1s'; ANALYZE shop.t; ALTER TABLE shop.t SET (fillfactor = 90)"
        )

    assert await kept.daemon.fetchval("SELECT count(*) FROM shop.t") == 3


@pytest.mark.parametrize(
    "attempt",
    [
        "SELECT harvestd_api.empty_schema('shop')",
        "SELECT harvestd_api.empty_schema('shop'); DISCARD TEMP",
        "SELECT harvestd_api.empty_schema('shop'); SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT harvestd_api.empty_schema('shop'); DROP TABLE pg_temp.harvestd_never_commits",
        "SELECT harvestd_api.empty_schema('shop'); DROP OWNED BY CURRENT_USER",
        "SELECT harvestd_api.empty_schema('shop');"
        " ALTER TABLE pg_temp.harvestd_never_commits DISABLE TRIGGER ALL",
        "SELECT harvestd_api.empty_schema('shop'); SET session_replication_role = replica",
        "CREATE TEMP TABLE harvestd_never_commits (n int);"
        " SELECT harvestd_api.empty_schema('shop')",
        "SELECT harvestd_api.empty_schema('farm')",
        "SELECT harvestd_api.empty_schema('public')",
        "SELECT harvestd_api.empty_schema('harvestd')",
    ],
)
async def test_no_file_can_put_its_schema_aside_for_good(
    attempt: str, kept: Wall, admin: Connection
) -> None:
    await kept.apply("CREATE TABLE IF NOT EXISTS farm.a (tenant_id text)", "farm")
    before = await definition(kept)

    await kept.refusal(f"{attempt};\n{BEFORE}")
    await kept.refusal(f"DO $x$ BEGIN\n{attempt.replace('SELECT', 'PERFORM')}; END $x$;\n{BEFORE}")
    # Where nobody wraps it, as in a file that found a way to end its transaction.
    owner = kept.roles.source("shop")
    await kept.daemon.execute(f"ALTER ROLE {owner} LOGIN PASSWORD 'known'")
    own = await kept.database.connect("file", user=owner, password="known")
    with pytest.raises(asyncpg.PostgresError):
        await own.execute(f"BEGIN; {attempt}; COMMIT")
    await own.close()

    assert await definition(kept) == before
    assert await kept.tables() == ["t", "u"]


async def test_a_seat_may_not_put_a_schema_aside(kept: Wall, seat: Connection) -> None:
    before = await definition(kept)

    with pytest.raises(asyncpg.PostgresError, match="not the own schema"):
        await seat.execute("SELECT harvestd_api.empty_schema('shop')")

    assert await definition(kept) == before


async def test_where_the_daemon_may_make_no_schema_the_file_is_applied_and_that_is_said(
    kept: Wall, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "harvestd.loading.schemas.log.warning",
        lambda event, **fields: warned.append((event, fields["what"])),
    )
    name = await admin.fetchval("SELECT quote_ident(current_database())")
    await admin.execute(f"REVOKE CREATE ON DATABASE {name} FROM app")

    assert await kept.apply(BEFORE.replace("n         int,", "n int, size int,")) is True

    assert [event for event, _ in warned] == ["schema_not_compared"]
    assert "permission denied for database" in warned[0][1]


async def test_the_role_that_migrated_may_be_another_than_that_of_the_daemon(
    kept: Wall, admin: Connection
) -> None:
    name = await admin.fetchval("SELECT quote_ident(current_database())")
    keeper = f"keeper_{secrets.token_hex(4)}"
    await admin.execute(
        f"CREATE ROLE {keeper}; GRANT {keeper} TO app; GRANT CREATE ON DATABASE {name} TO {keeper};"
        f"GRANT USAGE, CREATE ON SCHEMA harvestd_api TO {keeper};"
        f"ALTER FUNCTION harvestd_api.empty_schema(text) OWNER TO {keeper}"
    )
    try:
        refused = await kept.refusal(BEFORE.replace("n         int,", "n int, size int,"))
        assert refused.what == "the column shop.t.size is missing"
    finally:
        await admin.execute(f"REASSIGN OWNED BY {keeper} TO app")
        await admin.execute(f"DROP OWNED BY {keeper}; DROP ROLE {keeper}")
