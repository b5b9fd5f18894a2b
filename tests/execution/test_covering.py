"""When finished windows reach the ledger: at once where something may have been written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from harvestd.database import step
from tests.builders import a_tenant
from tests.daemons import PROBE, cycle, running_app, runs

TEN_WINDOWS = """
from datetime import UTC, datetime, timedelta
import_window_duration = timedelta(days=1)
origin = datetime.now(UTC) - timedelta(days=9, hours=12)
"""
IDLE = TEN_WINDOWS + "async def run(*_):\n    pass\n"
READING = TEN_WINDOWS + "async def run(env, db, *_):\n    await db.fetchval('SELECT 1')\n"
FAILING_LAST = (
    TEN_WINDOWS
    + """
async def run(env, db, tenant_id, start_date, end_date):
    if datetime.now(UTC) - end_date < timedelta(hours=1):
        raise ValueError("the last window")
"""
)


@pytest.fixture
def steps() -> Iterator[Counter[str]]:
    """How often each step was passed."""
    passed = Counter[str]()

    async def count(name: str) -> None:
        passed[name] += 1

    step.hook = count
    yield passed
    step.hook = None


@pytest.mark.parametrize(("script", "covers"), [(IDLE, range(5)), (READING, [9])])
async def test_windows_that_asked_nothing_of_the_database_are_covered_together(
    database_url: str, tmp_path: Path, steps: Counter[str], script: str, covers: Collection[int]
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await cycle(app, forced=False)

    (row,) = (await runs(database_url)).values()
    (covered,) = row["covered"]
    assert row["word"] == "COMPLETED"
    assert steps["cover"] in covers  # of the idle ones one for each second that went by
    assert covered.upper == row["last_fetched_data_date"]


async def test_what_was_covered_before_a_window_failed_is_recorded_with_the_failure(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": FAILING_LAST}) as app:
        await app.feeder.idle()

    (row,) = (await runs(database_url)).values()
    (covered,) = row["covered"]
    assert row["word"] == "FAILED"
    assert (covered.upper - covered.lower).days == 9
