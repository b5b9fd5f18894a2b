"""What the metrics say of the whole database: late, gapped, failed and stopped runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harvestd.database.pool import Database
from harvestd.observing.metrics import exposition
from harvestd.service.gauges import Gauges
from tests.builders import a_run, a_tenant, query

DAY = 86_400


@pytest.fixture
async def gauges(database_url: str) -> AsyncIterator[Gauges]:
    database = Database(database_url)
    yield Gauges(database, tenants_max=2)
    await database.close()


def series(name: str) -> dict[str, float]:
    """The value of each series of a metric, by its labels' values: source/script, or tenant."""
    text = exposition()[0].decode()
    for family in text_string_to_metric_families(text):
        if family.name == name:
            by = (
                sorted(family.samples[0].labels, key=["source", "script", "tenant"].index)
                if family.samples
                else []
            )
            return {"/".join(s.labels[label] for label in by): s.value for s in family.samples}
    return {}


async def test_lag_and_holes_are_of_each_script_over_all_tenants(
    gauges: Gauges, database_url: str
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_run(database_url, f"{tenant_id}/probe/main", days=10)
    # acme lacks two days behind its watermark, and a day since; globex has covered nothing.
    await query(
        database_url,
        "UPDATE data_source_run SET covered = multirange(tstzrange(origin, origin + '4 days'))"
        " + multirange(tstzrange(origin + '6 days', origin + '9 days')),"
        " last_fetched_data_date = origin + interval '9 days' WHERE tenant_id = 'acme'",
    )
    await gauges.measure()

    assert series("harvestd_watermark_lag_seconds")["probe/main"] == pytest.approx(10 * DAY, abs=60)
    assert series("harvestd_runs_with_gaps") == {"probe/main": 1}
    assert series("harvestd_gap_seconds")["probe/main"] == pytest.approx(2 * DAY, abs=60)


async def test_what_lies_before_the_first_piece_is_a_hole_too(
    gauges: Gauges, database_url: str
) -> None:
    await a_run(database_url, days=10)
    await query(
        database_url,
        "UPDATE data_source_run SET covered = multirange(tstzrange(origin + '3 days', now())),"
        " last_fetched_data_date = now()",
    )
    await gauges.measure()

    assert series("harvestd_gap_seconds")["probe/main"] == pytest.approx(3 * DAY, abs=60)


async def test_only_the_worst_tenants_have_series_of_their_own(
    gauges: Gauges, database_url: str
) -> None:
    for number in range(6):
        await a_run(database_url, f"t{number}/probe/main", days=number + 1)
    await query(database_url, "UPDATE data_source_run SET status = 'FAILED' WHERE tenant_id = 't0'")
    await gauges.measure()

    assert sorted(series("harvestd_tenant_watermark_lag_seconds")) == ["t0", "t4", "t5"]
    assert series("harvestd_tenant_runs_failed") == {"t0": 1, "t4": 0, "t5": 0}
    assert series("harvestd_runs_failed") == {"probe/main": 1}


async def test_paused_tenants_neither_count_nor_crowd_out_those_that_are_late(
    gauges: Gauges, database_url: str
) -> None:
    for number in range(4):
        await a_tenant(database_url, f"t{number}")
        await a_run(database_url, f"t{number}/probe/main", days=number + 1)
    await query(database_url, "UPDATE data_source_run SET status = 'FAILED'")
    await query(database_url, "UPDATE tenant SET paused_at = now() WHERE id IN ('t2', 't3')")
    await gauges.measure()

    assert sorted(series("harvestd_tenant_watermark_lag_seconds")) == ["t0", "t1"]
    assert series("harvestd_watermark_lag_seconds")["probe/main"] == pytest.approx(2 * DAY, abs=60)
    assert series("harvestd_runs_failed") == {"probe/main": 2}


async def test_series_go_with_the_runs_they_were_of(gauges: Gauges, database_url: str) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "value"}})
    await a_run(database_url)
    await query(database_url, "UPDATE data_source_run SET not_before = 'infinity'")
    await gauges.measure()
    before = series("harvestd_runs_stopped"), series("harvestd_credential_age_seconds")
    await query(database_url, "DELETE FROM data_source_run")
    await query(database_url, "DELETE FROM tenant")
    await gauges.measure()

    assert before[0] == {"probe/main": 1}
    assert before[1]["probe"] == pytest.approx(0, abs=60)
    assert series("harvestd_runs_stopped") == {}
    assert series("harvestd_credential_age_seconds") == {}


async def test_the_loop_outlives_a_database_that_refuses(gauges: Gauges, database_url: str) -> None:
    await query(database_url, "ALTER TABLE tenant_data_source_config RENAME TO away")
    looking = asyncio.create_task(gauges.measure_forever())
    done, _ = await asyncio.wait({looking}, timeout=0.5)
    looking.cancel()

    assert done == set()
