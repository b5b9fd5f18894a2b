"""harvestd migrate --harden: what everybody may do no more, and that harvestd goes on."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import nullcontext

import asyncpg
import pytest

from harvestd.database.logins import ensure_seat, scram_verifier
from harvestd.database.pool import Database, closing
from harvestd.errors import DatabaseError
from harvestd.loading.schemas import apply_source_schema
from tests.builders import made_roles, query
from tests.cli.shell import Done, harvestd
from tests.clusters import DAEMON_ROLE, Cluster, database_of
from tests.keepers import make_keeper, without_createrole
from tests.loading.dbs import a_shop
from tests.processes import ROOT

SCHEMA = "CREATE TABLE shop.item (tenant_id text, id bigint, PRIMARY KEY (tenant_id, id));"
LATER = SCHEMA.replace("shop", "later")
TAKEN = (
    "SELECT pg_catalog.pg_advisory_lock(1)",
    "SELECT pg_catalog.pg_try_advisory_xact_lock_shared(1, 2)",
    "SELECT pg_catalog.pg_sleep(0)",
    "SELECT pg_catalog.pg_notify('a', 'b')",
    "SELECT pg_catalog.lo_create(0)",
    "SELECT pg_catalog.pg_stat_get_activity(NULL)",
    "SELECT pg_catalog.pg_logical_emit_message(false, 'a', 'b')",
)
# Also those that take a file of the server or a descriptor: whatever PostgreSQL brings one day.
LARGE_OBJECT_FUNCTIONS = """
    SELECT function.oid::regprocedure::text AS name,
           (SELECT string_agg(CASE given.type
                WHEN 'bytea'::regtype THEN $$'x'::bytea$$
                WHEN 'text'::regtype THEN $$'/etc/hostname'$$
                WHEN 'oid'::regtype THEN '{large}'
                ELSE '131072' END, ', ' ORDER BY given.place)
            FROM unnest(function.proargtypes) WITH ORDINALITY AS given (type, place)) AS arguments,
           function.proname AS called
    FROM pg_catalog.pg_proc AS function
    WHERE function.pronamespace = 'pg_catalog'::regnamespace
      AND function.proname ~ '^(lo_|loread|lowrite)'
