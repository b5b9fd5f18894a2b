"""What the wall does not admit in a schema.sql: named, with the line that mends it."""

from __future__ import annotations

import pytest

from harvestd.loading.inspection import PROBLEMS
from tests.loading.walls import ONE_TABLE, TABLE, Connection, Wall

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
