"""Rights that a schema.sql tries to give away: found out by what it did, in whichever way."""

from __future__ import annotations

import pytest

from tests.loading.walls import Connection, Wall

FILE = """
CREATE TABLE IF NOT EXISTS shop.t (tenant_id text, id int, n serial, PRIMARY KEY (tenant_id, id));
CREATE OR REPLACE VIEW shop.v WITH (security_invoker) AS SELECT id FROM shop.t;
DO $$ BEGIN
    CREATE TYPE shop.mood AS ENUM ('calm');
    CREATE DOMAIN shop.cents AS int;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
"""
RIGHTS = {
    "ALL ON shop.t": "the table shop.t",
    "TRUNCATE ON TABLE shop.t": "the table shop.t",
    "SELECT (id) ON shop.t": "the table shop.t",
    "UPDATE (tenant_id), REFERENCES (id) ON shop.t": "the table shop.t",
    "INSERT ON shop.v": "the table shop.v",
    "ALL ON ALL TABLES IN SCHEMA shop": "the table shop.t",
    "UPDATE ON SEQUENCE shop.t_n_seq": "the sequence shop.t_n_seq",
    "CREATE ON SCHEMA shop": "the schema shop",
    "USAGE ON TYPE shop.mood": "the type shop.mood",
    "USAGE ON DOMAIN shop.cents": "the type shop.cents",
}
WAYS = {
    "said": "{grant}",
    "with the right to pass it on": "{grant} WITH GRANT OPTION",
    "in a block": "DO $x$ BEGIN {grant}; END $x$",
    "put together": "DO $x$ BEGIN EXECUTE replace('Xgrant', 'Xgrant', '{grant}'); END $x$",
}
STANDING = {
    f"ALTER DEFAULT PRIVILEGES {place}GRANT {right} TO {{role}}"
    for place in ("", "IN SCHEMA shop ", "FOR ROLE CURRENT_USER ")
    for right in ("ALL ON TABLES", "USAGE ON SEQUENCES", "USAGE ON TYPES", "EXECUTE ON FUNCTIONS")
}
# By PostgreSQL, since the role that runs the file may not.
REFUSED = (
    "GRANT {own} TO {role}",
    "GRANT {role} TO CURRENT_USER",
    "GRANT {role} TO {own} WITH ADMIN OPTION",
    "ALTER TABLE shop.t OWNER TO {role}",
    "ALTER VIEW shop.v OWNER TO {role}",
    "ALTER TYPE shop.mood OWNER TO {role}",
    "ALTER SCHEMA shop OWNER TO {role}",
    "REASSIGN OWNED BY CURRENT_USER TO {role}",
    "REASSIGN OWNED BY {role} TO CURRENT_USER",
    "DROP OWNED BY {role}",
    "SET ROLE {role}",
    "SET SESSION AUTHORIZATION {role}",
    "ALTER ROLE {role} PASSWORD 'x'",
    "ALTER ROLE {own} BYPASSRLS",
    "GRANT SELECT ON harvestd.binding TO {role}",
    "GRANT SELECT ON public.tenant_data_source_config TO {role}",
    "GRANT SET ON PARAMETER session_replication_role TO {role}",
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO {role}",
    "SECURITY LABEL ON TABLE shop.t IS 'x'",
    "CREATE ROLE mine",
)
# PostgreSQL warns that nothing was given: it is not the file's to give.
WITHOUT_EFFECT = (
    "GRANT ALL ON DATABASE {database} TO {role}",
    "GRANT EXECUTE ON FUNCTION harvestd_api.tenant() TO {role}",
    "GRANT USAGE ON SCHEMA harvestd_api TO {role}",
    "GRANT USAGE ON LANGUAGE plpgsql TO {role}",
)
# What the three roles of every data source may do is made anew after each file.
GRANTED = """
    SELECT kind, name, array_agg(acl::text ORDER BY acl::text) AS rights
    FROM (
        SELECT 'relation' AS kind, relname AS name, unnest(relacl) AS acl FROM pg_class
        WHERE relnamespace = 'shop'::regnamespace
        UNION ALL
        SELECT 'column', attrelid::regclass || '.' || attname, unnest(attacl) FROM pg_attribute
        WHERE attrelid = 'shop.t'::regclass
        UNION ALL SELECT 'schema', nspname, unnest(nspacl) FROM pg_namespace
        UNION ALL SELECT 'function', proname, unnest(proacl) FROM pg_proc
        UNION ALL SELECT 'language', lanname,
            unnest(coalesce(lanacl, acldefault('l', lanowner))) FROM pg_language
        UNION ALL SELECT 'database', datname, unnest(datacl) FROM pg_database
        WHERE datname = current_database()
    ) AS given GROUP BY 1, 2 ORDER BY 1, 2
"""