"""


@pytest.fixture
async def crm(server: Cluster) -> AsyncIterator[str]:
    """A login of another program that connects because everybody may."""
    name = f"crm_{secrets.token_hex(4)}"
    await query(server.admin_url(), f"CREATE ROLE {name} LOGIN PASSWORD '{server.password}'")
    yield name
    await query(server.admin_url(), f"DROP ROLE {name}")


async def run_as_superuser(server: Cluster, url: str, statements: str) -> None:
    """As one psql does it: what is commented out is not run."""
    async with closing(await asyncpg.connect(server.admin_url(database_of(url)))) as admin:
        await admin.execute(statements)


async def harden_wholly(server: Cluster, url: str) -> None:
    """Also what other logins lose by: those of other tests are no concern here."""
    done = await harvestd("migrate", "--harden", "--json", url=url)
    await run_as_superuser(server, url, ";".join(done.json["hardening"]))


def hardening_of(doctor: Done) -> list[str]:
    return [one["what"] for one in doctor.json["findings"] if one["check"] == "hardening"]


async def test_after_the_statements_a_seat_has_them_no_more_and_loading_goes_on(
    server: Cluster, database: Database, database_url: str
) -> None:
    roles = await made_roles(database_url)
    first = await harvestd("migrate", "--harden", url=database_url)
    await harden_wholly(server, database_url)
    again = await harvestd("migrate", "--harden", "--json", url=database_url)
    doctor = await harvestd("doctor", "--json", url=database_url)
    async with a_shop(database, database_url, SCHEMA) as shop:
        db = await shop.db_of("acme")
        await db.upsert("item", [{"id": 1}], ["id"])
        for statement in TAKEN:
            with pytest.raises(DatabaseError, match="permission denied for function"):
                async with db.transaction() as connection:
                    await connection.execute(statement)
        await db.upsert("item", ({"id": number} for number in range(2, 5_000)), ["id"])
    # And again with another version of the file: it is compared with an empty schema.
    await apply_source_schema(
        database, roles, source="shop", schema_sql=SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS")
    )

    assert (first.code, again.code) == (1, 0)
    assert "a superuser runs" in first.err
    assert again.json["hardening"] == []
    assert hardening_of(doctor) == ["done, as migrate --harden does it"]
    assert len(await query(database_url, "SELECT FROM shop.item")) == 4_999


async def test_nobody_else_connects_or_makes_temporary_tables_and_readers_do(
    server: Cluster, database: Database, database_url: str, crm: str
) -> None:
    roles = await made_roles(database_url)
    await apply_source_schema(database, roles, source="shop", schema_sql=SCHEMA)
    await harden_wholly(server, database_url)
    address = server.url(database_of(database_url), crm)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        await asyncpg.connect(address)
    added = await harvestd("reader", "add", crm, url=database_url)
    async with closing(await asyncpg.connect(address)) as reader:
        await reader.execute("CREATE TEMPORARY TABLE seen AS SELECT * FROM shop.item")
    removed = await harvestd("reader", "remove", crm, url=database_url)

    assert (added.code, removed.code) == (0, 0)


async def test_a_superuser_hardens_at_once_but_locks_no_login_out(
    server: Cluster, database_url: str, crm: str
) -> None:
    admin, base = server.admin_url(database_of(database_url)), database_of(database_url)
    before = await harvestd("migrate", "--harden", "--dry-run", url=admin)
    done = await harvestd("migrate", "--harden", url=admin)
    as_json = await harvestd("migrate", "--harden", "--json", url=admin)
    await run_as_superuser(server, database_url, f"{done.out} SELECT 1")
    await (await asyncpg.connect(server.url(base, crm))).close()
    doctor = await harvestd("doctor", "--json", url=database_url)
    kept = {
        statement.partition(" FROM ")[0].removeprefix("REVOKE "): ", ".join(losers)
        for statement, losers in as_json.json["losers"].items()
    }
    for right, names in kept.items():
        await run_as_superuser(server, database_url, f"GRANT {right} TO {names}")
    again = await harvestd("migrate", "--harden", url=admin)
    await (await asyncpg.connect(server.url(base, crm))).close()
    for right, names in kept.items():
        await run_as_superuser(server, database_url, f"REVOKE {right} FROM {names}")

    assert before.code == 1
    assert done.code == 1
    assert f"-- REVOKE CONNECT ON DATABASE {base} FROM PUBLIC;  -- takes it from" in done.out
    assert "hardened but for the above" in done.err
    assert "taken from everybody: pg_catalog.pg_advisory_lock(bigint)" in done.err
    assert "taken from everybody: CONNECT" not in done.err
    assert hardening_of(doctor) == [
        "everybody may connect to this database, make temporary tables in it "
        "(docs/wall.md: migrate --harden)"
    ]
    assert as_json.json["hardening"] == list(as_json.json["losers"])
    assert all(crm in losers for losers in as_json.json["losers"].values())
    assert DAEMON_ROLE not in str(as_json.json["losers"])
    assert (again.code, again.out) == (0, "")
    assert "hardened" in again.err


@pytest.mark.parametrize("by", ["statements", "a keeper"])
async def test_new_seats_and_sources_are_made_by_who_only_may_create_in_a_hardened_database(
    server: Cluster, migrated_database: str, by: str
) -> None:
    url, base = migrated_database, database_of(migrated_database)
    admin = server.admin_url(base)
    await query(admin, f"ALTER DATABASE {base} OWNER TO postgres")
    await query(admin, f"GRANT CREATE, CONNECT ON DATABASE {base} TO {DAEMON_ROLE}")
    if by == "a keeper":
        await make_keeper(server, url)
    async with (
        without_createrole(server) if by == "a keeper" else nullcontext(),
        Database(url) as database,
    ):
        roles = await made_roles(url)
        await harden_wholly(server, url)
        await apply_source_schema(database, roles, source="later", schema_sql=LATER)
        async with closing(await database.connect("test")) as connection:
            await ensure_seat(connection, roles, 3, scram_verifier("word"))
        seat = await asyncpg.connect(server.url(base, roles.seat(3), "word"))
        await seat.execute("CREATE TEMPORARY TABLE staging (x int)")
        await seat.close()


async def test_it_is_undone_as_the_page_says(server: Cluster, database_url: str) -> None:
    await made_roles(database_url)
    before = await harvestd("migrate", "--harden", "--json", url=database_url)
    await harden_wholly(server, database_url)
    page = (ROOT / "docs" / "wall.md").read_text(encoding="utf-8")
    await run_as_superuser(server, database_url, page.partition("```sql\n")[2].partition("```")[0])
    after = await harvestd("migrate", "--harden", "--json", url=database_url)

    taken = [one for one in before.json["hardening"] if one.startswith("REVOKE")]
    assert len(taken) > 20
    assert after.json["hardening"] == taken


async def test_no_function_that_everybody_may_call_makes_or_writes_large_objects(
    server: Cluster, database: Database, database_url: str
) -> None:
    roles = await made_roles(database_url)
    await harden_wholly(server, database_url)
    admin = server.admin_url(database_of(database_url))
    await query(admin, "SELECT pg_catalog.lo_from_bytea(4711, 'theirs')")
    await query(admin, "GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC")
    stored = "SELECT loid, pageno, data FROM pg_largeobject ORDER BY 1, 2"
    before = await query(admin, stored)
    async with closing(await database.connect("test")) as connection:
        await ensure_seat(connection, roles, 3, scram_verifier("word"))
    refused = 0
    address = server.url(database_of(database_url), roles.seat(3), "word")
    async with closing(await asyncpg.connect(address)) as seat:
        for large in ("4711", "4712", "0"):
            for row in await query(admin, LARGE_OBJECT_FUNCTIONS.format(large=large)):
                try:
                    await seat.execute(
                        "SELECT pg_catalog.lo_open(4711, 262144);"
                        f"SELECT pg_catalog.{row['called']}({row['arguments']})"
                    )
                except asyncpg.PostgresError:
                    refused += 1

    assert await query(admin, stored) == before
    assert refused > 10
    await query(admin, "SELECT pg_catalog.lo_unlink(4711)")
