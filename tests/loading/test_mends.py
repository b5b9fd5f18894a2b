"""Edits of which much is in the way: the mend that is told runs, or the steps that do it do."""

from __future__ import annotations

import pytest

from tests.loading.files import BEFORE
from tests.loading.walls import Wall

MADE = """
CREATE TABLE IF NOT EXISTS shop.child (
    tenant_id text,
    id        int,
    t_id      int,
    price     shop.cents DEFAULT 3,
    mood      shop.mood DEFAULT 'calm',
    size      text DEFAULT '1',
    CONSTRAINT child_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT child_is_of_t FOREIGN KEY (tenant_id, t_id) REFERENCES shop.t (tenant_id, id),
    CONSTRAINT one_twice UNIQUE (tenant_id, id, t_id)
);
CREATE INDEX IF NOT EXISTS t_by_twice ON shop.t (tenant_id, twice);
"""
# Further views of a view, each time.
SEEN = "CREATE OR REPLACE VIEW shop.w WITH (security_invoker) AS SELECT n, twice FROM shop.v;\n"
MARK = "CREATE OR REPLACE VIEW shop.v"
FILE = BEFORE.replace(MARK, f"{MADE}{MARK}") + SEEN
TO_T = "(tenant_id, t_id) REFERENCES shop.t (tenant_id, id)"
TO_NO = TO_T.replace("tenant_id, id", "tenant_id, no")
OF_T = f"CONSTRAINT u_is_of_t FOREIGN KEY {TO_T}"
OF_CHILD = f"CONSTRAINT child_is_of_t FOREIGN KEY {TO_T}"
T_KEY = "t_pkey PRIMARY KEY (tenant_id, id)"
EDITS = {
    "a type, with what is computed from it": [("n         int,", "n bigint,")],
    "a type and what is computed from it": [
        ("n         int,", "n bigint,"),
        ("(n * 2)", "(n * 3)"),
    ],
    "the type of what is computed": [("twice     int GENERATED", "twice bigint GENERATED")],
    "the types on both sides of foreign keys": [
        ("    id        int,\n    n ", "    id text,\n    n "),
        ("t_id      int,\n    CONSTRAINT u", "t_id text,\n    CONSTRAINT u"),
        ("t_id      int,\n    price", "t_id text,\n    price"),
    ],
    "a key that foreign keys need": [(T_KEY, f"{T_KEY} INCLUDE (word)")],
    "a key, with the foreign keys to it": [
        (T_KEY, T_KEY.replace("id)", "no)")),
        (OF_T, OF_T.replace(TO_T, TO_NO)),
        (OF_CHILD, OF_CHILD.replace(TO_T, TO_NO)),
    ],
    "no key, and no foreign keys to it": [
        (f"CONSTRAINT {T_KEY},\n", ""),
        (f",\n    {OF_T}", ""),
        (f"    {OF_CHILD},\n", ""),
    ],
    "no primary key": [("    CONSTRAINT u_pkey PRIMARY KEY (tenant_id, id),\n", "")],
    "a type, and a default of the new type": [("size      text DEFAULT '1'", "size int DEFAULT 1")],
    "a new serial": [("n         int,", "n int, m bigserial,")],
    "a serial of a column": [("    t_id      int,\n    price", "    t_id serial,\n    price")],
    "a new identity": [("n         int,", "n int, m int GENERATED ALWAYS AS IDENTITY,")],
    "a new computed column": [("n         int,", "n int, m int GENERATED ALWAYS AS (1) STORED,")],
    "a larger identity": [("no        int GENERATED", "no bigint GENERATED")],
    "a larger serial": [("serial_no serial", "serial_no bigserial")],
    "a column that is computed from now on": [
        ("word      text DEFAULT 'a'", "word text GENERATED ALWAYS AS ('a') STORED")
    ],
    "a collation": [("word      text", 'word text COLLATE "C"')],
}


def edited(edits: list[tuple[str, str]], text: str = FILE) -> str:
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
async def filled(wall: Wall) -> Wall:
    """The tables of FILE, each with a row."""
    await wall.apply(FILE)
    for row in ("t (tenant_id, id, n)", "u (tenant_id, id, t_id)", "child (tenant_id, id, t_id)"):
        await wall.daemon.execute(f"INSERT INTO shop.{row} VALUES ('acme', 1, 1)")
    return wall


async def applied_twice(wall: Wall, text: str) -> None:
    """It runs, runs again, keeps the rows, and runs where nothing is yet."""
    assert await wall.apply(text) is True
    await wall.daemon.execute("DELETE FROM harvestd.source_schema")
    assert await wall.apply(text) is True
    for table in ("t", "u", "child"):
        assert await wall.daemon.fetchval(f"SELECT count(*) FROM shop.{table}") == 1
    assert await wall.apply(text.replace("shop.", "farm."), "farm") is True


