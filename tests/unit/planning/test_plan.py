"""The difference between the run rows there are and those there should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.catalog.script import Script
from harvestd.planning.plan import GoingOn, Plan, RunRow, make_plan, origin_of
from harvestd.planning.window import EARLIEST
from harvestd.terms import RunKey, ScriptName, Window

NOW = datetime(2026, 4, 5, 12, 0, 0, 123456, tzinfo=UTC)
NOW_IN_MS = datetime(2026, 4, 5, 12, 0, 0, 123000, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST_IMPORT = 90 * DAY
ORIGIN = NOW_IN_MS - FIRST_IMPORT


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """What planning never calls."""


def a_script(name: str = "git/commit", **exports: Any) -> Script:
    return Script(ScriptName(*name.split("/")), run, content_hash="", **exports)


COMMIT, REPOSITORY, ISSUE = (
    a_script("git/commit"),
    a_script("git/repository"),
    a_script("jira/issue"),
)
SCRIPTS = {"git": [COMMIT, REPOSITORY], "jira": [ISSUE]}
EXAMPLES = settings(max_examples=60, deadline=None, database=None)


def key(text: str) -> RunKey:
    """``acme/git/commit`` as a key."""
    return RunKey(*text.split("/"))


def row(
    text: str,
    run_no: int = 1,
    *,
    retired: bool = False,
    origin: datetime | None = ORIGIN,
    watermark: datetime | None = None,
) -> RunRow:
    return RunRow(key(text), run_no, retired=retired, origin=origin, watermark=watermark)


def plan(
    configured: Iterable[tuple[str, str]],
    rows: Iterable[RunRow] = (),
    scripts: dict[str, list[Script]] | None = None,
) -> Plan:
    known = SCRIPTS if scripts is None else scripts
    pairs = set(configured := list(configured))
    return make_plan(
        [
            RunKey(tenant_id, source, script.name.script)
            for tenant_id, source in configured
            for script in SCRIPTS.get(source, [])
        ],
        {script.name: script for of_source in known.values() for script in of_source},
        [row for row in rows if (row.key.tenant_id, row.key.source) in pairs],
        now=NOW,
        first_import=FIRST_IMPORT,
    )


EMPTY = Plan(enrol={}, go_on=())


# Enrolment


def test_a_configured_source_gets_a_row_for_each_of_its_scripts() -> None:
    assert plan([("acme", "git")]) == replace(
        EMPTY,
        enrol={key("acme/git/commit"): ORIGIN, key("acme/git/repository"): ORIGIN},
    )


def test_only_the_rows_that_are_missing_are_added() -> None:
    made = plan([("acme", "git"), ("bolt", "jira")], [row("acme/git/repository")])

    assert list(made.enrol) == [
        key("acme/git/commit"),
        key("bolt/jira/issue"),
    ]


def test_nothing_is_planned_when_rows_and_configurations_agree() -> None:
    rows = [row("acme/git/commit", 1), row("acme/git/repository", 2)]

    assert plan([("acme", "git")], rows) == EMPTY


def test_a_source_that_no_plugin_provides_enrols_nothing() -> None:
    assert plan([("acme", "unheard_of")]) == EMPTY


def test_a_pair_listed_twice_is_enrolled_once() -> None:
    assert plan([("acme", "jira"), ("acme", "jira")]) == plan([("acme", "jira")])


def test_a_script_missing_from_the_catalog_changes_nothing() -> None:
    assert plan([("acme", "git")], [row("acme/git/commit")], scripts={}) == EMPTY


# Going on


def test_a_retired_row_configured_again_goes_on_with_its_ledger() -> None:
    back = row("acme/jira/issue", 7, retired=True, watermark=NOW - DAY)

    assert plan([("acme", "jira")], [back]) == replace(
        EMPTY, go_on=(GoingOn(7, ORIGIN, covered=None),)
    )


def test_a_retired_row_goes_on_even_where_this_replica_lacks_its_script() -> None:
    back = row("acme/git/commit", 7, retired=True)

    assert plan([("acme", "git")], [back], scripts={}).go_on == (GoingOn(7, ORIGIN, None),)


@pytest.mark.parametrize("retired", [False, True])
@pytest.mark.parametrize(
    ("watermark", "expected"),
    [
        pytest.param(None, GoingOn(7, ORIGIN, None), id="no progress"),
        pytest.param(
            NOW - DAY,
            GoingOn(7, ORIGIN, Window(ORIGIN, NOW - DAY)),
            id="progress counts as covered from the origin, to the microsecond",
        ),
        pytest.param(ORIGIN, GoingOn(7, ORIGIN, None), id="at the origin"),
        pytest.param(
            ORIGIN - 5 * DAY, GoingOn(7, ORIGIN - 5 * DAY, None), id="before: the origin moves"
        ),
        pytest.param(
            NOW + DAY,
            GoingOn(7, ORIGIN, Window(ORIGIN, NOW_IN_MS)),
            id="in the future: no day ahead counts as read",
        ),
    ],
)
def test_a_row_that_another_program_inserted_is_adopted_with_its_progress(
    watermark: datetime | None, expected: GoingOn, retired: bool
) -> None:
    foreign = row("acme/jira/issue", 7, retired=retired, origin=None, watermark=watermark)

    assert plan([("acme", "jira")], [foreign]) == replace(EMPTY, go_on=(expected,))


def test_a_row_to_adopt_waits_for_a_replica_that_knows_its_script() -> None:
    foreign = row("acme/git/commit", origin=None, watermark=NOW - DAY)

    assert plan([("acme", "git")], [foreign], scripts={}) == EMPTY


# Where source time begins


@pytest.mark.parametrize(
    ("script", "origin"),
    [
        pytest.param(a_script(), ORIGIN, id="first import before now"),
        pytest.param(
            a_script(origin=datetime(2020, 1, 1, tzinfo=UTC)),
            datetime(2020, 1, 1, tzinfo=UTC),
            id="the script's date",
        ),
        pytest.param(a_script(origin_age=7 * DAY), NOW_IN_MS - 7 * DAY, id="the script's age"),
        pytest.param(a_script(origin=NOW + DAY), NOW_IN_MS, id="never in the future"),
        pytest.param(
            a_script(origin=datetime(2020, 1, 1, 0, 0, 0, 999999, tzinfo=UTC)),
            datetime(2020, 1, 1, 0, 0, 0, 999000, tzinfo=UTC),
            id="whole milliseconds",
        ),
        pytest.param(a_script(origin_age=timedelta.max), EARLIEST, id="older than any date"),
        pytest.param(
            a_script(origin=datetime(1, 1, 1, tzinfo=UTC)),
            EARLIEST,
            id="a date that the driver takes for -infinity",
        ),
    ],
)
def test_where_the_source_time_of_a_new_run_begins(script: Script, origin: datetime) -> None:
    assert origin_of(script, now=NOW, first_import=FIRST_IMPORT) == origin


# The law


names = st.sampled_from(["acme", "bolt"])
sources = st.sampled_from(["git", "jira", "unheard_of"])
dates = st.none() | st.sampled_from([ORIGIN - DAY, ORIGIN, NOW - DAY, NOW + DAY])
any_rows = st.lists(
    st.builds(
        RunRow,
        key=st.builds(
            RunKey, names, sources, st.sampled_from(["commit", "repository", "issue", "gone"])
        ),
        run_no=st.integers(1, 10**6),
        retired=st.booleans(),
        origin=st.none() | st.just(ORIGIN),
        watermark=dates,
    ),
    max_size=8,
    unique_by=(lambda row: row.key, lambda row: row.run_no),
)


def applied(made: Plan, rows: list[RunRow]) -> list[RunRow]:
    """The rows after the plan, as the statements of the cycle would leave them."""
    going_on = {one.run_no: one for one in made.go_on}
    after = []
    for old in rows:
        if old.run_no in going_on:
            after.append(replace(old, retired=False, origin=going_on[old.run_no].origin))
        else:
            after.append(old)
    fresh = (
        RunRow(key, 10**7 + number, retired=False, origin=origin, watermark=None)
        for number, (key, origin) in enumerate(made.enrol.items())
    )
    return [*after, *fresh]


@EXAMPLES
@given(st.lists(st.tuples(names, sources), max_size=6), any_rows)
def test_after_a_plan_the_rows_are_right_and_the_next_plan_is_empty(
    configured: list[tuple[str, str]], rows: list[RunRow]
) -> None:
    after = applied(plan(configured, rows), rows)

    assert plan(configured, after) == EMPTY
    in_use = {one.key for one in after if not one.retired and one.origin is not None}
    assert in_use >= {
        RunKey(tenant_id, source, script.name.script)
        for tenant_id, source in configured
        for script in SCRIPTS.get(source, [])
    }
