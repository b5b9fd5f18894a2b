"""A mistake in a plugin is reported with file and line, and nothing else suffers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harvestd.catalog.snapshot import EMPTY, reload
from tests.unit.catalog.plugin_folder import PluginFolder, only_problem, said, saying, script_of

MISTAKES = {
    "a syntax error": ("x = 1\ny = = 2\n", 2, "syntax error: invalid syntax"),
    "an indentation error": ("def f():\nx = 1\n", 2, "syntax error: expected an indented block"),
    "a missing run": ("# nothing\nresources = ['a']\n", 1, "the file has no run"),
    "an empty file": ("", 1, "the file has no run"),
    "a run that is not async": ("\ndef run(a, b, c, d, e): pass\n", 2, "run is a plain function"),
    "a run of four": ("async def run(a, b, c, d): pass\n", 1, "run does not take the 5"),
    "a wrong type": (saying("x", "", "", "resources = 'a'"), 3, "resources is 'a' (str)"),
    "a misspelling": (saying("x", "", "dependancies = []"), 2, "did you mean dependencies?"),
    "an exception": ("\n\n1 / 0\n", 3, "ZeroDivisionError while it was imported: division by zero"),
    "sys.exit": ("import sys\n\nsys.exit(3)\n", 3, "it called sys.exit while it was imported"),
    "SystemExit": ("raise SystemExit", 1, "it called sys.exit while it was imported"),
    "KeyboardInterrupt": (
        "raise KeyboardInterrupt\n",
        1,
        "KeyboardInterrupt while it was imported",
    ),
    "GeneratorExit": ("\nraise GeneratorExit\n", 2, "GeneratorExit while it was imported"),
    "its own BaseException": (
        "class Odd(BaseException):\n    def __str__(self): raise Odd\nraise Odd\n",
        3,
        "Odd while it was imported: (its text cannot be shown)",
    ),
    "endless recursion": ("def f(): f()\nf()\n", 1, "RecursionError while it was imported"),
    "a missing package": (
        "import no_such_package_at_all\n",
        1,
        "No module named 'no_such_package_at_all'; next: install the missing package",
    ),
    "a missing helper": ("\nfrom . import _absent\n", 2, "cannot import name '_absent' from 'git'"),
    "odd syntax errors": ("raise SyntaxError([], ([], 'x', None, None))\n", 1, "SyntaxError while"),
    "its own SyntaxError": (
        "class Odd(SyntaxError):\n    filename = msg = property(lambda self: 1 / 0)\nraise Odd\n",
        3,
        "Odd while it was imported",
    ),
    "a helper imported as if installed": (
        "import _helper\n",
        1,
        "next: write `from . import _helper`",
    ),
    "an exception inside a library": ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
    "a syntax error in a text it compiles": ("\ncompile('1 +', 'x', 'exec')\n", 2, "syntax error"),
    "a message of many lines": ("raise ValueError('a\\nb\\x1b[31m')\n", 1, "a\\nb\\x1b[31m"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_reported_with_file_and_line_and_changes_nothing_else(
    plugins: PluginFolder, mistake: str
) -> None:
    text, line, what = MISTAKES[mistake]
    plugins.write("git/_helper.py", "")
    plugins.write("git/commit.py", saying("good"))
    plugins.write("git/tag.py", saying("tag before"))
    plugins.write("jira/issue.py", saying("issue"))
    before = plugins.load()
    path = plugins.write("git/commit.py", text)
    plugins.write("git/tag.py", saying("tag after"))

    after = plugins.load(before)

    problem = only_problem(after)
    assert (problem.source, problem.script) == ("git", "commit")
    assert (problem.path, problem.line) == (str(path), line)
    assert what in problem.what
    assert "next: " in problem.what
    assert str(problem).startswith(f"{path}:{line}: ")
    assert problem.what.isprintable()
    assert script_of(after, "git/commit") is script_of(before, "git/commit")
    assert await said(script_of(after, "git/commit")) == ["good"]
    assert await said(script_of(after, "git/tag")) == ["tag after"]
    assert script_of(after, "jira/issue") is script_of(before, "jira/issue")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_script_that_never_was_good_is_listed_and_absent(
    plugins: PluginFolder, mistake: str
) -> None:
    text, line, _ = MISTAKES[mistake]
    plugins.write("git/_helper.py", "")
    plugins.write("git/commit.py", text)
    plugins.write("git/tag.py", saying("tag"))

    catalog = plugins.load()

    assert only_problem(catalog).line == line
    assert list(catalog.sources["git"].scripts) == ["tag"]


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"# caf\xe9\n" + saying("x").encode(), 1, "invalid or missing encoding declaration"),
        (b"\n\n# caf\xe9\n" + saying("x").encode(), 3, "it is not utf-8 text"),
        (b"# -*- coding: ascii -*-\n# caf\xe9\n", 2, "it is not ascii text"),
        (b"# -*- coding: nonsense -*-\n", 1, "unknown encoding: nonsense"),
        (b"#!python\n# -*- coding: nonsense -*-\n", 2, "unknown encoding: nonsense"),
        (b"x = 1\ny = '\0'\n", 2, "it holds a null byte"),
    ],
)
@pytest.mark.parametrize("file", ["commit.py", "_words.py"])
def test_a_file_that_is_no_text_is_reported_with_file_and_line(
    plugins: PluginFolder, file: str, content: bytes, line: int, what: str
) -> None:
    plugins.write("git/commit.py", saying("x", "from . import _words"))
    path = plugins.write(f"git/{file}", content)

    problem = only_problem(plugins.load())

    assert (problem.path, problem.line) == (str(path), line)
    assert what in problem.what


async def test_another_encoding_is_read_if_the_file_says_so(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", b"# coding: latin-1\n" + saying("café").encode("latin-1"))

    assert await said(script_of(plugins.load(), "git/commit")) == ["café"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("x = 1\n\n1 / 0\n", 3), ("\n\n\ny = = 2\n", 4), ("import sys\nsys.exit()", 2)],
)
@pytest.mark.parametrize("helper", ["_words.py", "__init__.py"])
async def test_a_broken_helper_is_named_and_its_scripts_keep_their_last_good_version(
    plugins: PluginFolder, helper: str, text: str, line: int
) -> None:
    imports = "from . import _words" if helper == "_words.py" else ""
    plugins.write(f"git/{helper}", "")
    plugins.write("git/commit.py", saying("good", imports))
    plugins.write("git/tag.py", saying("good", imports))
    before = plugins.load()
    path = plugins.write(f"git/{helper}", text)
    after = plugins.load(before)

    assert {problem.script for problem in after.problems} == {"commit", "tag"}
    assert {(problem.path, problem.line) for problem in after.problems} == {(str(path), line)}
    for name in ("git/commit", "git/tag"):
        assert script_of(after, name) is script_of(before, name)


async def test_the_last_good_version_outlives_many_bad_ones_and_then_is_replaced(
    plugins: PluginFolder,
) -> None:
    late = "from . import _words"
    plugins.write("git/_words.py", "WORD = 'good'")
    plugins.write(
        "git/commit.py",
        f"async def run(a, db, c, d, e):\n    {late}\n    db.append(_words.WORD)\n",
    )
    catalog = plugins.load()
    for number in range(3):
        plugins.write("git/_words.py", f"WORD = 'bad {number}'")
        plugins.write("git/commit.py", f"x = {number}\n1 / 0")
        catalog = plugins.load(catalog)
        assert only_problem(catalog).line == 2
        assert await said(script_of(catalog, "git/commit")) == ["good"]
    plugins.write("git/commit.py", saying("mended"))
    catalog = plugins.load(catalog)

    assert catalog.problems == ()
    assert await said(script_of(catalog, "git/commit")) == ["mended"]


async def test_a_mistake_taken_back_leaves_no_trace(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("good"))
    before = plugins.load()
    plugins.write("git/commit.py", "oops(")
    broken = plugins.load(before)
    plugins.write("git/commit.py", saying("good"))
    after = plugins.load(broken)

    assert (after.problems, after.version) == ((), before.version)
    assert script_of(after, "git/commit") is script_of(before, "git/commit")


def test_a_missing_package_is_looked_for_again_without_an_edit(
    plugins: PluginFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    plugins.write("git/commit.py", f"import installed_later\n{saying('x')}")
    broken = plugins.load()
    assert plugins.load(broken) is broken
    (site / "installed_later.py").write_text("")

    assert list(plugins.load(broken).sources["git"].scripts) == ["commit"]
    sys.modules.pop("installed_later")


def test_a_removed_script_and_a_removed_data_source_are_gone(plugins: PluginFolder) -> None:
    plugins.write("git/commit.py", saying("x"))
    gone = plugins.write("git/tag.py", saying("x"))
    other = plugins.write("jira/issue.py", saying("x"))
    first = plugins.load()
    gone.unlink()
    other.unlink()
    second = plugins.load(first)

    assert list(first.sources) == ["git", "jira"]
    assert list(second.sources) == ["git"]
    assert list(second.sources["git"].scripts) == ["commit"]


async def test_a_broken_override_does_not_fall_back_to_the_file_it_overrides(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    second = PluginFolder(tmp_path / "second")
    second.write("git/commit.py", saying("bundled"))
    plugins.write("git/commit.py", "1 / 0")

    assert not plugins.load(after=[second.path]).sources["git"].scripts

    before = reload(EMPTY, [second.path], bundled=plugins.nothing_bundled)
    after = plugins.load(before, after=[second.path])
    assert await said(script_of(after, "git/commit")) == ["bundled"]


def test_a_schema_that_is_no_text_keeps_the_last_good_one(plugins: PluginFolder) -> None:
    plugins.write("git/schema.sql", "-- good")
    before = plugins.load()
    path = plugins.write("git/schema.sql", b"-- one\n-- caf\xe9")
    after = plugins.load(before)

    assert after.sources["git"].schema_sql == "-- good"
    problem = only_problem(after)
    assert (problem.script, problem.path, problem.line) == (None, str(path), 2)


async def test_a_folder_that_cannot_be_read_any_more_keeps_its_scripts_and_schema(
    plugins: PluginFolder, tmp_path: Path
) -> None:
    plugins.write("git/commit.py", saying("good", "plain_keys = ['A']"))
    plugins.write("git/schema.sql", "-- good")
    before = plugins.load()
    (plugins.path / "git").rename(tmp_path / "moved out")
    (plugins.path / "git").symlink_to(tmp_path / "moved out")
    after = plugins.load(before)

    assert "leads out of" in only_problem(after).what
    assert await said(script_of(after, "git/commit")) == ["good"]
    assert after.sources["git"].schema_sql == "-- good"
    assert after.sources["git"].plain_keys == {"A"}