def names(wall: Wall, role: str) -> dict[str, str]:
    return {"role": role, "own": wall.roles.source("shop")}


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_right_for_a_seat_is_refused_and_the_object_named(
    right: str, wall: Wall, seat: Connection
) -> None:
    role = wall.roles.seat(1)
    refused = await wall.refusal(f"{FILE}GRANT {right} TO {role}")

    assert f"{role} has rights on {RIGHTS[right]}" in refused.what
    assert f"FROM {role}" in refused.next_step
    assert await wall.tables() == []


@pytest.mark.parametrize("way", WAYS)
async def test_rights_for_strangers_are_refused_whichever_way_they_are_given(
    way: str, wall: Wall, seat: Connection
) -> None:
    for role in (wall.roles.seat(1), "pg_monitor", "app", "PUBLIC"):
        rights = dict(RIGHTS)
        if role == "PUBLIC":
            if "OPTION" in WAYS[way]:
                continue  # PostgreSQL knows no such right for everybody
            rights = {one: named for one, named in RIGHTS.items() if "the type" not in named}
        given = [WAYS[way].format(grant=f"GRANT {right} TO {role}") for right in rights]
        refused = await wall.refusal(FILE + ";\n".join(given))

        for named in rights.values():
            assert f"{role} has rights on {named}" in refused.what


@pytest.mark.parametrize("statement", sorted(STANDING))
async def test_rights_on_what_is_yet_to_be_made_are_refused(
    statement: str, wall: Wall, seat: Connection
) -> None:
    for role in (wall.roles.seat(1), wall.roles.exec):
        refused = await wall.refusal(FILE + statement.format(role=role))

        assert f"default privileges of {wall.roles.source('shop')}" in refused.what
        assert await wall.daemon.fetch("SELECT FROM pg_default_acl") == []


async def test_what_the_role_of_a_file_may_not_do_is_refused_with_the_statement(
    wall: Wall, seat: Connection
) -> None:
    for role in (wall.roles.seat(1), wall.roles.exec):
        for statement in REFUSED:
            said = statement.format(**names(wall, role))
            refused = await wall.refusal(FILE + said)

            assert said[:40] in f"{refused.what} {refused.why}", said
            assert await wall.tables() == []


async def test_what_a_file_gives_to_harvestds_own_roles_is_taken_back(
    wall: Wall, seat: Connection
) -> None:
    await wall.apply(FILE)
    before = await wall.daemon.fetch(GRANTED)
    ours = (wall.roles.exec, wall.roles.daemon, wall.roles.reader)
    given = [
        WAYS[way].format(grant=f"GRANT {right} TO {role}")
        for role in ours
        for right, named in RIGHTS.items()
        for way in ("said", "with the right to pass it on")
        if not named.startswith("the type")
    ]

    assert await wall.apply(FILE + ";\n".join(given))

    assert await wall.daemon.fetch(GRANTED) == before


async def test_what_is_not_the_files_to_give_is_given_to_nobody(
    wall: Wall, seat: Connection
) -> None:
    await wall.apply(FILE)
    before = await wall.daemon.fetch(GRANTED)
    database = await wall.daemon.fetchval("SELECT quote_ident(current_database())")
    for number, statement in enumerate(WITHOUT_EFFECT):
        for role in (wall.roles.seat(1), "PUBLIC"):
            said = statement.format(role=role, database=database)
            await wall.apply(f"{FILE}{said}; -- {number}")

    assert await wall.daemon.fetch(GRANTED) == before
