"""`harvestd new`: what it writes works as it is, and nothing is written over."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.builders import query
from tests.cli.shell import harvestd, shell

FILES = ["reading.py", "schema.sql", "test_weather_reading.py"]


@pytest.mark.slow
async def test_what_it_writes_passes_its_own_tests(tmp_path: Path) -> None:
    done = await harvestd("new", "weather/reading", cwd=tmp_path)
    python = shlex.quote(sys.executable)
    tests = await shell(f"{python} -m pytest -q plugins/data_sources/weather", tmp_path)

    folder = Path("plugins/data_sources/weather")
    assert done.code == 0
    assert done.out.split() == [str(folder / name) for name in FILES]
    assert "harvestd try weather/reading --tenant acme" in done.err
    assert tests.code == 0, tests.out
    assert "8 passed" in tests.out


async def test_what_it_writes_is_a_data_source(database_url: str, tmp_path: Path) -> None:
    settings = {"PLUGIN_DIRS": str(tmp_path / "mine"), "DATA_DIR": str(tmp_path / "data")}
    done = await harvestd("new", "weather/reading", "--json", settings=settings)
    checked = await harvestd("check", "weather", url=database_url, settings=settings)
    migrated = await harvestd("migrate", url=database_url, settings=settings)

    assert done.json["folder"] == str(tmp_path / "mine" / "weather")
    assert done.json["files"] == FILES
    assert done.json["schema_to_add"] is None
    assert not [line for line in done.json["next_commands"] if "PLUGIN_DIRS" in line]
    assert (checked.code, migrated.code) == (0, 0), checked.err + migrated.err
    columns = await query(
        database_url,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'weather.reading'::regclass"
        " AND attnum > 0 ORDER BY attnum",
    )
    assert [row["attname"] for row in columns][:5] == [
        "tenant_id",
        "id",
        "name",
        "changed_at",
        "raw",
    ]


async def test_a_word_of_sql_is_quoted_where_it_names_the_schema(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"PLUGIN_DIRS": str(tmp_path), "DATA_DIR": str(tmp_path / "data")}
    await harvestd("new", "user/order", settings=settings)
    checked = await harvestd("check", "user", url=database_url, settings=settings)
    assert checked.code == 0, checked.err


async def test_the_tables_of_a_second_script_are_shown_and_not_written(tmp_path: Path) -> None:
    await harvestd("new", "weather/reading", "--in", str(tmp_path))
    schema = (tmp_path / "weather" / "schema.sql").read_text()
    second = await harvestd("new", "weather/station", "--in", str(tmp_path))

    assert second.code == 0
    assert "CREATE TABLE IF NOT EXISTS weather.station (" in second.out
    assert (tmp_path / "weather" / "schema.sql").read_text() == schema
    assert "left as it is" in second.err


async def test_nothing_is_written_over_or_in_part(tmp_path: Path) -> None:
    folder = tmp_path / "weather"
    folder.mkdir()
    (folder / "test_weather_reading.py").write_text("mine")
    done = await harvestd("new", "weather/reading", "--in", str(tmp_path))

    assert done.code == 1
    assert "test_weather_reading.py is there already" in done.err
    assert [path.name for path in folder.iterdir()] == ["test_weather_reading.py"]
    assert (folder / "test_weather_reading.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("weather", "not SOURCE/SCRIPT"),
        ("Weather/reading", "'Weather' cannot be used"),
        ("weather/test_it", "test_*.py, *_test.py and conftest.py are tests"),
        ("weather/reading_test", "test_*.py, *_test.py and conftest.py are tests"),
        ("weather/../x", "cannot be used"),
        ("public/reading", "'public' cannot be used"),
        ("git/branch", "comes along with harvestd"),
        ("Desk/audit-event", "next: harvestd new desk/audit_event"),
    ],
)
async def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str, said: str) -> None:
    done = await harvestd("new", name, "--in", str(tmp_path))
    assert done.code == 2
    assert said in done.err
    assert os.listdir(tmp_path) == []


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = await harvestd("new", "weather/reading", "--in", str(tmp_path / "file"))
    assert done.code == 1
    assert "cannot be written" in done.err
