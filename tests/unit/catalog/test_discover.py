"""Where data sources are found, which files count, and which of two is used."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harvestd.catalog.discover import (
    FILE_BYTES_MAX,
    FOLDER_FILES_MAX,
    bundled_plugin_dir,
    read_folder,
)
from harvestd.catalog.snapshot import EMPTY, reload
from tests.unit.catalog.plugin_folder import PluginFolder, only_problem, said, saying, script_of


def test_the_bundled_folder_is_that_of_the_checkout() -> None:
    assert bundled_plugin_dir() == Path(__file__).parents[3] / "plugins" / "data_sources"


def test_scripts_are_found_and_what_is_no_script_is_skipped(plugins: PluginFolder) -> None:
    for file in ("commit.py", "tag.py"):
        plugins.write(f"git/{file}", saying(file))
    for file in (
        "_pages.py",
        "test_commit.py",
        "commit_test.py",
        "conftest.py",
        ".hidden.py",
        "commit.py~",
        "__pycache__/commit.py",
        "tests/fixture.py",
        "notes.txt",
    ):
        plugins.write(f"git/{file}", "raise AssertionError('not a script')")
    plugins.write("README.md", "about")
    plugins.write("docs/page.md", "no data source")
    plugins.write(".git/hook.py", "raise AssertionError")
    plugins.write("__pycache__/x.py", "raise AssertionError")

    catalog = plugins.load()

    assert list(catalog.sources) == ["git"]
    assert list(catalog.sources["git"].scripts) == ["commit", "tag"]
    assert (catalog.problems, catalog.notes) == ((), ())


def test_the_schema_is_read_as_it_is_written(plugins: PluginFolder) -> None:
    plugins.write("git/schema.sql", "create table commit (id text);\n")

    source = plugins.load().sources["git"]

    assert source.schema_sql == "create table commit (id text);\n"
    assert source.folder == plugins.path / "git"
    assert dict(source.scripts) == {}


def test_plain_keys_are_those_of_all_scripts(plugins: PluginFolder) -> None:
    plugins.write("git/a.py", saying("a", "plain_keys = ['GIT_REPOSITORIES']"))
    plugins.write("git/b.py", saying("b", "plain_keys = ['GIT_DEPTH', 'GIT_REPOSITORIES']"))

    assert plugins.load().sources["git"].plain_keys == {"GIT_REPOSITORIES", "GIT_DEPTH"}


def test_the_content_hash_is_of_the_folder_and_not_of_its_place(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    elsewhere = PluginFolder(tmp_path / "elsewhere")
    for folder in (plugins, elsewhere):
        folder.write("git/commit.py", saying("x"))
        folder.write("git/queries/issues.graphql", "query {}")
    here, there = plugins.load().sources["git"], elsewhere.load().sources["git"]
    plugins.write("git/queries/issues.graphql", "query {more}")
    plugins.write("git/test_commit.py", "a test is not part of it")
    edited = plugins.load().sources["git"]

    assert here.content_hash == there.content_hash == here.scripts["commit"].content_hash
    assert edited.content_hash != here.content_hash
    (plugins.path / "git/test_commit.py").unlink()
    assert plugins.load().sources["git"].content_hash == edited.content_hash


@pytest.mark.parametrize("name", ["My-Source", "2fast", "Git", "ｇit", "a" * 64, "new\nline"])
def test_a_data_source_whose_name_cannot_be_a_schema_is_a_problem(
    plugins: PluginFolder, name: str
) -> None:
    plugins.write(f"{name}/commit.py", saying("x"))
    plugins.write("good/commit.py", saying("x"))

    catalog = plugins.load()

    assert list(catalog.sources) == ["good"]
    problem = only_problem(catalog)
    assert (problem.source, problem.script) == (name, None)
    assert problem.path == str(plugins.path / name)
    assert "names match [a-z]" in problem.what
    assert "rename it" in problem.what
    assert str(problem).isprintable()


@pytest.mark.parametrize(
    "name", ["public", "harvestd", "harvestd_api", "information_schema", "pg_catalog", "pg_x"]
)
def test_reserved_names_of_data_sources_are_refused(plugins: PluginFolder, name: str) -> None:
    plugins.write(f"{name}/commit.py", saying("x"))

    catalog = plugins.load()

    assert not catalog.sources
    assert f"the name '{name}' cannot be used" in only_problem(catalog).what


@pytest.mark.parametrize("name", ["my-issue", "Issue", "1st", "issue.v2", "işsue"])
def test_a_misnamed_script_is_a_problem_and_its_neighbours_are_used(
    plugins: PluginFolder, name: str
) -> None:
    plugins.write(f"git/{name}.py", "raise AssertionError('never imported')")
    plugins.write("git/commit.py", saying("x"))

    catalog = plugins.load()

    assert list(catalog.sources["git"].scripts) == ["commit"]
    problem = only_problem(catalog)
    assert (problem.script, problem.path) == (name, str(plugins.path / f"git/{name}.py"))
    assert "rename it" in problem.what


async def test_a_keyword_is_a_good_name_for_a_script(plugins: PluginFolder) -> None:
    plugins.write("git/import.py", saying("it"))

    assert await said(script_of(plugins.load(), "git/import")) == ["it"]


def test_a_linked_file_that_leads_out_is_refused(plugins: PluginFolder, tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("raise AssertionError('never imported')")
    plugins.write("git/commit.py", saying("x"))
    (plugins.path / "git/tag.py").symlink_to(secret)

    catalog = plugins.load()

    assert list(catalog.sources["git"].scripts) == ["commit"]
    problem = only_problem(catalog)
    assert (problem.script, problem.path) == ("tag", str(plugins.path / "git/tag.py"))
    assert "leads out of" in problem.what


def test_a_linked_folder_that_leads_out_is_refused(plugins: PluginFolder, tmp_path: Path) -> None:
    outside = PluginFolder(tmp_path / "outside")
    outside.write("git/commit.py", "raise AssertionError('never imported')")
    (plugins.path / "git").symlink_to(outside.path / "git")

    catalog = plugins.load()

    assert not catalog.sources["git"].scripts
    assert "leads out of" in only_problem(catalog).what


async def test_links_inside_the_plugin_folder_are_followed(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    """As a Kubernetes ConfigMap is mounted: each file a link into a hidden, dated folder."""
    plugins.write("git/..2025_01_01/commit.py", saying("linked"))
    (plugins.path / "git/..data").symlink_to("..2025_01_01")
    (plugins.path / "git/commit.py").symlink_to("..data/commit.py")
    whole = tmp_path / "whole"
    whole.symlink_to(plugins.path)

    catalog = reload(EMPTY, [whole], bundled=plugins.nothing_bundled)

    assert await said(script_of(catalog, "git/commit")) == ["linked"]
    assert catalog.problems == ()


def test_links_in_a_circle_and_pipes_hold_nothing_up(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("x"))
    (plugins.path / "git/_circle").symlink_to("..")
    (plugins.path / "git/loop.py").symlink_to("loop.py")
    os.mkfifo(plugins.path / "git/pipe.py")

    catalog = plugins.load()

    assert list(catalog.sources["git"].scripts) == ["commit"]
    assert {Path(problem.path).name: problem.script for problem in catalog.problems} == {
        "_circle": None,
        "loop.py": "loop",
        "pipe.py": "pipe",
    }
    whys = " ".join(problem.what for problem in catalog.problems)
    assert "a link to a folder is not followed" in whys
    assert "it is not a regular file" in whys


def test_files_and_folders_have_a_size_beyond_which_they_are_refused(
    plugins: PluginFolder,
) -> None:
    plugins.write("big/huge.py", b"#" * (FILE_BYTES_MAX + 1))
    plugins.write("big/small.py", saying("x"))
    plugins.write("big/data.bin", b"#" * (FILE_BYTES_MAX + 1))
    plugins.write("many/commit.py", saying("x"))
    for number in range(FOLDER_FILES_MAX):
        plugins.write(f"many/cassettes/{number}.json", "")

    catalog = plugins.load()

    assert list(catalog.sources["big"].scripts) == ["small"]
    assert list(catalog.sources["many"].scripts) == []
    huge, many = catalog.problems
    assert (huge.script, huge.path) == ("huge", str(plugins.path / "big/huge.py"))
    assert f"larger than {FILE_BYTES_MAX} bytes" in huge.what
    assert (many.script, many.path) == (None, str(plugins.path / "many"))
    assert f"more than {FOLDER_FILES_MAX} files" in many.what


def test_a_plugin_folder_that_is_not_there_is_a_problem(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("x"))

    catalog = plugins.load(after=[plugins.path / "absent"])

    assert list(catalog.sources) == ["git"]
    problem = only_problem(catalog)
    assert (problem.source, problem.path) == ("", str(plugins.path / "absent"))
    assert "HARVESTD_PLUGIN_DIRS" in problem.what


def test_a_script_outside_any_data_source_is_noted(plugins: PluginFolder) -> None:
    plugins.write("commit.py", saying("x"))

    (note,) = plugins.load().notes

    assert "commit.py is not used: a script lies in the folder of its data source" in note


def test_a_folder_that_is_gone_is_no_data_source(plugins: PluginFolder) -> None:
    plugins.write("file", "not a folder")

    assert read_folder("git", plugins.path / "gone", plugins.path) is None
    assert read_folder("file", plugins.path / "file", plugins.path) is None


def test_a_file_that_vanishes_while_it_is_read_was_never_there(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("x"))
    (plugins.path / "git/gone.py").symlink_to("no longer there.py")

    catalog = plugins.load()

    assert list(catalog.sources["git"].scripts) == ["commit"]
    assert catalog.problems == ()


def test_folders_that_come_and_go_during_the_scan_raise_nothing(plugins: PluginFolder) -> None:
    plugins.write("stays/commit.py", saying("x"))
    stop = threading.Event()
    turns = threading.Semaphore(0)

    def churn() -> None:
        while not stop.is_set():
            written = [plugins.write(f"goes/s{n}.py", saying("x")) for n in range(5)]
            for path in written:
                path.unlink()
            written[0].parent.rmdir()
            turns.release()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        catalog = EMPTY
        for _ in range(30):
            assert turns.acquire(timeout=30)
            catalog = plugins.load(catalog)
            assert list(catalog.sources["stays"].scripts) == ["commit"]
            assert all(problem.source == "goes" for problem in catalog.problems)
    finally:
        stop.set()
        churning.join(30)


async def test_of_two_scripts_with_one_name_the_first_in_order_is_used_and_it_is_said(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    second, bundled = PluginFolder(tmp_path / "second"), PluginFolder(tmp_path / "bundled")
    plugins.write("git/commit.py", saying("first"))
    second.write("git/commit.py", "raise AssertionError('never imported')")
    second.write("git/tag.py", saying("second"))
    second.write("git/schema.sql", "-- second")
    bundled.write("git/tag.py", "raise AssertionError('never imported')")
    bundled.write("git/branch.py", saying("bundled"))
    bundled.write("git/schema.sql", "-- bundled")

    catalog = reload(EMPTY, [plugins.path, second.path], bundled=bundled.path)

    assert await said(script_of(catalog, "git/commit")) == ["first"]
    assert await said(script_of(catalog, "git/tag")) == ["second"]
    assert await said(script_of(catalog, "git/branch")) == ["bundled"]
    assert catalog.sources["git"].schema_sql == "-- second"
    assert catalog.sources["git"].folder == plugins.path / "git"
    assert catalog.problems == ()
    assert catalog.notes == (
        f"git/commit: {plugins.path}/git/commit.py is used, not {second.path}/git/commit.py",
        f"git/tag: {second.path}/git/tag.py is used, not {bundled.path}/git/tag.py",
        f"schema of git: {second.path}/git/schema.sql is used, not {bundled.path}/git/schema.sql",
    )


async def test_a_script_is_of_its_own_folders_helpers_and_hash(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    second = PluginFolder(tmp_path / "second")
    for folder, word in ((plugins, "first"), (second, "second")):
        folder.write("git/_words.py", f"WORD = '{word}'")
        folder.write(
            f"git/{word}.py",
            "from . import _words\nasync def run(a, db, c, d, e): db.append(_words.WORD)",
        )

    source = plugins.load(after=[second.path]).sources["git"]

    assert await said(source.scripts["first"]) == ["first"]
    assert await said(source.scripts["second"]) == ["second"]
    hashes = {script.content_hash for script in source.scripts.values()} | {source.content_hash}
    assert len(hashes) == 3


def test_one_folder_named_twice_is_read_once(plugins: PluginFolder, tmp_path: Path) -> None:
    plugins.write("git/commit.py", saying("x"))
    (tmp_path / "again").symlink_to(plugins.path)

    catalog = plugins.load(after=[plugins.path, tmp_path / "again"])

    assert list(catalog.sources) == ["git"]
    assert catalog.notes == ()
