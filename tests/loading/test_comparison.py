"""schema.sql on an empty schema against what there is: what is kept, and what is no difference."""

from __future__ import annotations

import pytest

from tests.loading.files import BEFORE, definition
from tests.loading.walls import Connection, Wall


async def test_what_the_file_has_no_more_is_kept_and_said(
    kept: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "harvestd.loading.schemas.log.warning",
        lambda event, **fields: warned.append((event, fields["what"])),
    )
    left_out = (
        "    word      text DEFAULT 'a',\n",
        "CREATE INDEX IF NOT EXISTS t_by_word ON shop.t (tenant_id, word);\n",
        "CREATE STATISTICS IF NOT EXISTS together ON n, word FROM shop.t;\n",
        ", 'cross'",
    )
    edited = BEFORE[: BEFORE.index("CREATE TABLE IF NOT EXISTS shop.u")]
    edited += BEFORE[BEFORE.index("CREATE INDEX") : BEFORE.index("CREATE OR REPLACE")]
    for part in left_out:
        assert part in edited
        edited = edited.replace(part, "")

    assert await kept.apply(edited) is True

    [(event, what)] = warned
    assert event == "schema_leftovers_kept"
    assert what.split("; ") == [
        "the table shop.u",
        "the view shop.v",
        "the column shop.t.word",
        "the index t_by_word on shop.t",
        "the statistics together on shop.t",
        "the value 'cross' of the enum type shop.mood",
    ]
    assert await kept.tables() == ["t", "u"]
    assert await kept.daemon.fetchval("SELECT word FROM shop.t") == "a"


async def test_a_column_that_would_refuse_the_files_rows_is_not_left(kept: Wall) -> None:
    edited = BEFORE.replace("n         int,", "n int, must text NOT NULL DEFAULT 'x',")
    add = "ALTER TABLE shop.t ADD COLUMN IF NOT EXISTS must text NOT NULL DEFAULT 'x'"
    await kept.apply(f"{edited}; {add}; ALTER TABLE shop.t ALTER COLUMN must DROP DEFAULT")

    refused = await kept.refusal(BEFORE)

    assert "shop.t.must wants a value, and the file has no such column" in refused.what
    assert "ALTER TABLE shop.t DROP COLUMN IF EXISTS must" in refused.next_step


async def test_a_column_without_default_is_asked_for_with_a_value_for_the_rows_there_are(
    kept: Wall,
) -> None:
    refused = await kept.refusal(BEFORE.replace("n         int,", "n int, must text NOT NULL,"))

    assert refused.next_step.endswith(
        "ALTER TABLE shop.t ADD COLUMN IF NOT EXISTS must text NOT NULL DEFAULT (a value for the"
        " rows there are); ALTER TABLE shop.t ALTER COLUMN must DROP DEFAULT"
    )


async def test_tuning_names_and_constraints_not_yet_validated_are_no_difference(
    kept: Wall, admin: Connection
) -> None:
    await admin.execute(
        "CREATE INDEX faster ON shop.t (tenant_id, n) WITH (fillfactor = 50);"
        "ALTER TABLE shop.t SET (fillfactor = 70), ALTER word SET STORAGE EXTERNAL;"
        "ALTER TABLE shop.t RENAME CONSTRAINT once TO only_once;"
        "ALTER TABLE shop.t DROP CONSTRAINT few, ADD CONSTRAINT few CHECK (n < 10) NOT VALID;"
        "COMMENT ON TABLE shop.t IS 'tuned'"
    )

    assert await kept.apply(f"{BEFORE} -- edited") is True


async def test_a_file_that_cannot_make_its_tables_anew_is_refused(kept: Wall) -> None:
    refused = await kept.refusal("ALTER TABLE shop.t ADD COLUMN IF NOT EXISTS size int")

    assert refused.what == (
        'on an empty schema, as a new database has: relation "shop.t" does not exist'
    )
    assert refused.line == 1
    assert "ALTER TABLE shop.t ADD COLUMN" in refused.why


async def test_a_refused_file_leaves_the_catalog_as_it_was(kept: Wall) -> None:
    before = await definition(kept)

    await kept.refusal(BEFORE.replace("n         int,", "n int, size int,"))

    assert await definition(kept) == before
