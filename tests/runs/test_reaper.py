"""The reaper: it declares the silent dead, ends what they left connected, and frees their runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from harvestd.database.pool import LOST, Database
from harvestd.loading.seats import Binding, Seats
from harvestd.runs.claims import Claim, Claims, Listed
from harvestd.runs.heartbeat import HELD_AFTER_DEATHS, Heartbeat, reap_forever
from harvestd.service.acts import Acts
from harvestd.terms import RunKey, Window
from tests.builders import LEASE, a_replica, a_run, an_ending, made_roles, query, silence
from tests.processes import wait_until
from tests.runs.pausing import paused_at


async def test_a_counter_at_its_end_keeps_no_other_run_of_the_dead_from_being_freed(
    database: Database, database_url: str
) -> None:
    dead, living = await a_replica(database), await a_replica(database)
    claims = Claims(database, dead.replica_id)
    for tenant_id in ("acme", "globex"):
        claimed = await claims.claim(await a_run(database_url, f"{tenant_id}/probe/main"))
        assert isinstance(claimed, Claim)
    await query(
        database_url,
        "UPDATE data_source_run SET failures = 2147483647, deaths = 2147483647"
        " WHERE tenant_id = 'acme'",
    )
    await silence(database_url, dead.replica_id)

    assert len((await living.reap()).freed) == 2


async def test_a_reaper_ends_the_backends_of_the_dead_and_of_nobody_else(
    database: Database, database_url: str
) -> None:
    roles = await made_roles(database_url)
    dead, living = await a_replica(database), await a_replica(database)
    held = []
    for replica, script in ((dead, "a"), (living, "b")):
        listed = await a_run(database_url, f"acme/probe/{script}")
        claim = await Claims(database, replica.replica_id).claim(listed)
        assert isinstance(claim, Claim)
        seats = Seats(database, roles, replica.replica_id, seats_max=2)
        held.append((seats, Binding(claim.key, claim.run_no, claim.fence, None, None)))
    (dead_seats, dead_binding), (living_seats, living_binding) = held
    async with living_seats.bound(living_binding) as spared:
        with pytest.raises(LOST):
            async with dead_seats.bound(dead_binding) as doomed:
                await silence(database_url, dead.replica_id)
                reaped = await living.reap()
                assert reaped.ended == 1
                await doomed.connection.fetchval("SELECT 1")
        assert await spared.connection.fetchval("SELECT 1") == 1
    await living_seats.close()
    await dead_seats.close()


@asynccontextmanager
async def reaping(reaper: Heartbeat, url: str) -> AsyncIterator[None]:
    """Its loop; at the end no run is held any more, long before the loop's next usual round."""

    async def freed() -> bool:
        return not await query(url, "SELECT FROM data_source_run WHERE replica_id IS NOT NULL")

    took_over = asyncio.Event()
    loop = asyncio.create_task(reap_forever(reaper, took_over.set))
    try:
        yield
        await wait_until(freed, "the run is freed", within=reaper.pause_seconds * 0.6)
    finally:
        loop.cancel()
    assert took_over.is_set()


async def test_a_lease_that_runs_out_wakes_the_reaper(
    database: Database, database_url: str
) -> None:
    victim, reaper = await a_replica(database), await a_replica(database)
    await Claims(database, victim.replica_id).claim(await a_run(database_url))
    await query(
        database_url,
        "UPDATE harvestd.replica SET heartbeat_at = clock_timestamp() - $2 * interval '1 second'"
        " WHERE replica_id = $1",
        victim.replica_id,
        LEASE.total_seconds() - 1.5,
    )
    async with reaping(reaper, database_url):
        pass


async def test_each_replica_is_judged_by_the_lease_that_it_told(
    database: Database, database_url: str
) -> None:
    patient, judge = await a_replica(database, lease=3 * LEASE), await a_replica(database)
    await silence(database_url, patient.replica_id)  # for two of the other's leases

    reaped = await judge.reap()

    assert reaped.marked == ()
    await silence(database_url, patient.replica_id)
    assert (await judge.reap()).marked == (patient.replica_id,)


async def test_a_reaper_soon_comes_back_to_a_backend_that_takes_a_moment_to_end(
    database: Database, database_url: str
) -> None:
    victim, reaper = await a_replica(database), await a_replica(database)
    claim = await Claims(database, victim.replica_id).claim(await a_run(database_url))
    assert isinstance(claim, Claim)
    seats = Seats(database, await made_roles(database_url), victim.replica_id, seats_max=1)
    async with seats.bound(Binding(claim.key, claim.run_no, claim.fence, None, None)) as seat:
        pid = await seat.connection.fetchval("SELECT pg_backend_pid()")
        await silence(database_url, victim.replica_id)
        os.kill(pid, signal.SIGSTOP)
        try:
            async with paused_at("reap_bury") as (reached, go_on), reaping(reaper, database_url):
                await asyncio.wait_for(reached.wait(), 5)
                os.kill(pid, signal.SIGCONT)
                go_on.set()
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    await seats.close()


