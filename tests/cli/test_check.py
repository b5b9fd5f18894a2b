"""`harvestd check`: what is wrong, and what the next apply of schema.sql would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import query
from tests.cli.shell import harvestd

SCRIPT = "async def run(env, db, tenant_id, start_date, end_date): pass\n"
TABLE = "CREATE TABLE IF NOT EXISTS shop.item (tenant_id text, id bigint, PRIMARY KEY {key});\n"
GOOD = TABLE.format(key="(tenant_id, id)")
BAD = TABLE.format(key="(id)")


def a_shop(folder: Path, schema: str, **scripts: str) -> dict[str, str]:
    (folder / "shop").mkdir(parents=True, exist_ok=True)
    (folder / "shop" / "schema.sql").write_text(schema)
    for name, text in {"item": SCRIPT, **scripts}.items():
        (folder / "shop" / f"{name}.py").write_text(text)
    return {"PLUGIN_DIRS": str(folder), "DATA_DIR": str(folder / "nothing")}


async def test_it_tells_what_a_file_would_make_and_makes_nothing(
    database_url: str, tmp_path: Path
) -> None:
    settings = a_shop(tmp_path, GOOD)
    first = await harvestd("check", "shop", url=database_url, settings=settings)
    made = await query(database_url, "SELECT FROM pg_namespace WHERE nspname = 'shop'")
    await harvestd("migrate", url=database_url, settings=settings)
    applied = await harvestd("check", "shop", url=database_url, settings=settings)
    longer = f"{GOOD}ALTER TABLE shop.item ADD COLUMN IF NOT EXISTS title text;\n"
    a_shop(tmp_path, longer)
    third = await harvestd("check", "shop", "--json", url=database_url, settings=settings)

    assert (first.code, applied.code, third.code) == (0, 0, 0)
    assert "shop/schema.sql: would make the table shop.item" in first.out
    assert "1 data source, 1 script: nothing is wrong" in first.out
    assert made == []
    assert "shop/schema.sql: applied as it is" in applied.out
    (schema,) = third.json["schemas"]
    assert [line for line in schema["changes"] if "title" in line]
    assert third.json["without_database"] is None


async def test_an_edit_that_does_nothing_where_the_table_is_gets_its_alter(
    database_url: str, tmp_path: Path
) -> None:
    settings = a_shop(tmp_path, GOOD)
    await harvestd("migrate", url=database_url, settings=settings)
    a_shop(tmp_path, GOOD.replace("id bigint,", "id bigint, title text,"))
    done = await harvestd("check", url=database_url, settings=settings)

    assert done.code == 1
    assert "ADD COLUMN IF NOT EXISTS" in done.err
    assert "something has to be mended" in done.out


async def test_what_was_altered_by_hand_since_the_file_was_applied_is_told(
    database_url: str, tmp_path: Path
) -> None:
    settings = a_shop(tmp_path, GOOD)
    await harvestd("migrate", url=database_url, settings=settings)
    await query(database_url, "ALTER TABLE shop.item DROP COLUMN id CASCADE")
    done = await harvestd("check", "shop", "--json", url=database_url, settings=settings)
    told = await harvestd("check", "shop", url=database_url, settings=settings)
    doctor = await harvestd("doctor", "--json", url=database_url, settings=settings)

    (schema,) = done.json["schemas"]
    assert (done.code, schema["applied"], schema["refused"]) == (1, True, None)
    assert "the column shop.item.id is missing" in schema["altered"]
    assert "somebody changed this since" in told.err
    assert "ADD COLUMN IF NOT EXISTS id bigint" in told.err
    [found] = [one for one in doctor.json["findings"] if one["check"] == "schemas of sources"]
    assert (found["level"], "shop.item.id is missing" in found["what"]) == ("warn", True)


async def test_a_schema_that_was_dropped_after_its_file_was_applied_is_told_and_not_made(
    database_url: str, tmp_path: Path
) -> None:
    settings = a_shop(tmp_path, GOOD)
    await harvestd("migrate", url=database_url, settings=settings)
    await query(database_url, "DROP SCHEMA shop CASCADE")
    done = await harvestd("check", "shop", url=database_url, settings=settings)

    assert done.code == 1
    assert "the table shop.item is missing" in done.err
    assert await query(database_url, "SELECT FROM pg_namespace WHERE nspname = 'shop'") == []


async def test_what_is_refused_has_its_line_and_its_mending(
    database_url: str, tmp_path: Path
) -> None:
    settings = a_shop(tmp_path, BAD, broken="import nothing_there\n")
    done = await harvestd("check", "shop", url=database_url, settings=settings)
    told = await harvestd("check", "shop", "--json", url=database_url, settings=settings)

    assert (done.code, told.code) == (1, 1)
    assert "put tenant_id first" in done.err
    assert "broken.py" in done.err
    assert told.json["schemas"][0]["refused"]
    assert [one["script"] for one in told.json["problems"]] == ["broken"]


async def test_without_a_database_the_file_is_read_and_that_is_said(tmp_path: Path) -> None:
    settings = a_shop(tmp_path, GOOD)
    good = await harvestd("check", "shop", settings=settings)
    a_shop(tmp_path, f"{GOOD}COMMIT;\n")
    bad = await harvestd("check", "shop", settings=settings)
    nobody = await harvestd("check", "shpo", settings=settings)

    assert (good.code, bad.code, nobody.code) == (0, 1, 1)
    assert "each schema.sql was only read: there is no database" in good.err
    assert "COMMIT" in bad.err
    assert "did you mean 'shop'?" in nobody.err


async def test_a_database_that_cannot_be_reached_is_no_success(tmp_path: Path) -> None:
    settings = a_shop(tmp_path, BAD)
    nowhere = f"postgresql://app@/nowhere?host={tmp_path}"
    told = await harvestd("check", "shop", "--json", url=nowhere, settings=settings)
    said = await harvestd("check", "shop", url=nowhere, settings=settings)

    assert (told.code, said.code) == (3, 3)
    assert "cannot be reached" in told.json["without_database"]
    (schema,) = told.json["schemas"]
    assert (schema["data_source"], schema["applied"]) == ("shop", None)
    assert "  next: " in said.err
    assert "the database was not asked" in said.out


@pytest.mark.parametrize("line", [("status",), ("verify", "acme"), ("sql", "SELECT 1")])
async def test_where_there_is_no_answer_stdout_stays_empty_with_json_too(
    tmp_path: Path, line: tuple[str, ...]
) -> None:
    done = await harvestd(*line, "--json", url=f"postgresql://app@/nowhere?host={tmp_path}")

    assert (done.code, done.out) == (3, "")
    assert "  next: " in done.err
