"""Commits an author and day: equal to what is in git.commit, whenever it came there."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from harvestd.database.pool import Database
from harvestd.service.acts import Acts, RunsChosen
from harvestd.terms import Window
from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.plugins.git.world import Upstream, config

DAY = timedelta(days=1)


async def activity(url: str) -> dict[tuple[str, date], int]:
    """The stored numbers by author and day."""
    rows = await query(url, "SELECT author_email, day, commits FROM git.activity")
    return {(row["author_email"], row["day"]): row["commits"] for row in rows}


async def run_of(url: str) -> dict[str, object]:
    """The one run of ``activity``."""
    [row] = await query(
        url,
        "SELECT status::text AS word, rows_written::int AS rows, origin FROM data_source_run"
        " WHERE script = 'activity'",
    )
    return row


def add(upstream: Upstream, at: datetime, email: str = "ada@x") -> str:
    """A commit of its own, committed at that moment; a tag leads to it."""
    seconds = int(at.timestamp())
    author = f"Somebody <{email}> 1 +1400".encode()
    sha = upstream.commit(b"%d\n" % random.getrandbits(64), seconds=seconds, author=author)
    upstream.point(f"refs/tags/{sha}", sha)
    return sha


async def backfill(url: str, window: Window) -> None:
    """Let ``activity`` read this stretch again."""
    database = Database(url)
    try:
        await Acts(database).backfill(RunsChosen("acme", "git", "activity"), window)
    finally:
        await database.close()


async def test_windows_of_twenty_years_together_count_every_commit_on_its_day(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    chance = random.Random(11)
    expected: Counter[tuple[str, date]] = Counter()
    now = datetime.now(UTC)
    for number in range(60):
        at = now - timedelta(seconds=chance.randrange(20 * 365 * 86_400))
        if number % 3 == 0:  # the first and the last second of a day
            at = datetime(at.year, at.month, at.day, tzinfo=UTC) - timedelta(seconds=number % 2)
        email = chance.choice(["ada@x", "ben@x"])
        add(upstream, at, email)
        expected[email, at.date()] += 1
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    run = await run_of(database_url)
    assert run["word"] == "COMPLETED"
    assert await activity(database_url) == expected
    assert run["origin"] == datetime(2005, 4, 1, tzinfo=UTC)


async def test_what_is_pushed_late_is_counted_by_itself_and_what_is_older_by_a_backfill(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    today, lately, long_ago = now - timedelta(seconds=30), now - 13 * DAY, now - 40 * DAY
    add(upstream, today)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        await cycle(app)
        written_once = (await run_of(database_url))["rows"]
        for at in (today, lately, long_ago, long_ago):
            add(upstream, at)
        await cycle(app)
        before = await activity(database_url)
        await backfill(database_url, Window(now - 60 * DAY, now - 20 * DAY))
        await cycle(app)

    assert written_once == 1
    assert before == {("ada@x", today.date()): 2, ("ada@x", lately.date()): 1}
    assert await activity(database_url) == before | {("ada@x", long_ago.date()): 2}


async def test_a_day_that_a_window_begins_or_ends_in_is_counted_as_a_whole(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    days = [now - 14 * DAY, now - 30 * DAY, now - 20 * DAY]  # begun by lookback, begun, ended
    for moment in days:
        midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        for at in (midnight, midnight + DAY - timedelta(seconds=1)):
            add(upstream, at)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        await cycle(app)
        await backfill(database_url, Window(days[1], days[2]))
        await cycle(app)

    assert await activity(database_url) == {("ada@x", moment.date()): 2 for moment in days}
    assert (await run_of(database_url))["rows"] == len(days)


async def test_a_day_whose_commits_are_no_more_has_none_and_is_not_written_again(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    at = datetime.now(UTC) - DAY
    add(upstream, at, "ada@x")
    gone = add(upstream, at, "ben@x")
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        await query(database_url, "UPDATE git.commit SET deleted_at = now() WHERE sha = $1", gone)
        await cycle(app)
        await cycle(app)

    assert await activity(database_url) == {("ada@x", at.date()): 1, ("ben@x", at.date()): 0}
    assert (await run_of(database_url))["rows"] == 3


async def test_a_commit_in_several_repositories_counts_once_and_only_for_its_tenant(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    at = datetime.now(UTC) - DAY
    add(upstream, at)
    link = tmp_path / "the same, by another path"
    link.symlink_to(upstream.path)
    await a_tenant(database_url, "acme", config(upstream.path, link))
    await a_tenant(database_url, "globex", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    rows = await query(database_url, "SELECT tenant_id, commits FROM git.activity ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("acme", 1), ("globex", 1)]
    commits = "SELECT count(*)::int AS n FROM git.commit WHERE tenant_id = 'acme'"
    assert await query(database_url, commits) == [{"n": 2}]


async def test_an_address_longer_than_any_can_be_is_counted_by_its_beginning(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    at = datetime.now(UTC) - DAY
    for number in range(2):
        add(upstream, at, f"{'é' * 400}{random.Random(number).randbytes(5000).hex()}")
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    assert (await run_of(database_url))["word"] == "COMPLETED"
    assert await activity(database_url) == {("é" * 320, at.date()): 2}
