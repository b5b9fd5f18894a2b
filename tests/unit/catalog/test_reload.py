"""What an edit changes, and all that a mistake does not."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import traceback
import weakref
from pathlib import Path

import pytest

from harvestd.catalog.discover import PACKAGE_PREFIX
from harvestd.catalog.graph import MEND
from harvestd.catalog.snapshot import EMPTY, reload
from harvestd.terms import ScriptName
from tests.unit.catalog.plugin_folder import PluginFolder, only_problem, said, saying, script_of


def plugin_modules(source: str) -> set[str]:
    return {name for name in sys.modules if name.startswith(f"{PACKAGE_PREFIX}{source}_")}


def test_the_empty_catalog_has_nothing() -> None:
    assert EMPTY.script(ScriptName("git", "commit")) is None
    assert EMPTY.scripts_of(["git"]) == ()
    assert EMPTY.graph_for(frozenset({"git"})).order == ()


def test_the_bundled_data_sources_come_by_themselves() -> None:
    catalog = reload(EMPTY, [])

    assert all(problem.path for problem in catalog.problems)
    assert reload(catalog, []) is catalog


async def test_an_edit_is_picked_up(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("one"))
    first = plugins.load()
    plugins.write("git/commit.py", saying("two"))
    second = plugins.load(first)

    assert await said(script_of(first, "git/commit")) == ["one"]
    assert await said(script_of(second, "git/commit")) == ["two"]
    assert first.version != second.version
    assert first.sources["git"].content_hash != second.sources["git"].content_hash


async def test_two_edits_of_one_size_in_one_moment_are_both_picked_up(
    plugins: PluginFolder,
) -> None:
    catalog = EMPTY
    for word in ("one", "two", "six"):
        for file in ("commit.py", "_words.py"):
            path = plugins.write(f"git/{file}", "")
            text = f"WORD = '{word}'\n" if file == "_words.py" else ""
            path.write_text(text or f"from ._words import WORD\n{saying(word, 'x = WORD')}")
            os.utime(path, ns=(10**18, 10**18))
        catalog = plugins.load(catalog)
        script = script_of(catalog, "git/commit")
        assert await said(script) == [word]
        assert inspect.getmodule(script.run if script else None).__dict__["x"] == word


def test_nothing_is_compiled_to_disk(plugins: PluginFolder) -> None:
    plugins.write("git/_words.py", "")
    plugins.write("git/commit.py", f"from . import _words\n{saying('x')}")
    plugins.load()

    assert sorted(path.name for path in (plugins.path / "git").iterdir()) == [
        "_words.py",
        "commit.py",
    ]


def test_what_did_not_change_is_kept_as_it_is(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("one"))
    plugins.write("jira/issue.py", saying("one"))
    plugins.write("jira/broken.py", "1 / 0")
    first = plugins.load()
    assert plugins.load(first) is first
    plugins.write("git/commit.py", saying("two"))
    second = plugins.load(first)

    assert script_of(second, "jira/issue") is script_of(first, "jira/issue")
    assert second.problems == first.problems
    assert plugins.load(second) is second


def test_a_broken_script_is_not_executed_again_until_it_is_edited(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    plugins.write("git/commit.py", f"with open({str(mark)!r}, 'a') as f: f.write('x')\n1 / 0")
    catalog = plugins.load(plugins.load(plugins.load()))

    assert mark.read_text() == "x"
    assert only_problem(catalog).line == 2


HELPER_EDITS = [
    "from . import _words\n{run} db.append(_words.WORD)",
    "from ._words import WORD\n{run} db.append(WORD)",
    "{run}\n    from . import _words\n    db.append(_words.WORD)",
    "from ._lib.words import WORD\n{run} db.append(WORD)",
    "from .other import WORD\n{run} db.append(WORD)",
]


@pytest.mark.parametrize("text", HELPER_EDITS)
async def test_an_edited_helper_reloads_the_scripts_and_old_code_keeps_its_own(
    plugins: PluginFolder, text: str
) -> None:
    catalogs = [EMPTY]
    run = "async def run(env, db, tenant_id, start_date, end_date):"
    for word in ("old", "new"):
        plugins.write("git/_words.py", f"WORD = '{word}'")
        plugins.write("git/_lib/words.py", "from .._words import WORD")
        plugins.write("git/other.py", saying("other", f"WORD = '{word}'"))
        plugins.write("git/commit.py", text.format(run=run))
        catalogs.append(plugins.load(catalogs[-1]))

    old, new = (script_of(catalog, "git/commit") for catalog in catalogs[1:])
    assert catalogs[-1].problems == ()
    assert await said(new) == ["new"]
    assert await said(old) == ["old"]


async def test_the_package_of_a_folder_may_have_code(plugins: PluginFolder) -> None:
    plugins.write("git/__init__.py", "WORD = 'package'")
    plugins.write(
        "git/commit.py", "from . import WORD\nasync def run(a, db, c, d, e): db.append(WORD)"
    )

    assert await said(script_of(plugins.load(), "git/commit")) == ["package"]


def test_modules_of_old_versions_are_forgotten(plugins: PluginFolder) -> None:
    catalog = EMPTY
    for number in range(5):
        plugins.write("forgets/_words.py", f"WORD = {number}")
        plugins.write("forgets/commit.py", f"from . import _words\n{saying('x')}")
        catalog = plugins.load(catalog)

    assert len(plugin_modules("forgets")) == 3  # package, helper, script
    (plugins.path / "forgets/commit.py").unlink()
    catalog = plugins.load(catalog)
    assert plugin_modules("forgets") == set()
    gc.collect()
    assert "forgets" not in catalog.sources


def test_the_files_of_old_versions_are_freed_when_nothing_runs_them(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("one"))
    catalog = plugins.load()
    (loaded,) = catalog.folders.values()
    old = weakref.ref(loaded.folder)
    run = script_of(catalog, "git/commit")
    del loaded
    plugins.write("git/commit.py", saying("two"))
    catalog = plugins.load(catalog)

    gc.collect()
    assert old() is not None  # run may import its helpers yet
    del run
    gc.collect()
    assert old() is None


async def test_the_same_content_at_another_place_is_imported_from_there(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    moved = PluginFolder(tmp_path / "moved")
    for folder in (plugins, moved):
        folder.write("git/commit.py", "async def run(a, db, c, d, e): db.append(__file__)")

    catalog = moved.load(plugins.load())

    assert await said(script_of(catalog, "git/commit")) == [str(moved.path / "git/commit.py")]


async def test_tracebacks_and_source_are_of_the_text_that_runs(plugins: PluginFolder) -> None:
    path = plugins.write(
        "git/commit.py", "# first\nasync def run(a, b, c, d, e):\n    raise ValueError('here')\n"
    )
    script = script_of(plugins.load(), "git/commit")
    plugins.write("git/commit.py", "# being edited\n\n\n\n")

    with pytest.raises(ValueError, match="here") as caught:
        await said(script)

    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.line) == (str(path), 3, "raise ValueError('here')")
    assert script is not None
    assert inspect.getsource(script.run).startswith("async def run(")
    assert inspect.getsourcefile(script.run) == str(path)


async def test_a_file_knows_its_own_place(plugins: PluginFolder) -> None:
    path = plugins.write(
        "git/commit.py", "async def run(a, db, c, d, e): db.extend([__file__, __package__])"
    )

    file, package = await said(script_of(plugins.load(), "git/commit"))

    assert file == str(path)
    assert package.startswith("harvestd_source_git_")


def test_scripts_are_listed_by_name_for_the_data_sources_asked_for(plugins: PluginFolder) -> None:
    for file in ("jira/issue.py", "git/tag.py", "git/commit.py", "crm/account.py"):
        plugins.write(file, saying("x"))
    catalog = plugins.load()

    names = [str(script.name) for script in catalog.scripts_of(["jira", "git", "unknown"])]

    assert names == ["git/commit", "git/tag", "jira/issue"]


def test_a_graph_is_computed_once_for_all_tenants_with_the_same_data_sources(
    plugins: PluginFolder,
) -> None:
    plugins.write("git/commit.py", saying("x", "dependencies = ['issue']"))
    plugins.write("jira/issue.py", saying("x"))
    catalog = plugins.load()

    both = catalog.graph_for(frozenset({"git", "jira"}))

    assert catalog.graph_for(frozenset({"jira", "git"})) is both
    assert [str(name) for name in both.order] == ["jira/issue", "git/commit"]
    alone = catalog.graph_for(frozenset({"git"}))
    assert alone.blocked == {
        ScriptName("git", "commit"): "needs resource 'issue', which no script of data source git "
        f"provides; {MEND}"
    }
    assert plugins.load(catalog).graph_for(frozenset({"git"})) is alone
    plugins.write("jira/user.py", saying("x"))
    edited = plugins.load(catalog).graph_for(frozenset({"git", "jira"}))
    assert len(edited.order) == 3