async def test_a_replica_that_died_before_the_database_s_clock_was_set_back_is_reaped(
    database: Database, database_url: str
) -> None:
    dead, living = await a_replica(database), await a_replica(database)
    claimed = await Claims(database, dead.replica_id).claim(await a_run(database_url))
    assert isinstance(claimed, Claim)
    await query(
        database_url,
        "UPDATE harvestd.replica SET heartbeat_at = heartbeat_at + interval '1 day'"
        " WHERE replica_id = $1",
        dead.replica_id,
    )

    assert (await living.reap()).freed == (claimed.key,)


async def test_a_reaper_frees_nothing_of_one_that_another_reaper_declared_dead_meanwhile(
    database: Database, database_url: str
) -> None:
    roles = await made_roles(database_url)
    victim, reaper = await a_replica(database), await a_replica(database)
    claim = await Claims(database, victim.replica_id).claim(await a_run(database_url))
    assert isinstance(claim, Claim)
    seats = Seats(database, roles, victim.replica_id, seats_max=1)
    binding = Binding(claim.key, claim.run_no, claim.fence, None, None)
    async with seats.bound(binding) as seat:
        async with paused_at("reap_free") as (reached, go_on):
            reaping = asyncio.create_task(reaper.reap())
            await asyncio.wait_for(reached.wait(), 5)
            # All that the other one has done so far.
            await query(database_url, "UPDATE harvestd.replica SET dead_at = now()")
            go_on.set()
            freed_meanwhile = (await reaping).freed
        assert await seat.connection.fetchval("SELECT 1") == 1
    await seats.close()

    assert freed_meanwhile == ()


async def test_a_living_replica_is_never_reaped_and_a_second_reap_does_nothing(
    database: Database, database_url: str
) -> None:
    one, other = await a_replica(database), await a_replica(database)
    await silence(database_url, one.replica_id)

    assert (await other.reap()).marked == (one.replica_id,)
    assert (await other.reap()).marked == ()
    assert not (await one.beat({})).alive
    assert (await other.beat({})).alive


async def test_the_heartbeat_tells_which_runs_in_hand_are_no_longer_ours(
    database: Database, database_url: str
) -> None:
    replica = await a_replica(database)
    listed = await a_run(database_url)
    claim = await Claims(database, replica.replica_id).claim(listed)
    assert isinstance(claim, Claim)

    assert (await replica.beat({claim.run_no: claim.fence})).stale == frozenset()
    await query(database_url, "UPDATE data_source_run SET last_fetched_data_date = now()")
    assert (await replica.beat({claim.run_no: claim.fence})).stale == {claim.run_no}


async def a_death_of_its_holder(reaper: Heartbeat, database: Database, url: str) -> None:
    """A replica claims the only run and is never heard of again."""
    victim = await a_replica(database)
    (row,) = await query(url, "SELECT run_no, fence FROM data_source_run")
    listed = Listed(RunKey("acme", "probe", "main"), row["run_no"], row["fence"])
    assert isinstance(await Claims(database, victim.replica_id).claim(listed), Claim)
    await silence(url, victim.replica_id)
    assert (await reaper.reap()).freed == (listed.key,)


STATE = (
    "SELECT status::text, due_at <= now() AS due, not_before <= now() AS free, deaths, reason, "
    "error FROM data_source_run"
)


async def test_a_run_whose_holder_died_backs_off_and_after_three_in_a_row_is_held(
    database: Database, database_url: str
) -> None:
    reaper = await a_replica(database)
    await a_run(database_url)
    states = []
    for _ in range(3):
        await a_death_of_its_holder(reaper, database, database_url)
        states += await query(database_url, STATE)
    await Acts(database).trigger("acme", None, None)
    (triggered,) = await query(database_url, STATE)

    assert [state["status"] for state in states] == ["PENDING", "PENDING", "FAILED"]
    assert [state["due"] for state in states] == [True, False, False]
    assert [state["free"] for state in states] == [True, True, False]
    assert {state["reason"] for state in states} == {"holder_died"}
    assert [state["error"] for state in states] == [None, None, HELD_AFTER_DEATHS]
    assert (triggered["due"], triggered["free"], triggered["deaths"]) == (True, True, 0)


async def test_deaths_count_only_while_nothing_is_recorded_or_covered_between(
    database: Database, database_url: str
) -> None:
    reaper, living = await a_replica(database), await a_replica(database)
    listed = await a_run(database_url)
    claims = Claims(database, living.replica_id)
    for ends in ("recorded", "covered"):
        await a_death_of_its_holder(reaper, database, database_url)
        (row,) = await query(database_url, "SELECT fence, deaths FROM data_source_run")
        assert row["deaths"] == 1
        claim = await claims.claim(listed._replace(fence=row["fence"]))
        assert isinstance(claim, Claim)
        if ends == "recorded":
            await claims.record(claim, an_ending())
        else:
            await claims.cover(claim, [Window(claim.ledger.origin, claim.started_at)])

    (row,) = await query(database_url, "SELECT deaths FROM data_source_run")
    assert row["deaths"] == 0
