"""A schema.sql cut into statements: each with its line, whatever its quotes and comments hold."""

from __future__ import annotations

import pytest

from harvestd.loading.ddl import cut_statements, find_line, makes_schema


def texts(sql: str) -> list[str]:
    return [statement.text for statement in cut_statements(sql)]


def test_each_statement_knows_the_line_it_begins_on() -> None:
    statements = cut_statements("-- what it keeps\n\nCREATE TABLE a ();\n/* b */ DROP TABLE b\n;\n")

    assert [(one.text, one.line) for one in statements] == [
        ("CREATE TABLE a ()", 3),
        ("DROP TABLE b", 4),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'a;b'",
        "SELECT 'it''s; so'",
        r"SELECT E'a\';b'",
        "SELECT date';'",
        'SELECT ";"',
        'SELECT "a"";b"',
        "SELECT $$;$$",
        "SELECT $tag$ ; $$ ; $tag$",
        "SELECT a$1$ , b$1$",
        "SELECT 1 -- ; no\n + 1",
        "SELECT /* ; /* ; */ ; */ 1",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "SELECT U&';'",
        "SELECT 'é;ß'",
    ],
)
def test_a_semicolon_inside_a_statement_does_not_end_it(statement: str) -> None:
    assert texts(f"{statement}; SELECT 2") == [statement, "SELECT 2"]


@pytest.mark.parametrize("open_end", ["SELECT 'a;", "SELECT $$;", 'SELECT "a;', "SELECT ("])
def test_what_is_never_closed_goes_to_the_server_as_it_is(open_end: str) -> None:
    assert texts(f"{open_end} SELECT 2; ") == [f"{open_end} SELECT 2;"]


@pytest.mark.parametrize("empty", ["", " ;; \n", "-- only a comment", "/* ; */", "/* open ;"])
def test_comments_and_empty_statements_are_left_out(empty: str) -> None:
    assert texts(empty) == []


@pytest.mark.parametrize(
    ("sql", "made"),
    [
        ("CREATE SCHEMA IF NOT EXISTS shop", True),
        ("create schema if not exists Shop", True),
        ('/* ours */ CREATE SCHEMA\n IF NOT EXISTS "shop"', True),
        ("CREATE SCHEMA shop", False),
        ("CREATE SCHEMA IF NOT EXISTS shops", False),
        ('CREATE SCHEMA IF NOT EXISTS "Shop"', False),
        ("CREATE SCHEMA IF NOT EXISTS shop AUTHORIZATION x", False),
        ("CREATE SCHEMA IF NOT EXISTS shop CREATE TABLE t ()", False),
    ],
)
def test_only_exactly_the_statement_that_makes_the_schema_is_told_apart(
    sql: str, made: bool
) -> None:
    (statement,) = cut_statements(sql)

    assert makes_schema(statement, "shop") is made


def test_a_position_in_a_statement_is_a_line_of_the_file() -> None:
    (_, second) = cut_statements("SELECT 1;\n\nSELECT\n  2,\n  nothing")

    assert second.line_at(1 + second.text.index("nothing")) == 5
    assert second.line_at(1) == 3


def test_a_name_is_found_on_its_line_and_never_as_part_of_another() -> None:
    statements = cut_statements("CREATE TABLE orders ();\nCREATE TABLE\n  shop.order ();")

    assert find_line(statements, ["order"]) == 3
    assert find_line(statements, ["orde"]) is None
    assert find_line(statements, ["order_pkey", "order"]) == 3
