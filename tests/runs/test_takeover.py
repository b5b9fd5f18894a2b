"""Two actors through claim, reap and record, step by step; planted mutants must be caught.

The `step` hook decides who goes on.  Each scenario is a function that returns what went wrong,
so that it runs over the real statements (nothing may) and over a mutant (something must).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from harvestd.database.pool import Database
from harvestd.database.statements import load_statements
from harvestd.loading.seats import Binding, Seats
from harvestd.runs.claims import Claim, Claims, Refusal
from harvestd.terms import Window
from tests.builders import a_replica, a_run, an_ending, made_roles, query, silence
from tests.runs.pausing import paused_at

Scenario = Callable[[Database, str], Awaitable[list[str]]]

DEAD_CLAIMS = ("claim_runs", "AND replica.dead_at IS NULL", "")
RECORD_WITHOUT_FENCE = (
    "record_attempts",
    "AND run.fence = asked.fence\n    WHERE run.replica_id = $1::uuid",
    "WHERE true OR run.replica_id = $1::uuid",
)
REAP_BEFORE_THE_BACKEND_IS_GONE = (
    "free_runs_of_the_dead",
    "AND activity.backend_start = binding.backend_start",
    "AND false",
)


def mutant(name: str, old: str, new: str) -> Mapping[str, str]:
    """The statements with one fault planted."""
    known = load_statements()
    assert old in known[name], f"the mutant no longer fits {name}"
    text = known[name].replace(old, new)
    if name == "record_attempts":
        text = text.replace("\n      AND run.fence = asked.fence", "")
    return {**known, name: text}


async def a_replica_that_pauses_before_its_claim(database: Database, url: str) -> list[str]:
    """It is declared dead meanwhile: its late claim must not be given."""
    paused, reaper = await a_replica(database), await a_replica(database)
    listed = await a_run(url)
    claims = Claims(database, paused.replica_id)
    async with paused_at("claim") as (reached, go_on):
        claiming = asyncio.create_task(claims.claim(listed))
        await asyncio.wait_for(reached.wait(), 5)
        await silence(url, paused.replica_id)
        assert (await reaper.reap()).marked == (paused.replica_id,)
        go_on.set()
        answer = await claiming
    return [] if isinstance(answer, Refusal) else ["a dead replica claimed"]


async def a_replica_that_pauses_before_its_record(database: Database, url: str) -> list[str]:
    """Its run is taken over and goes on elsewhere: the late record must change nothing."""
    paused, other = await a_replica(database), await a_replica(database)
    listed = await a_run(url)
    zombie = Claims(database, paused.replica_id)
    claim = await zombie.claim(listed)
    assert isinstance(claim, Claim)
    window = Window(claim.ledger.origin, claim.started_at)
    async with paused_at("record") as (reached, go_on):
        recording = asyncio.create_task(zombie.record(claim, an_ending(covered=[window])))
        await asyncio.wait_for(reached.wait(), 5)
        await silence(url, paused.replica_id)
        assert (await other.reap()).freed == (listed.key,)
        claims = Claims(database, other.replica_id)
        mine = await claims.claim(listed._replace(fence=claim.fence + 1))
        assert isinstance(mine, Claim)
        go_on.set()
        recorded = await recording
    (row,) = await query(url, "SELECT status::text, covered FROM data_source_run")
    wrong = ["a lost attempt was recorded"] if recorded else []
    wrong += ["a lost attempt covered source time"] if row["covered"] else []
    wrong += ["the new holder lost its run"] if row["status"] != "RUNNING" else []
    return wrong


async def a_replica_that_pauses_while_its_backend_writes(database: Database, url: str) -> list[str]:
    """While the dead one's backend cannot be ended, its run must not be given to another."""
    roles = await made_roles(url)
    paused = await a_replica(database)
    # What ends backends does nothing, as on a server under load: the backend stays.
    never_ends = {"end_dead_backends": "SELECT 0::bigint AS ended"}
    database.statements = {**database.statements, **never_ends}
    reaper = await a_replica(database)
    listed = await a_run(url)
    claims = Claims(database, paused.replica_id)
    claim = await claims.claim(listed)
    assert isinstance(claim, Claim)
    seats = Seats(database, roles, paused.replica_id, seats_max=1)
    binding = Binding(claim.key, claim.run_no, claim.fence, None, None)
    async with paused_at("reap_free") as (reached, go_on), seats.bound(binding) as seat:
        await silence(url, paused.replica_id)
        reaping = asyncio.create_task(reaper.reap())
        await asyncio.wait_for(reached.wait(), 5)
        assert await seat.connection.fetchval("SELECT 1") == 1
        go_on.set()
        freed = (await reaping).freed
    await seats.close()
    return ["a run was freed while its backend still wrote"] if freed else []


@pytest.mark.parametrize(
    "scenario",
    [
        a_replica_that_pauses_before_its_claim,
        a_replica_that_pauses_before_its_record,
        a_replica_that_pauses_while_its_backend_writes,
    ],
)
async def test_a_pause_at_the_worst_moment_breaks_nothing(
    scenario: Scenario, database: Database, database_url: str
) -> None:
    assert await scenario(database, database_url) == []


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        (a_replica_that_pauses_before_its_claim, DEAD_CLAIMS),
        (a_replica_that_pauses_before_its_record, RECORD_WITHOUT_FENCE),
        (a_replica_that_pauses_while_its_backend_writes, REAP_BEFORE_THE_BACKEND_IS_GONE),
    ],
)
async def test_each_planted_mutant_is_caught(
    scenario: Scenario, fault: tuple[str, str, str], database: Database, database_url: str
) -> None:
    database.statements = mutant(*fault)

    assert await scenario(database, database_url) != []
