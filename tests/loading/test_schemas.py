"""schema.sql: run by the source's own role, inspected, and finished into the wall."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from harvestd.catalog.discover import bundled_plugin_dir
from harvestd.database import step
from harvestd.database.pool import LOST, Database, closing
from harvestd.database.roles import Roles, ensure_roles, ensure_seat, scram_verifier
from harvestd.errors import EntryRefused, SchemaRefused
from harvestd.loading.inspection import PROBLEMS
from harvestd.loading.schemas import apply_source_schema
from tests.clusters import Cluster, create_database, database_of, drop_database

Connection: TypeAlias = "asyncpg.Connection[Any]"

GOOD = """
-- What the shop keeps.
CREATE SCHEMA IF NOT EXISTS shop;

CREATE TYPE shop.mood AS ENUM ('calm', 'cross');
CREATE DOMAIN shop.cents AS bigint CHECK (VALUE >= 0);
CREATE TABLE IF NOT EXISTS customer (
    tenant_id text NOT NULL,
    id        bigint NOT NULL,
    name      text NOT NULL,
    mood      shop.mood,
    shout     text GENERATED ALWAYS AS (upper(name)) STORED,
    CONSTRAINT customer_pkey PRIMARY KEY (tenant_id, id)
);
CREATE TABLE IF NOT EXISTS shop.purchase (
    tenant_id   text,
    row_no      bigint GENERATED ALWAYS AS IDENTITY,
    id          text NOT NULL,
    customer_id bigint,
    price       shop.cents DEFAULT 0,
    UNIQUE (tenant_id, id) INCLUDE (price),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES shop.customer (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS purchase_customer ON shop.purchase (tenant_id, customer_id);
CREATE TABLE IF NOT EXISTS shop.visit (
    tenant_id text,
    visit_no  bigserial,
    seen_at   timestamptz DEFAULT now()
);
CREATE OR REPLACE VIEW shop.buyer WITH (security_invoker) AS
    SELECT customer.name, purchase.price
    FROM shop.customer JOIN shop.purchase
      ON purchase.tenant_id = customer.tenant_id AND purchase.customer_id = customer.id;
"""
SHIPPED = sorted(bundled_plugin_dir().glob("*/schema.sql"))
ONE_TABLE = (
    "CREATE TABLE IF NOT EXISTS shop.a (tenant_id text, id int, PRIMARY KEY (tenant_id, id))"
)


@dataclass(frozen=True, slots=True)
class Wall:
    """A database as the daemon finds it, and the daemon's own connection to it."""

    database: Database
    roles: Roles
    daemon: Connection
    url: str

    async def apply(self, sql: str, source: str = "shop") -> bool:
        return await apply_source_schema(self.database, self.roles, source=source, schema_sql=sql)

    async def refusal(self, sql: str, source: str = "shop") -> SchemaRefused:
        with pytest.raises(SchemaRefused) as refused:
            await self.apply(sql, source)
        return refused.value

    async def tables(self, schema: str = "shop") -> list[str]:
        rows = await self.daemon.fetch(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema
        )
        return [row[0] for row in rows]


@asynccontextmanager
async def wall_at(url: str) -> AsyncIterator[Wall]:
    async with closing(await asyncpg.connect(url)) as connection:
        yield Wall(Database(url), await ensure_roles(connection), connection, url)


@pytest.fixture
async def wall(database_url: str) -> AsyncIterator[Wall]:
    async with wall_at(database_url) as made:
        yield made


@pytest.fixture
async def admin(server: Cluster, wall: Wall) -> AsyncIterator[Connection]:
    """A superuser in the same database."""
    connection = await asyncpg.connect(server.admin_url(database_of(wall.url)))
    yield connection
    await connection.close()


@pytest.fixture
async def seat(wall: Wall) -> AsyncIterator[Connection]:
    """A login for plugin SQL, bound to nothing."""
    password = secrets.token_urlsafe(12)
    await ensure_seat(wall.daemon, wall.roles, 1, scram_verifier(password))
    name = wall.roles.seat(1)
    connection = await wall.database.connect("seat", user=name, password=password)
    yield connection
    await connection.close()


@asynccontextmanager
async def a_login(wall: Wall, *, member_of: str | None = None) -> AsyncIterator[Connection]:
    """A fresh login of the customer's."""
    name, password = f"login_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    await wall.daemon.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        if member_of:
            await wall.daemon.execute(f"GRANT {member_of} TO {name}")
        connection = await wall.database.connect("customer", user=name, password=password)
        yield connection
        await connection.close()
    finally:
        await wall.daemon.execute(f"DROP ROLE {name}")


async def bind(wall: Wall, seat: Connection, tenant_id: str, source: str = "shop") -> int:
    """Bind the seat's backend to a run of the tenant; answers its run_no."""
    replica = uuid4()
    run_no = await wall.daemon.fetchval(
        "INSERT INTO public.data_source_run"
        " (tenant_id, data_source, script, status, fence, replica_id)"
        " VALUES ($1, $2, 'order', 'RUNNING', 1, $3) RETURNING run_no",
        tenant_id,
        source,
        replica,
    )
    bound = await wall.daemon.execute(
        "INSERT INTO harvestd.binding (pid, seat, backend_start, run_no, fence, replica_id,"
        " tenant_id, data_source, script)"
        " SELECT pid, usename, backend_start, $2, 1, $3, $4, $5, 'order'"
        " FROM pg_stat_get_activity($1) JOIN pg_user USING (usesysid)",
        seat.get_server_pid(),
        run_no,
        replica,
        tenant_id,
        source,
    )
    assert bound == "INSERT 0 1"
    return int(run_no)


async def fill(wall: Wall) -> None:
    for tenant in ("acme", "bolt"):
        await wall.daemon.execute(
            "INSERT INTO shop.customer (tenant_id, id, name) VALUES ($1, 1, $1)", tenant
        )
        await wall.daemon.execute(
            "INSERT INTO shop.purchase (tenant_id, id, customer_id) VALUES ($1, 'p', 1)", tenant
        )


# What runs


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
        ALTER TABLE shop.a DISABLE TRIGGER harvestd_guard, NO FORCE ROW LEVEL SECURITY;
        DROP POLICY harvestd_tenant ON shop.a;
        ALTER POLICY harvestd_reader ON shop.a USING (false);
        ALTER TABLE shop.a ALTER tenant_id DROP DEFAULT, DROP COLUMN written_at;
        GRANT ALL ON shop.a TO {wall.roles.exec};
        GRANT ALL ON SCHEMA shop TO {wall.roles.exec}"""

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


# Who may do what


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
        assert refused.value.sqlstate in ("42501", "HD003"), attempt

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


# What is refused

TABLE = "CREATE TABLE shop.t (tenant_id text, id int, PRIMARY KEY (tenant_id, id));\n"
FUNCTION = "CREATE FUNCTION shop.f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'"
TRIGGER = "CREATE FUNCTION shop.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"

REFUSED = {
    "function": (FUNCTION, "the function shop.f()", "is its scripts"),
    "procedure": (
        "CREATE PROCEDURE shop.p() LANGUAGE sql AS 'SELECT 1'",
        "the procedure shop.p()",
        "leave it out",
    ),
    "trigger": (
        f"{TABLE}{TRIGGER}; CREATE TRIGGER spy BEFORE INSERT ON shop.t EXECUTE FUNCTION shop.f()",
        "the trigger spy on shop.t",
        "DROP TRIGGER spy on shop.t",
    ),
    "rule": (
        f"{TABLE}CREATE RULE spy AS ON INSERT TO shop.t DO ALSO NOTHING",
        "the rule spy on shop.t",
        "DROP RULE spy on shop.t",
    ),
    "policy": (
        f"{TABLE}CREATE POLICY open ON shop.t USING (true)",
        "the policy open on shop.t",
        "DROP POLICY open on shop.t",
    ),
    "materialised view": (
        "CREATE MATERIALIZED VIEW shop.m AS SELECT 1 AS one",
        "the materialized view shop.m",
        "security_invoker = true",
    ),
    "definer view": (
        f"{TABLE}CREATE VIEW shop.v AS SELECT id FROM shop.t",
        "the view shop.v reads with its owner's rights",
        "ALTER VIEW shop.v SET (security_invoker = true)",
    ),
    "invoker off": (
        f"{TABLE}CREATE VIEW shop.v WITH (security_invoker=off) AS SELECT id FROM shop.t",
        "the view shop.v",
        "ALTER VIEW shop.v",
    ),
    "loose sequence": (
        "CREATE SEQUENCE shop.s",
        "the sequence shop.s belongs to no column",
        "OWNED BY a column",
    ),
    "no tenant_id": (
        "CREATE TABLE shop.t (id int)",
        "the table shop.t has no column tenant_id of type text",
        "tenant_id text NOT NULL",
    ),
    "wrong tenant_id": (
        "CREATE TABLE shop.t (tenant_id uuid)",
        "the table shop.t has no column tenant_id of type text",
        "tenant_id text NOT NULL",
    ),
    "generated tenant_id": (
        "CREATE TABLE shop.t (tenant_id text GENERATED ALWAYS AS ('acme') STORED)",
        "the table shop.t has no column tenant_id",
        "tenant_id text NOT NULL",
    ),
    "primary key": (
        "CREATE TABLE shop.t (tenant_id text, id int PRIMARY KEY)",
        "the key t_pkey on shop.t does not begin with tenant_id",
        "PRIMARY KEY (tenant_id, ...)",
    ),
    "unique key": (
        f"{TABLE}CREATE UNIQUE INDEX once ON shop.t (id, tenant_id)",
        "the key once on shop.t",
        "UNIQUE (tenant_id, ...)",
    ),
    "unique expression": (
        f"{TABLE}CREATE UNIQUE INDEX once ON shop.t (lower(tenant_id), id)",
        "the key once on shop.t",
        "UNIQUE (tenant_id, ...)",
    ),
    "exclusion": (
        "CREATE TABLE shop.t (tenant_id text, at int4range, EXCLUDE USING gist (at WITH &&))",
        "the exclusion t_at_excl on shop.t",
        "tenant_id WITH =",
    ),
    "foreign key": (
        f"{TABLE}CREATE TABLE shop.u (tenant_id text, a text, b int,"
        " FOREIGN KEY (a, b) REFERENCES shop.t (tenant_id, id))",
        "the foreign key u_a_b_fkey on shop.u",
        "FOREIGN KEY (tenant_id, ...) REFERENCES ... (tenant_id, ...)",
    ),
    "foreign key unsets": (
        f"{TABLE}CREATE TABLE shop.u (tenant_id text, b int, FOREIGN KEY (tenant_id, b)"
        " REFERENCES shop.t (tenant_id, id) ON DELETE SET NULL)",
        "the foreign key u_tenant_id_b_fkey on shop.u",
        "ON DELETE SET NULL (...)",
    ),
    "partitioned": (
        "CREATE TABLE shop.t (tenant_id text) PARTITION BY LIST (tenant_id);"
        "CREATE TABLE shop.t1 PARTITION OF shop.t DEFAULT",
        "the table shop.t is partitioned",
        "plain table",
    ),
    "inherits": (
        f"{TABLE}CREATE TABLE shop.u () INHERITS (shop.t)",
        "the table shop.u is partitioned, or inherits",
        "plain table",
    ),
    "typed": (
        "CREATE TYPE shop.c AS (tenant_id text); CREATE TABLE shop.t OF shop.c",
        "the table shop.t is made OF a type",
        "into CREATE TABLE",
    ),
    "range type": (
        "CREATE TYPE shop.span AS RANGE (subtype = float8)",
        "the range type shop.span",
        "two columns",
    ),
    "unlogged": (
        "CREATE UNLOGGED TABLE shop.t (tenant_id text)",
        "the table shop.t is unlogged",
        "ALTER TABLE shop.t SET LOGGED",
    ),
    "temporary": (
        "CREATE TEMP TABLE t (tenant_id text)",
        "the table pg_temp.t lies outside",
        "make it in the schema",
    ),
    "table name": (
        'CREATE TABLE shop."T t" (tenant_id text)',
        'shop."T t" is no name',
        "small letters",
    ),
    "column name": (
        'CREATE TABLE shop.t (tenant_id text, "Sum" int)',
        'shop.t."Sum" is no name',
        "small letters",
    ),
    "framework column": (
        "CREATE TABLE shop.t (tenant_id text, written_at text)",
        "shop.t.written_at belongs to the framework",
        "timestamptz",
    ),
    "default": (
        f"{FUNCTION}; CREATE TABLE shop.t (tenant_id text, n int DEFAULT shop.f())",
        "the default of shop.t.n (function shop.f()) calls",
        "function of pg_catalog",
    ),
    "check": (
        f"{FUNCTION}; CREATE TABLE shop.t (tenant_id text, n int CHECK (n > shop.f()))",
        "the constraint t_n_check on shop.t (function shop.f()) calls",
        "function of pg_catalog",
    ),
    "generated column": (
        f"{FUNCTION}; CREATE TABLE shop.t"
        " (tenant_id text, n int, m int GENERATED ALWAYS AS (n + shop.f()) STORED)",
        "the default of shop.t.m (function shop.f()) calls",
        "function of pg_catalog",
    ),
    "index": (
        f"{TABLE}{FUNCTION}; CREATE INDEX slow ON shop.t ((id + shop.f()))",
        "the index shop.slow (function shop.f()) calls",
        "function of pg_catalog",
    ),
    "domain": (
        f"{FUNCTION}; CREATE DOMAIN shop.d AS int CHECK (VALUE > shop.f())",
        "the constraint d_check on shop.d (function shop.f()) calls",
        "function of pg_catalog",
    ),
    "checkpoint in a default": (
        "CREATE TABLE shop.t (tenant_id text, n jsonb DEFAULT harvestd_api.bookmark('x'))",
        "the default of shop.t.n (function harvestd_api.bookmark(text)) calls",
        "function of pg_catalog",
    ),
    "grant to all": (
        f"{TABLE}GRANT SELECT ON shop.t TO PUBLIC",
        "PUBLIC has rights on the table shop.t",
        "REVOKE ALL ON TABLE shop.t FROM PUBLIC",
    ),
    "grant to a role": (
        f"{TABLE}GRANT TRUNCATE ON shop.t TO pg_monitor",
        "pg_monitor has rights on the table shop.t",
        "REVOKE ALL ON TABLE shop.t FROM pg_monitor",
    ),
    "grant of a column": (
        f"{TABLE}GRANT SELECT (id) ON shop.t TO pg_monitor",
        "pg_monitor has rights on the table shop.t",
        "REVOKE ALL ON TABLE shop.t FROM pg_monitor",
    ),
    "grant of a view": (
        f"{TABLE}CREATE VIEW shop.v WITH (security_invoker) AS SELECT id FROM shop.t;"
        " GRANT INSERT ON shop.v TO pg_monitor",
        "pg_monitor has rights on the table shop.v",
        "REVOKE ALL ON TABLE shop.v FROM pg_monitor",
    ),
    "grant of a sequence": (
        "CREATE TABLE shop.t (tenant_id text, n serial);"
        "GRANT UPDATE ON SEQUENCE shop.t_n_seq TO pg_monitor",
        "pg_monitor has rights on the sequence shop.t_n_seq",
        "REVOKE ALL ON SEQUENCE shop.t_n_seq FROM pg_monitor",
    ),
    "grant of the schema": (
        "GRANT CREATE ON SCHEMA shop TO pg_monitor",
        "pg_monitor has rights on the schema shop",
        "REVOKE ALL ON SCHEMA shop FROM pg_monitor",
    ),
    "default privileges": (
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pg_monitor",
        "default privileges of ",
        "leave ALTER DEFAULT PRIVILEGES out",
    ),
    "default privileges for ours": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT ALL ON TABLES TO CURRENT_USER",
        "default privileges of ",
        "leave ALTER DEFAULT PRIVILEGES out",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_the_wall_does_not_admit_is_named_and_nothing_stays(
    case: str, wall: Wall
) -> None:
    sql, name, mend = REFUSED[case]

    refused = await wall.refusal(sql)

    assert name in refused.what
    assert mend in refused.next_step
    assert refused.path == "shop/schema.sql"
    assert refused.line is not None
    assert await wall.tables() == []
    assert await wall.daemon.fetchval("SELECT count(*) FROM harvestd.source_schema") == 0


async def test_a_large_object_is_refused_though_no_line_shows_it(wall: Wall) -> None:
    refused = await wall.refusal("SELECT lo_create(0)")

    assert "the large object " in refused.what
    assert refused.line is None


async def test_a_grant_to_a_seat_is_refused(wall: Wall, seat: Connection) -> None:
    name = wall.roles.seat(1)

    refused = await wall.refusal(f"{TABLE}GRANT ALL ON shop.t TO {name}")

    assert f"{name} has rights on the table shop.t" in refused.what

    refused = await wall.refusal(f"GRANT {wall.roles.source('shop')} TO {name}")

    assert "42501" in refused.why


async def test_what_is_made_in_a_schema_open_to_everybody_is_refused(
    wall: Wall, admin: Connection
) -> None:
    await admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")

    refused = await wall.refusal(FUNCTION.replace("shop.", "public."))

    assert "the function public.f() lies outside the source's schema" in refused.what
    assert "make it in the schema, or leave it out" in refused.next_step


async def test_foreign_tables_and_keys_out_of_the_schema_are_refused(
    wall: Wall, admin: Connection
) -> None:
    await wall.apply(ONE_TABLE.replace("shop", "farm"), "farm")
    await wall.apply(ONE_TABLE)
    owner = wall.roles.source("shop")
    await admin.execute("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w")
    await admin.execute(f"GRANT USAGE ON FOREIGN SERVER far TO {owner}")
    await admin.execute(f"GRANT USAGE ON SCHEMA farm TO {owner}")
    await admin.execute(f"GRANT REFERENCES ON farm.a TO {owner}")

    refused = await wall.refusal(
        """CREATE FOREIGN TABLE shop.f (tenant_id text) SERVER far;
        CREATE TABLE shop.c (tenant_id text, id int, FOREIGN KEY (tenant_id, id)
            REFERENCES farm.a (tenant_id, id))"""
    )

    assert "the foreign table shop.f is not admitted" in refused.what
    assert "the foreign key c_tenant_id_id_fkey on shop.c points out of the schema" in refused.what
    assert "collect what it shows with a script" in refused.next_step


async def test_what_somebody_else_made_in_the_schema_is_refused(
    wall: Wall, admin: Connection
) -> None:
    await wall.apply(ONE_TABLE)
    await admin.execute("CREATE TABLE shop.b (tenant_id text)")

    refused = await wall.refusal(f"{ONE_TABLE} -- edited")

    assert "the table shop.b belongs to postgres" in refused.what
    assert f"ALTER TABLE shop.b OWNER TO {wall.roles.source('shop')}" in refused.next_step


async def test_each_problem_is_told_with_its_line_and_all_of_them_at_once(wall: Wall) -> None:
    refused = await wall.refusal(
        "CREATE TABLE shop.first (tenant_id text);\n"
        "CREATE TABLE shop.second (id int);\n"
        "CREATE SEQUENCE shop.third;\n"
    )

    assert "shop.second has no column tenant_id of type text (line 2)" in refused.what
    assert "shop.third belongs to no column (line 3)" in refused.what
    assert str(refused).startswith("shop/schema.sql:")


def test_every_problem_the_statements_report_has_words_and_the_other_way_round() -> None:
    from harvestd.database.statements import load_statements

    text = "".join(
        statement for name, statement in load_statements().items() if name.startswith("inspect_")
    )
    assert {name for name in PROBLEMS if f"'{name}'" not in text} == set()


# What fails


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


# Whose the schema is


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
            assert await clone.apply(
                GOOD.replace("CREATE TYPE", "-- ").replace("CREATE DOMAIN", "-- ")
            )
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
