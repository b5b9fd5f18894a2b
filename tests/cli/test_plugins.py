"""`harvestd plugins`: what the folders of this machine hold, without any database."""

from __future__ import annotations

from pathlib import Path

from tests.cli.shell import harvestd

GOOD = """
from datetime import timedelta
print("printed while it is imported")
resources = ["issue", "label"]
dependencies = ["repository"]
import_window_duration = timedelta(days=3)
interval = timedelta(hours=6)
async def run(env, db, tenant_id, start_date, end_date):
    pass
"""
PLAIN = "catch_up = False\nasync def run(env, db, tenant_id, start_date, end_date): pass\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


async def test_each_script_is_shown_with_what_it_exports_and_its_file(tmp_path: Path) -> None:
    write(tmp_path / "a b" / "tracker", issue=GOOD, repository=PLAIN)
    settings = {"PLUGIN_DIRS": str(tmp_path / "a b")}
    done = await harvestd("plugins", "tracker", "--json", settings=settings)
    table = await harvestd("plugins", "tracker", settings=settings)
    whole = await harvestd("plugins", settings=settings)
    issue, repository = done.json["scripts"]

    assert (done.code, table.code, whole.code) == (0, 0, 0)
    assert issue["resources"] == ["issue", "label"]
    assert issue["dependencies"] == ["repository"]
    assert (issue["window_seconds"], issue["interval_seconds"]) == (3 * 86400, 6 * 3600)
    assert (issue["snapshot"], repository["snapshot"]) == (False, True)
    assert repository["resources"] == ["repository"]
    assert issue["file"] == str(tmp_path / "a b" / "tracker" / "issue.py")
    assert len(issue["content_hash"]) == 64
    assert table.out.count(issue["content_hash"][:12]) == 1  # it is of the folder, as is its path
    assert table.out.count(str(tmp_path / "a b" / "tracker")) == 1
    assert max(map(len, whole.out.partition("data source")[0].splitlines())) <= 80
    assert "3 d" in table.out
    assert "snapshot" in table.out
    assert "printed while it is imported" in table.err
    assert "git/commit" in whole.out
    assert "git/commit" not in table.out


async def test_what_cannot_be_used_is_named_with_file_line_why_and_what_to_do(
    tmp_path: Path,
) -> None:
    write(tmp_path / "one" / "tracker", good=PLAIN, bad="x = 1\nresources = 5\n" + PLAIN)
    write(tmp_path / "two" / "tracker", good=PLAIN)
    settings = {"PLUGIN_DIRS": f"{tmp_path / 'one'}:{tmp_path / 'two'}"}
    text = await harvestd("plugins", settings=settings)
    json = await harvestd("plugins", "tracker", "--json", settings=settings)
    other = await harvestd("plugins", "git", "--json", settings=settings)
    (problem,) = json.json["problems"]

    assert (text.code, json.code, other.code) == (1, 1, 0)
    assert f"{tmp_path}/one/tracker/bad.py:2: resources is 5 (int)" in text.err
    assert "  why:  it must be a list of names" in text.err
    assert "1 problem in the plugin folders" in text.err
    assert (problem["data_source"], problem["script"], problem["line"]) == ("tracker", "bad", 2)
    assert problem["next"].startswith("correct it")
    assert f"{tmp_path}/two/tracker/good.py" in json.json["shadowed"][0]
    assert "two files of one name: tracker/good" in text.err
    assert other.json["problems"] == other.json["shadowed"] == []


async def test_scripts_that_can_never_run_are_named_with_the_reason(tmp_path: Path) -> None:
    needs = "dependencies = ['{}']\n" + PLAIN
    write(
        tmp_path / "tracker",
        lost=needs.format("nowhere"),
        one=needs.format("two"),
        two=needs.format("one"),
    )
    done = await harvestd("plugins", settings={"PLUGIN_DIRS": str(tmp_path)})

    assert done.code == 1
    assert "tracker/lost can never run here: needs resource 'nowhere'" in done.err
    assert "tracker/one can never run here: cycle: tracker/one → tracker/two" in done.err


async def test_an_unknown_data_source_is_answered_with_the_nearest(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    wrong = await harvestd("plugins", "gti")
    gone = await harvestd("plugins", settings={"PLUGIN_DIRS": str(missing)})

    assert wrong.code == gone.code == 1
    assert "did you mean 'git'?" in wrong.err
    assert f"{missing}: the plugin folder cannot be read" in gone.err
