"""What a script file may export, and how a wrong export is refused."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harvestd.catalog.script import Script, script_from_exports
from harvestd.errors import BadExport
from harvestd.terms import ScriptName

NAME = ScriptName("github", "issue")
RUN = "async def run(env, db, tenant_id, start_date, end_date): pass\n"
PRELUDE = "from datetime import date, datetime, timedelta, timezone\n"


def script_from(text: str) -> Script:
    text = PRELUDE + textwrap.dedent(text)
    exports: dict[str, Any] = {}
    exec(text, exports)  # noqa: S102  (the test's own text)
    return script_from_exports(NAME, exports, path="/p/issue.py", content_hash="c0ffee", text=text)


def refusal_of(text: str) -> BadExport:
    with pytest.raises(BadExport) as caught:
        script_from(text)
    return caught.value


def test_a_script_with_nothing_but_run_gets_the_defaults() -> None:
    script = script_from(RUN)

    assert script == Script(
        NAME,
        script.run,
        "c0ffee",
        resources=("issue",),
        dependencies=(),
        width=timedelta(hours=24),
        catch_up=True,
        interval=None,
        lookback=timedelta(0),
        visibility_lag=timedelta(seconds=10),
        timeout=None,
        origin=None,
        origin_age=None,
        isolation=None,
        plain_keys=frozenset(),
    )


def test_every_export_is_taken_over() -> None:
    script = script_from(
        RUN
        + """
        resources = ["issue", "comment", "issue"]
        dependencies = ("repository", "git/commit")
        import_window_duration = timedelta(hours=6)
        catch_up = False
        interval = timedelta(minutes=5)
        lookback = timedelta(hours=1)
        visibility_lag = timedelta(seconds=30)
        timeout = timedelta(minutes=10)
        origin = datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
        isolation = "inline"
        plain_keys = {"GITHUB_ORG"}
        """.replace("        ", "")
    )

    assert script.resources == ("issue", "comment")
    assert script.dependencies == ("repository", "git/commit")
    assert script.width == timedelta(hours=6)
    assert script.catch_up is False
    assert script.interval == timedelta(minutes=5)
    assert script.lookback == timedelta(hours=1)
    assert script.visibility_lag == timedelta(seconds=30)
    assert script.timeout == timedelta(minutes=10)
    assert script.origin == datetime(2020, 1, 1, tzinfo=UTC)
    assert script.origin is not None and script.origin.utcoffset() == timedelta(0)
    assert script.isolation == "inline"
    assert script.plain_keys == {"GITHUB_ORG"}


@pytest.mark.parametrize(
    ("written", "width"),
    [
        ("86400000", timedelta(days=1)),
        ("1500.0", timedelta(seconds=1.5)),
        ("1", timedelta(milliseconds=1)),
        ("timedelta(days=7)", timedelta(days=7)),
    ],
)
def test_the_width_is_a_timedelta_or_milliseconds(written: str, width: timedelta) -> None:
    assert script_from(f"import_window_duration = {written}\n{RUN}").width == width


def test_an_origin_may_be_an_age() -> None:
    script = script_from(f"origin = timedelta(days=30)\n{RUN}")

    assert (script.origin, script.origin_age) == (None, timedelta(days=30))


@pytest.mark.parametrize(
    ("assignment", "shown", "must_be"),
    [
        ('resources = "issue"', "'issue' (str)", "a list of names"),
        ("resources = ['a b']", "['a b'] (list)", "'a b' (str) is none"),
        ("resources = [1]", "[1] (list)", "1 (int) is none"),
        ("resources = ['git/commit']", "['git/commit'] (list)", "a list of names"),
        ("dependencies = {'a': 1}", "{'a': 1} (dict)", "a list of names"),
        ("dependencies = ['a/b/c']", "['a/b/c'] (list)", "a list of names"),
        ("dependencies = None", "None (NoneType)", "a list of names"),
        ("import_window_duration = '1 day'", "'1 day' (str)", "a number of milliseconds"),
        ("import_window_duration = True", "True (bool)", "a number of milliseconds"),
        ("import_window_duration = 0", "0 (int)", "from 1 ms"),
        ("import_window_duration = -5", "-5 (int)", "from 1 ms"),
        ("import_window_duration = 1e300", "1e+300 (float)", "to 100 years"),
        ("import_window_duration = float('nan')", "nan (float)", "to 100 years"),
        ("import_window_duration = timedelta.max", "(timedelta)", "to 100 years"),
        ("import_window_duration = None", "None (NoneType)", "a timedelta or"),
        ("catch_up = 0", "0 (int)", "True or False"),
        ("interval = 60", "60 (int)", "a timedelta, more than 0"),
        ("interval = timedelta(0)", "(timedelta)", "more than 0"),
        ("lookback = timedelta(seconds=-1)", "(timedelta)", "at least 0"),
        ("lookback = None", "None (NoneType)", "a timedelta, at least 0"),
        ("visibility_lag = 10", "10 (int)", "a timedelta, at least 0"),
        ("timeout = 3.5", "3.5 (float)", "a timedelta, more than 0"),
        ("origin = datetime(2020, 1, 1)", "(datetime)", "with a time zone"),
        ("origin = date(2020, 1, 1)", "(date)", "with a time zone"),
        (
            "origin = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))",
            "(datetime)",
            "with a time zone",
        ),
        ("origin = timedelta(days=-1)", "(timedelta)", "more than 0"),
        ("isolation = 'isolated'", "'isolated' (str)", '"inline"'),
        ("isolation = 'docker'", "'docker' (str)", '"inline"'),
        ("isolation = ['inline']", "['inline'] (list)", '"inline"'),
        ("plain_keys = 'GIT_REPOSITORIES'", "'GIT_REPOSITORIES' (str)", "a list of keys"),
    ],
)
def test_a_wrong_type_is_refused_with_file_line_and_what_it_must_be(
    assignment: str, shown: str, must_be: str
) -> None:
    refusal = refusal_of(f"# one\n# two\n{assignment}\n{RUN}")

    assert (refusal.path, refusal.line) == ("/p/issue.py", 4)
    assert str(refusal).startswith("/p/issue.py:4: ")
    assert refusal.what.startswith(f"{assignment.split(' ', maxsplit=1)[0]} is ")
    assert shown in refusal.what
    assert must_be in refusal.why
    assert refusal.next_step


@pytest.mark.parametrize(
    ("run", "shown", "why"),
    [
        ("def run(a, b, c, d, e): pass", "a plain function", "async def run("),
        ("async def run(a, b, c, d, e): yield 1", "an async generator function", "never yields"),
        ("run = 5", "5 (int)", "async def run("),
    ],
)
def test_run_must_be_a_coroutine_function_of_five_parameters(
    run: str, shown: str, why: str
) -> None:
    refusal = refusal_of(f"# one\n{run}\n")

    assert refusal.line == 3
    assert refusal.what == f"run is {shown}"
    assert why in refusal.why


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ("a, b, c, d", "too many positional arguments"),
        ("a, b, c, d, e, f", "missing a required argument: 'f'"),
        ("*, a, b, c, d, e", "too many positional arguments"),
    ],
)
def test_what_keeps_run_from_being_called_is_told_first(parameters: str, fault: str) -> None:
    refusal = refusal_of(f"async def run({parameters}): pass")

    assert refusal.what == f"run does not take the 5 arguments: {fault}"
    assert refusal.why == "it must be `async def run(env, db, tenant_id, start_date, end_date)`"


@pytest.mark.parametrize("parameters", ["a, b, c, d, e, f=None", "*everything", "a, b, *, c=1, d"])
def test_run_is_accepted_if_and_only_if_five_arguments_fit(parameters: str) -> None:
    text = f"async def run({parameters}): pass"

    if parameters == "a, b, *, c=1, d":
        assert refusal_of(text).what.startswith("run does not take the 5 arguments: ")
    else:
        script_from(text)


def test_a_missing_run_is_refused_at_line_one() -> None:
    refusal = refusal_of("resources = []")

    assert (refusal.line, refusal.what) == (1, "the file has no run")
    assert "begin the file's name with _" in refusal.next_step


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("dependancies", "dependencies"),
        ("resource", "resources"),
        ("time_out", "timeout"),
        ("importWindowDuration", "import_window_duration"),
    ],
)
def test_a_misspelt_export_is_refused_with_the_name_that_was_meant(name: str, meant: str) -> None:
    refusal = refusal_of(f'{RUN}{name} = ["a"]\n')

    assert refusal.line == 3
    assert f"{name}: did you mean {meant}?" in refusal.what


@pytest.mark.parametrize(
    "text",
    [
        "TIMEOUT = 30",
        "_timeouts = [30]",
        "repositories = []",
        "class Resource: pass\nresource = Resource",
        "resources = ['a']\nresource = 'a'",
        "for resource in ['a']: pass",
        "import os as timeouts",
        "if True:\n    regions = 1",
    ],
)
def test_names_of_the_files_own_are_let_be(text: str) -> None:
    script_from(f"{RUN}{text}\n")


def test_the_last_assignment_gives_the_line() -> None:
    assert refusal_of(f"{RUN}catch_up = True\nif True:\n    catch_up = 1\n").line == 5


def test_a_value_that_cannot_be_shown_is_refused_all_the_same() -> None:
    refusal = refusal_of(
        f"class Odd:\n    def __repr__(self): raise OSError\ncatch_up = Odd()\n{RUN}"
    )

    assert refusal.what.startswith("catch_up is ")
    assert "Odd" in refusal.what
    assert refusal.line == 4
