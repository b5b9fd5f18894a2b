"""What changes in a tenant's row says nothing of its data sources' configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from harvestd.observing import metrics
from tests.builders import a_tenant, query
from tests.daemons import PROBE, cycle, running_app

FAILING = "async def run(*_):\n    raise ValueError('not yet')\n"
LIMITED = """
    from datetime import UTC, datetime
    from harvestd.plugin import Wait
    async def run(*_):
        raise Wait(datetime(2126, 1, 1, tzinfo=UTC), "429")
"""


@pytest.mark.parametrize(
    "change", ["name = 'Acme Ltd'", "runs_max = 8", "paused_at = now()", "id = 'acme'"]
)
async def test_what_changes_of_a_tenant_itself_ends_no_rate_limit_and_no_backoff(
    database_url: str, tmp_path: Path, change: str
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    plugins = {"probe/main.py": LIMITED, "probe/bad.py": FAILING}
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        await query(database_url, f"UPDATE tenant SET {change}")
        await cycle(app, forced=False)
        kept = await query(
            database_url,
            "SELECT script, status::text, not_before > now() AS held, failures"
            " FROM data_source_run ORDER BY script DESC",
        )

    assert kept == [
        {"script": "main", "status": "WAITING", "held": True, "failures": 0},
        {"script": "bad", "status": "FAILED", "held": False, "failures": kept[1]["failures"]},
    ]
    assert kept[1]["failures"] > 0


async def test_runs_of_a_paused_tenant_are_not_counted_as_due(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    await query(database_url, "UPDATE tenant SET paused_at = now() WHERE id = 'acme'")
    async with running_app(database_url, tmp_path, {"probe/main.py": LIMITED}) as app:
        await app.feeder.idle()
        due = metrics.RUNS_DUE._value.get()
    ran = await query(database_url, "SELECT tenant_id FROM data_source_run WHERE fence > 0")

    assert due == 1
    assert [row["tenant_id"] for row in ran] == ["globex"]
