"""What the next apply of a schema.sql would do, told without doing it."""

from __future__ import annotations

import pytest

from harvestd.loading.schemas import Preview, preview_schema
from tests.loading.files import BEFORE, definition
from tests.loading.walls import GOOD, Connection, Wall, fill


async def preview(wall: Wall, sql: str, source: str = "shop") -> Preview:
    return await preview_schema(wall.database, wall.roles, source=source, schema_sql=sql)


async def test_a_preview_tells_what_an_apply_would_do_and_changes_nothing(kept: Wall) -> None:
    before = await definition(kept)
    assert await preview(kept, BEFORE) == Preview(applied=True)
    edited = (
        BEFORE.replace("n         int,", "n int, size int DEFAULT 3,").replace(", 'cross'", "")
        + """;CREATE TABLE IF NOT EXISTS shop.w (tenant_id text, id int);
        ALTER TABLE shop.t ADD COLUMN IF NOT EXISTS size int DEFAULT 3;
        ALTER TABLE shop.t ALTER COLUMN word SET DEFAULT 'b';
        DROP TABLE IF EXISTS shop.u"""
    )

    told = await preview(kept, edited.replace("word      text DEFAULT 'a'", "word text"))

    assert told.refused is None
    made, altered, *others = told.changes[:2], told.changes[2:4], told.changes[4]
    assert made == ("make the column shop.t.size integer DEFAULT 3", "make the table shop.w")
    assert altered[0] == (
        "alter the column shop.t.word: text DEFAULT 'b'::text (was: text DEFAULT 'a'::text)"
    )
    # It says *, and the framework has added its columns since it was made.
    assert altered[1].startswith("alter the view shop.v: ")
    assert others == ["drop the table shop.u"]
    assert told.kept == ("the value 'cross' of the enum type shop.mood",)
    assert await definition(kept) == before


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ("ALTER TABLE shop.t DROP COLUMN word CASCADE", "the column shop.t.word is missing"),
        ("ALTER TABLE shop.t ALTER n SET NOT NULL", "shop.t.n admits no null"),
        ("DROP INDEX shop.t_by_word", "shop.t lacks the index t_by_word"),
        ("DROP VIEW shop.v", "the view shop.v is missing"),
        ("DROP TABLE shop.u", "the table shop.u is missing"),
        ("DROP SCHEMA shop CASCADE", "the table shop.t is missing"),
    ],
)
async def test_what_somebody_altered_since_the_file_was_applied_is_told(
    by_hand: str, told: str, kept: Wall
) -> None:
    await kept.daemon.execute(by_hand)

    seen = await preview(kept, BEFORE)

    assert (seen.applied, seen.refused) == (True, None)
    assert seen.altered is not None
    assert told in seen.altered.what


async def test_what_is_there_besides_what_was_applied_is_not_called_altered(
    kept: Wall, admin: Connection
) -> None:
    # SELECT * now has the framework's columns.
    await kept.apply(f"{BEFORE} -- edited")
    await admin.execute("CREATE INDEX faster ON shop.t (tenant_id, n)")
    before = await definition(kept)

    assert await preview(kept, f"{BEFORE} -- edited") == Preview(applied=True)
    assert await definition(kept) == before


async def test_a_preview_tells_why_an_apply_would_be_refused(kept: Wall) -> None:
    before = await definition(kept)

    told = await preview(kept, BEFORE.replace("n         int,", "n int, size int,"))
    assert told.refused is not None
    assert told.refused.what == "the column shop.t.size is missing"

    assert (await preview(kept, "COMMIT")).refused is not None
    assert (await preview(kept, f"{BEFORE}; CREATE TABLE shop.x (id int)")).refused is not None
    assert await definition(kept) == before


@pytest.mark.parametrize(
    ("said", "edited", "what", "mend"),
    [
        (
            "CONSTRAINT u_pkey PRIMARY KEY (tenant_id, id)",
            "CONSTRAINT u_pkey PRIMARY KEY (id)",
            "the key u_pkey on shop.u does not begin with tenant_id (line 28)",
            "put tenant_id first: PRIMARY KEY (tenant_id, ...), UNIQUE (tenant_id, ...)",
        ),
        (
            BEFORE[BEFORE.index("CREATE TABLE IF NOT EXISTS shop.u") :],
            "CREATE TABLE IF NOT EXISTS shop.u (id int, t_id int)",
            "the table shop.u has no column tenant_id of type text (line 24)",
            "begin its columns with: tenant_id text NOT NULL",
        ),
    ],
)
async def test_what_the_wall_forbids_is_told_before_what_the_tables_lack_of_it(
    said: str, edited: str, what: str, mend: str, kept: Wall
) -> None:
    assert said in BEFORE
    file = BEFORE.replace(said, edited)

    for refused in ((await preview(kept, file)).refused, await kept.refusal(file)):
        assert refused is not None
        assert (refused.what, refused.next_step) == (what, mend)


async def test_a_preview_of_a_new_source_tells_all_that_it_makes(wall: Wall) -> None:
    told = await preview(wall, GOOD)

    assert "make the table shop.customer" in told.changes
    assert "make the domain shop.cents bigint CHECK ((VALUE >= 0))" in told.changes
    assert not any("column" in line for line in told.changes)
    assert await wall.daemon.fetchval("SELECT to_regnamespace('shop')") is None
    made = "SELECT count(*) FROM pg_roles WHERE rolname = $1"
    assert await wall.daemon.fetchval(made, wall.roles.source("shop")) == 0
    assert await wall.apply(GOOD) is True
    await fill(wall)
    assert await wall.apply(f"{GOOD} -- edited") is True


async def test_a_preview_that_would_keep_writers_waiting_gives_up(
    kept: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harvestd.loading.schemas.PREVIEW_SECONDS", 0.3)

    told = await preview(
        kept,
        f"{BEFORE}; DO $$ BEGIN"
        " IF EXISTS (SELECT FROM pg_policy WHERE polrelid = 'shop.t'::regclass) THEN"
        " PERFORM pg_sleep(60); END IF; END $$",
    )

    assert told == Preview(unfinished=True)
    assert await kept.apply(f"{BEFORE} -- edited") is True
