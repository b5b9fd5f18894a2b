"""What a hostile schema.sql tried: to tell rows in an error, to act by an expression, to write."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.loading.walls import Wall

Connection: TypeAlias = "asyncpg.Connection[Any]"

TABLE = (
    "CREATE TABLE IF NOT EXISTS shop.a"
    " (tenant_id text NOT NULL, id int, word text, PRIMARY KEY (tenant_id, id));\n"
)
SECRET, NUMBER = "confidential", 48151


# Telling rows in an error

WORD = "(SELECT word FROM shop.a)"
TELLING = {
    "raise": f"DO $$ BEGIN RAISE EXCEPTION 'it holds %', {WORD}; END $$",
    "raise of another class": f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '42P01',"
    f" MESSAGE = {WORD}; END $$",
    "assert": f"DO $$ BEGIN ASSERT false, {WORD}; END $$",
    "a statement put together": f"DO $$ BEGIN EXECUTE format('SELECT %I', {WORD}); END $$",
    "a block put together": f"DO $$ BEGIN EXECUTE 'DO $x$ BEGIN ' || {WORD} || ' END $x$'; END $$",
    "the name of a setting": f"SELECT set_config({WORD}, '', false)",
    "the name of a relation": f"SELECT {WORD}::regclass",
    "a converted column": "ALTER TABLE shop.a ALTER word TYPE regclass USING word::regclass",
    "a number": "SELECT lo_get(id) FROM shop.a",
    "wrong data": f"SELECT {WORD}::int",
}


@pytest.mark.parametrize("case", TELLING)
async def test_no_error_of_a_file_quotes_a_row_whatever_raises_it(case: str, wall: Wall) -> None:
    await wall.apply(TABLE)
    await wall.daemon.execute(
        "INSERT INTO shop.a (tenant_id, id, word) VALUES ('acme', $1, $2)", NUMBER, SECRET
    )

    refused = await wall.refusal(
        f"{TABLE}ALTER TABLE shop.a NO FORCE ROW LEVEL SECURITY;\n{TELLING[case]}"
    )

    assert SECRET not in str(refused)
    assert str(NUMBER) not in str(refused)
    assert "PostgreSQL refused it (" in refused.why
    assert TELLING[case][:20] in refused.why
    assert refused.line == 3


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        (f"{TABLE}CREATE TABLE shop.A (tenant_id text)", 'relation "a" already exists'),
        ("SELECT 'x'::int", 'invalid input syntax for type integer: "x"'),
        ("SET nothing = 1", 'unrecognized configuration parameter "nothing"'),
        (f"{TABLE}GRANT SELECT ON shop.a TO nobody", 'role "nobody" does not exist'),
        (f"{TABLE}ALTER TABLE shop.a ADD id int", 'column "id" of relation "a" already exists'),
    ],
)
async def test_an_error_that_names_only_what_the_file_holds_is_told_in_full(
    sql: str, what: str, wall: Wall
) -> None:
    refused = await wall.refusal(sql)

    assert refused.what == what


# Acting through an expression

ACT = "set_config('a.b', 'c', false)"
OWN = "public.spy(1)"
ACTING = {
    "default": f"ALTER TABLE shop.a ADD x text DEFAULT {ACT}",
    "default of a view": "CREATE VIEW shop.v WITH (security_invoker) AS SELECT id FROM shop.a;"
    f" ALTER VIEW shop.v ALTER id SET DEFAULT length({ACT})",
    "check": f"ALTER TABLE shop.a ADD CHECK ({ACT} IS NOT NULL)",
    "check of a domain": f"CREATE DOMAIN shop.d AS text CHECK ({ACT} IS NOT NULL)",
    "default of a domain": f"CREATE DOMAIN shop.d AS text DEFAULT {ACT}",
    "statistics": f"CREATE STATISTICS shop.s ON (word || {ACT}), id FROM shop.a",
    "view": f"CREATE VIEW shop.v WITH (security_invoker) AS SELECT {ACT} AS x",
    "aggregate in a view": "CREATE VIEW shop.v WITH (security_invoker) AS"
    f" SELECT max(word) FILTER (WHERE {ACT} > '') OVER () AS x FROM shop.a",
    "SQL in a view": "CREATE VIEW shop.v WITH (security_invoker) AS"
    " SELECT query_to_xml('SELECT 1', true, true, '')::text AS x",
    "SQL in a default": "CREATE TABLE shop.b (tenant_id text,"
    " x text DEFAULT table_to_xml('shop.a', true, true, ''))",
}
CALLING = {
    "function in a view": f"CREATE VIEW shop.v WITH (security_invoker) AS SELECT {OWN} AS x",
    "function to select from": "CREATE VIEW shop.v WITH (security_invoker) AS"
    f" SELECT x FROM {OWN} AS x",
    "operator in a view": "CREATE VIEW shop.v WITH (security_invoker) AS"
    " SELECT id OPERATOR(public.###) 1 AS x FROM shop.a",
    "aggregate in a view": "CREATE VIEW shop.v WITH (security_invoker) AS"
    " SELECT public.spies(id) AS x FROM shop.a",
    "window function in a view": "CREATE VIEW shop.v WITH (security_invoker) AS"
    " SELECT public.spies(id) OVER () AS x FROM shop.a",
}
CONVERTING = {
    "by its text": "WITH INOUT AS IMPLICIT",
    "by a function": "WITH FUNCTION pg_catalog.quote_literal(anyelement) AS IMPLICIT",
}


@pytest.mark.parametrize("case", ACTING)
async def test_no_expression_does_something_for_whoever_writes_or_reads(
    case: str, wall: Wall
) -> None:
    refused = await wall.refusal(TABLE + ACTING[case])

    assert "calls a function that does something, for whoever writes or reads" in refused.what
    assert "compute the value in the script" in refused.next_step


@pytest.mark.parametrize("case", CALLING)
async def test_no_view_calls_what_does_not_come_with_postgresql(case: str, wall: Wall) -> None:
    await wall.daemon.execute(
        """CREATE FUNCTION public.spy(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION public.spy(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE OPERATOR public.### (LEFTARG = int, RIGHTARG = int, FUNCTION = public.spy);
        CREATE AGGREGATE public.spies (int) (SFUNC = public.spy, STYPE = int, INITCOND = '0')"""
    )

    refused = await wall.refusal(TABLE + CALLING[case])

    assert "the view shop.v (" in refused.what
    assert "calls a function that does not come with PostgreSQL" in refused.what


@pytest.mark.parametrize("case", CONVERTING)
async def test_no_type_of_the_file_brings_a_cast(case: str, wall: Wall) -> None:
    refused = await wall.refusal(
        "CREATE TYPE shop.mood AS ENUM ('calm');\n"
        f"CREATE CAST (shop.mood AS text) {CONVERTING[case]}"
    )

    assert "the cast (shop.mood AS pg_catalog.text) is not admitted" in refused.what


async def test_a_call_is_the_only_way_to_a_function_of_postgresql_that_acts(wall: Wall) -> None:
    """`inspect_calls` reads the calls of an expression: what it rests on, for this version."""
    ways = {
        "operators": "SELECT oprcode FROM pg_operator",
        "aggregates and window functions": "SELECT oid FROM pg_proc WHERE prokind IN ('a', 'w')",
        "parts of aggregates": "SELECT unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn,"
        " aggmtransfn, aggminvtransfn, aggmfinalfn]) FROM pg_aggregate",
        "casts": "SELECT castfunc FROM pg_cast",
        "input and output of types": "SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend,"
        " typmodin, typmodout, typanalyze, typsubscript]) FROM pg_type",
        "operator classes": "SELECT amproc FROM pg_amproc",
    }
    for way, functions in ways.items():
        acting = await wall.daemon.fetch(
            "SELECT oid::regprocedure::text FROM pg_catalog.pg_proc"
            f" WHERE provolatile = 'v' AND oid IN ({functions})"
        )
        assert acting == [], way


# Writing rows, and keeping rights

ROW = "INSERT INTO shop.a (tenant_id, id) VALUES ('victim', 1)"


@pytest.mark.parametrize(
    "write",
    [
        "CREATE TABLE shop.b AS SELECT 'victim'::text AS tenant_id",
        "SELECT 'victim'::text AS tenant_id INTO shop.b",
        f"DO $$ BEGIN {ROW}; END $$",
        f"EXPLAIN ANALYZE {ROW}",
        f"DO $$ BEGIN EXECUTE $x$ PREPARE p AS {ROW} $x$; END $$;\nEXECUTE p",
    ],
)
async def test_no_way_of_writing_rows_is_overlooked(write: str, wall: Wall) -> None:
    refused = await wall.refusal(TABLE + write)  # no guard is there yet

    assert "the file wrote rows into shop." in refused.what

    await wall.apply(TABLE)
    refused = await wall.refusal(
        f"{TABLE}ALTER TABLE shop.a NO FORCE ROW LEVEL SECURITY, DISABLE TRIGGER ALL;\n{write}"
    )

    assert "the file wrote rows into shop." in refused.what
    assert await wall.daemon.fetchval("SELECT count(*) FROM shop.a") == 0


async def test_the_sequence_of_an_identity_column_is_the_owners_alone(wall: Wall) -> None:
    await wall.apply(
        f"{TABLE}ALTER TABLE shop.a ADD n int GENERATED BY DEFAULT AS IDENTITY;"
        f" GRANT ALL ON SEQUENCE shop.a_n_seq TO {wall.roles.exec} WITH GRANT OPTION"
    )

    granted = await wall.daemon.fetchval(
        "SELECT has_sequence_privilege($1, 'shop.a_n_seq', 'USAGE, SELECT, UPDATE')",
        wall.roles.exec,
    )
    assert granted is False
