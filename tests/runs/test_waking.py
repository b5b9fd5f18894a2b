"""What a changed configuration ends of a run that its replica died with."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harvestd.database.pool import Database
from harvestd.runs.claims import Claims, Listed
from harvestd.runs.enrolment import Enrolment
from harvestd.runs.heartbeat import Heartbeat
from tests.builders import a_replica, a_run, a_tenant, query, silence, taken


@pytest.fixture
async def listed(database_url: str) -> Listed:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "value"}})
    return await a_run(database_url)


async def dies_with(database: Database, url: str, reaper: Heartbeat, listed: Listed) -> Listed:
    """A replica claims the run and dies; as it is listed from then on."""
    dead = await a_replica(database)
    await taken(Claims(database, dead.replica_id), listed)
    await silence(url, dead.replica_id)
    assert (await reaper.reap()).freed == (listed.key,)
    return await seen(url, listed)


async def seen(url: str, listed: Listed) -> Listed:
    [row] = await query(url, "SELECT fence FROM data_source_run")
    return listed._replace(fence=row["fence"])


async def enrolment_of(database: Database) -> Enrolment:
    """One that is past its start."""
    enrolment = Enrolment(database, first_import=timedelta(days=90))
    await enrolment.apply({}, everything=True)
    await enrolment.wake()
    return enrolment


async def changed(url: str, enrolment: Enrolment) -> None:
    await query(url, "UPDATE tenant_data_source_config SET value = value || 'x'")
    await enrolment.apply({}, everything=False)
    await enrolment.wake()


async def deaths(url: str) -> tuple[int, int, str]:
    [row] = await query(url, "SELECT deaths, failures, status::text FROM data_source_run")
    return row["deaths"], row["failures"], row["status"]


async def test_a_change_forgets_the_deaths_before_it(
    database: Database, database_url: str, listed: Listed
) -> None:
    reaper, enrolment = await a_replica(database), await enrolment_of(database)
    listed = await dies_with(database, database_url, reaper, listed)
    await dies_with(database, database_url, reaper, listed)
    before = await deaths(database_url)

    await changed(database_url, enrolment)

    assert before == (2, 2, "PENDING")
    assert await deaths(database_url) == (0, 0, "PENDING")


async def test_the_death_of_a_run_that_was_under_way_when_the_change_was_seen_counts(
    database: Database, database_url: str, listed: Listed
) -> None:
    reaper, enrolment = await a_replica(database), await enrolment_of(database)
    dead = await a_replica(database)
    await taken(Claims(database, dead.replica_id), listed)
    await changed(database_url, enrolment)
    await silence(database_url, dead.replica_id)
    await reaper.reap()

    await enrolment.wake()
    once = await deaths(database_url)
    await changed(database_url, enrolment)

    # Due at once, since it may have read the old values.
    assert once == (1, 0, "PENDING")
    assert await deaths(database_url) == (0, 0, "PENDING")


async def test_a_change_frees_a_run_that_stopped_with_its_third_death_under_way(
    database: Database, database_url: str, listed: Listed
) -> None:
    reaper, enrolment = await a_replica(database), await enrolment_of(database)
    for _ in range(2):
        listed = await dies_with(database, database_url, reaper, listed)
    dead = await a_replica(database)
    await query(database_url, "UPDATE data_source_run SET due_at = now(), not_before = now()")
    await taken(Claims(database, dead.replica_id), listed)
    await changed(database_url, enrolment)
    await silence(database_url, dead.replica_id)
    await reaper.reap()
    stopped = await deaths(database_url)

    await enrolment.wake()

    assert stopped == (3, 3, "FAILED")
    assert await deaths(database_url) == (0, 0, "FAILED")
