"""Activity: how many commits each author made on each UTC day, by the committer's date.

Made from the tenant's own ``git.commit``, in all its repositories; a commit that is in several of
them counts once.  A script with windows: each recomputes all days that it touches, as a whole, so
it does not matter where windows begin and end, nor how often a day is read.

Commits are pushed later than they are made, hence ``lookback``: whatever arrives within 14 days
is counted by itself.  Older history (a repository that is added later, a branch that nobody
pushed for a month) takes a ``harvestd backfill`` (docs/git.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

resources = ["activity"]
dependencies = ["commit"]
origin = datetime(2005, 4, 1, tzinfo=UTC)
"""The month in which git was made: all history but what was imported from older systems."""
import_window_duration = timedelta(days=91)
lookback = timedelta(days=14)

# An author who has no commits on a day any more gets 0 there rather than a mark: it is the
# number of commits, it adds up, and nobody who reads the table has to know about marks.
COUNT = """
WITH counted AS (
    SELECT left(author_email, 320) AS author_email,
           (committed_at AT TIME ZONE 'UTC')::date AS day,
           count(DISTINCT sha) AS commits
    FROM git.commit
    WHERE committed_at >= $1 AND committed_at < $2 AND deleted_at IS NULL
    GROUP BY 1, 2
),
known AS (
    SELECT author_email, day
    FROM git.activity
    WHERE day >= ($1 AT TIME ZONE 'UTC')::date AND day < ($2 AT TIME ZONE 'UTC')::date
)
SELECT author_email, day, coalesce(commits, 0) AS commits
FROM counted
FULL JOIN known USING (author_email, day)
"""


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Count every day that the window touches."""
    first, last = start_of_day(start_date), start_of_day(end_date - timedelta.resolution)
    rows = await db.fetch(COUNT, first, last + timedelta(days=1))
    await db.upsert("activity", map(dict, rows), key=["author_email", "day"])


def start_of_day(moment: datetime) -> datetime:
    """Midnight in UTC before ``moment``, or ``moment`` itself."""
    return datetime.combine(moment.astimezone(UTC), time(), UTC)