@pytest.mark.parametrize("case", EDITS)
async def test_the_ddl_that_is_told_runs_whatever_is_in_its_way(case: str, filled: Wall) -> None:
    text = edited(EDITS[case])
    refused = await filled.refusal(text)
    said, mend = refused.next_step.split(": ", 1)

    assert said == "add to the file, below what made it"
    await applied_twice(filled, text.replace(MARK, f"{mend};\n{MARK}"))


async def test_another_type_of_a_domain_is_a_domain_of_another_name(filled: Wall) -> None:
    refused = await filled.refusal(
        FILE.replace("DOMAIN shop.cents AS bigint", "DOMAIN shop.cents AS int")
    )
    assert refused.next_step == (
        "make a domain of another name, give it to shop.child.price, and leave this one out of the"
        " file"
    )

    text = FILE.replace("shop.cents AS bigint", "shop.cents AS int").replace("cents", "money")
    mend = (await filled.refusal(text)).next_step.split(": ", 1)[1]

    await applied_twice(filled, text.replace(MARK, f"{mend};\n{MARK}"))


async def test_another_type_in_a_composite_type_is_one_of_another_name(filled: Wall) -> None:
    refused = await filled.refusal(FILE.replace("AS (x int)", "AS (x bigint)"))
    assert refused.next_step == (
        "no ALTER changes it: make a composite type of another name, give it to shop.t.spot, and"
        " leave this one out of the file"
    )

    text = FILE.replace("AS (x int)", "AS (x bigint)").replace("shop.spot", "shop.place")
    mend = (await filled.refusal(text)).next_step.split(": ", 1)[1]

    # PostgreSQL has no cast from one to the other, and only the author knows what it would be.
    mend = mend.replace("spot::shop.place", "ROW((spot).x)::shop.place")
    await applied_twice(filled, text.replace(MARK, f"{mend};\n{MARK}"))


async def test_a_new_value_of_an_enum_is_used_once_it_was_committed(filled: Wall) -> None:
    text = FILE.replace("'cross')", "'cross', 'new')")
    used = text.replace("mood DEFAULT 'calm'", "mood DEFAULT 'new'")
    refused = await filled.refusal(used)
    add = "ALTER TYPE shop.mood ADD VALUE IF NOT EXISTS 'new' AFTER 'cross'"
    default = "ALTER TABLE shop.child ALTER COLUMN mood SET DEFAULT 'new'::shop.mood"
    assert refused.next_step == (
        f"add to the file, below what made it: {add}; {default}; PostgreSQL admits"
        " 'new'::shop.mood only once it was committed: let the file be applied with this and"
        " without its use by shop.child.mood, and then with both"
    )
    at_once = await filled.refusal(used.replace(MARK, f"{add}; {default};\n{MARK}"))
    assert at_once.next_step.startswith("let the file be applied with the new value")

    assert await filled.apply(text.replace(MARK, f"{add};\n{MARK}")) is True
    await applied_twice(filled, used.replace(MARK, f"{add}; {default};\n{MARK}"))


async def test_what_no_ddl_does_is_told_in_words(filled: Wall) -> None:
    tenant = edited(
        [
            (
                "CREATE TABLE IF NOT EXISTS shop.u (\n    tenant_id text",
                'CREATE TABLE IF NOT EXISTS shop.u (\n    tenant_id text COLLATE "C"',
            )
        ]
    )
    assert (await filled.refusal(tenant)).next_step == (
        "write tenant_id text: policies read it, and no ALTER changes its type"
    )
    view = FILE.replace("AS SELECT * FROM shop.t", "AS SELECT twice, n FROM shop.t")
    assert (await filled.refusal(view)).next_step == (
        "its columns changed: write DROP VIEW IF EXISTS above it"
    )
    await applied_twice(filled, view.replace(MARK, f"DROP VIEW IF EXISTS shop.w, shop.v;\n{MARK}"))


async def test_what_a_virtual_column_computes_cannot_be_kept(filled: Wall) -> None:
    if filled.daemon.get_server_version().major < 18:
        return
    virtual = FILE.replace("n         int,", "n int, m int GENERATED ALWAYS AS (n) VIRTUAL,")
    mend = (await filled.refusal(virtual)).next_step.split(": ", 1)[1]
    await filled.apply(virtual.replace(MARK, f"{mend};\n{MARK}"))

    refused = await filled.refusal(FILE.replace("n         int,", "n int, m int,"))

    assert refused.next_step == "no ALTER keeps what m computes: take a column of another name"
