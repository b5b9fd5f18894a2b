"""Claim, record and give back against a real PostgreSQL, by two replicas."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from harvestd.database.pool import Database
from harvestd.errors import LeaseLost
from harvestd.runs.claims import Claim, Claims, Listed, Refusal
from harvestd.terms import Outcome, Window
from tests.builders import (
    a_claimer,
    a_run,
    an_ending,
    query,
    taken,
    until_somebody_waits_for_a_lock,
)


async def status_of(url: str, run_no: int) -> dict[str, object]:
    (row,) = await query(url, "SELECT * FROM data_source_run WHERE run_no = $1", run_no)
    return row


async def test_the_first_run_of_a_script_that_never_ran_is_claimed(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)

    claim = await taken(claims, listed)

    assert claim.fence == 1
    assert claim.ledger.covered == ()
    assert (await status_of(database_url, listed.run_no))["status"] == "RUNNING"


async def test_of_two_replicas_that_claim_at_once_exactly_one_gets_the_run(
    database: Database, database_url: str
) -> None:
    one, other = await a_claimer(database), await a_claimer(database)
    listed = [await a_run(database_url, f"acme/probe/s{i}") for i in range(20)]

    answers = await asyncio.gather(*(c.claim(run) for run in listed for c in (one, other)))

    claims = [answer for answer in answers if isinstance(answer, Claim)]
    assert sorted(claim.run_no for claim in claims) == sorted(run.run_no for run in listed)


async def test_claims_asked_within_one_moment_share_one_statement(
    database: Database, database_url: str
) -> None:
    claims = await a_claimer(database)
    listed = [await a_run(database_url, f"acme/probe/s{i}") for i in range(20)]

    got = await asyncio.gather(*(claims.claim(run) for run in listed))

    assert len({claim.started_at for claim in got if isinstance(claim, Claim)}) == 1


async def test_a_listed_fence_that_has_grown_since_is_no_longer_due(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    claim = await taken(claims, listed)
    await claims.record(claim, an_ending())

    assert await claims.claim(listed) is Refusal.GONE


async def test_a_run_under_way_elsewhere_is_held(database: Database, database_url: str) -> None:
    one, other = await a_claimer(database), await a_claimer(database)
    listed = await a_run(database_url)
    claim = await taken(one, listed)

    assert await other.claim(Listed(listed.key, listed.run_no, claim.fence)) is Refusal.HELD


async def test_a_replica_that_never_registered_claims_nothing(
    database: Database, database_url: str
) -> None:
    stranger, listed = Claims(database, uuid4()), await a_run(database_url)

    assert isinstance(await stranger.claim(listed), Refusal)


async def test_recording_adds_the_window_to_the_ledger_and_moves_the_date(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    claim = await taken(claims, listed)
    window = Window(claim.ledger.origin, claim.started_at)

    assert await claims.record(claim, an_ending(covered=[window], rows=5))

    row = await status_of(database_url, listed.run_no)
    assert row["status"] == "COMPLETED"
    assert row["last_fetched_data_date"] == window.end
    assert row["rows_written"] == 5
    history = await query(database_url, "SELECT * FROM harvestd.run_history")
    assert [attempt["outcome"] for attempt in history] == ["completed"]


async def test_an_idle_success_writes_history_only_as_a_change_of_state(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    outcomes = (Outcome.COMPLETED, Outcome.COMPLETED, Outcome.FAILED, Outcome.COMPLETED)
    for outcome in outcomes:
        claim = await taken(claims, listed)
        await claims.record(claim, an_ending(outcome=outcome))
        listed = listed._replace(fence=claim.fence)

    history = await query(
        database_url, "SELECT fence, outcome FROM harvestd.run_history ORDER BY fence"
    )
    assert [(attempt["fence"], attempt["outcome"]) for attempt in history] == [
        (1, "completed"),
        (3, "failed"),
        (4, "completed"),
    ]


async def test_whose_fence_was_raised_neither_covers_nor_records(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    claim = await taken(claims, listed)
    window = Window(claim.ledger.origin, claim.started_at)
    await query(database_url, "UPDATE data_source_run SET fence = fence + 1")

    with pytest.raises(LeaseLost):
        await claims.cover(claim, [window])
    assert not await claims.record(claim, an_ending(covered=[window]))

    row = await status_of(database_url, listed.run_no)
    assert row["last_fetched_data_date"] is None
    await claims.give_back([listed.run_no])
    assert (await status_of(database_url, listed.run_no))["status"] == "PENDING"


async def test_a_failed_attempt_is_due_at_the_next_tick_and_counted(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    claim = await taken(claims, listed)

    await claims.record(claim, an_ending(Outcome.FAILED))

    row = await status_of(database_url, listed.run_no)
    assert (row["status"], row["failures"]) == ("FAILED", 1)
    (due,) = await query(database_url, "SELECT due_at <= now() AS now FROM data_source_run")
    assert due["now"]


async def test_a_locked_row_delays_no_other_record(database: Database, database_url: str) -> None:
    claims = await a_claimer(database)
    first = await taken(claims, await a_run(database_url, "acme/probe/locked"))
    second = await taken(claims, await a_run(database_url, "acme/probe/free"))
    async with database.line("test").connection() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM public.data_source_run WHERE run_no = $1 FOR UPDATE", first.run_no
        )
        waiting = asyncio.create_task(claims.record(first, an_ending()))
        await until_somebody_waits_for_a_lock(database_url)
        async with asyncio.timeout(5):
            assert await claims.record(second, an_ending())
        assert not waiting.done()
    assert await waiting


async def test_what_the_database_holds_for_us_and_we_do_not_is_a_stray(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    held = {listed.run_no: (await taken(claims, listed)).fence}

    assert await claims.give_back_strays(held, lambda: {listed.run_no}) == set()
    assert await claims.give_back_strays(held, set) == {listed.run_no}
    assert (await status_of(database_url, listed.run_no))["status"] == "PENDING"


async def test_a_run_that_strays_again_and_again_backs_off_until_one_is_recorded(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    waits = "SELECT extract(epoch FROM due_at - now())::float AS seconds FROM data_source_run"
    for fence in range(8):
        held = {listed.run_no: (await taken(claims, listed._replace(fence=fence))).fence}
        at_once = await claims.give_back_strays(held, set)
        assert at_once == ({listed.run_no} if fence == 0 else set())
        (row,) = await query(database_url, waits)
        minutes = 0 if fence == 0 else min(2**fence, 60)
        assert row["seconds"] == pytest.approx(60 * minutes, rel=0.25, abs=10)
    await claims.record(await taken(claims, listed._replace(fence=8)), an_ending())

    assert (await status_of(database_url, listed.run_no))["failures"] == 0


async def test_a_run_of_a_paused_tenant_is_not_claimed_even_from_an_earlier_turn(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    await query(database_url, "INSERT INTO tenant (id, paused_at) VALUES ('acme', now())")

    assert isinstance(await claims.claim(listed), Refusal)

    await query(database_url, "UPDATE tenant SET paused_at = NULL")
    assert isinstance(await claims.claim(listed), Claim)


WAITS_FOR_US = """
    CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$;
    CREATE TRIGGER wait BEFORE UPDATE ON data_source_run
        FOR EACH ROW WHEN (NEW.status = 'RUNNING') EXECUTE FUNCTION public.wait();
"""


async def test_a_claim_that_is_under_way_while_its_replica_leaves_is_held_by_nobody(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute(WAITS_FOR_US)
    await connection.execute("SELECT pg_advisory_lock(4711)")
    asking = asyncio.create_task(claims.claim(listed))
    await until_somebody_waits_for_a_lock(database_url)
    asking.cancel()  # as a second SIGTERM does
    leaving = asyncio.create_task(claims.leave())
    await until_somebody_waits_for_a_lock(database_url, sessions=2)
    await connection.close()
    await leaving

    row = await status_of(database_url, listed.run_no)
    assert (row["status"], row["replica_id"], row["fence"]) == ("PENDING", None, 1)
    assert await query(database_url, "SELECT FROM harvestd.replica WHERE dead_at IS NULL") == []


async def test_a_ledger_of_one_moment_is_empty_and_spoils_no_other_claim(
    database: Database, database_url: str
) -> None:
    claims = await a_claimer(database)
    listed = [await a_run(database_url, f"acme/probe/s{i}") for i in range(2)]
    await query(
        database_url,
        "UPDATE data_source_run SET covered = '{[2024-01-01 00:00:00+00,2024-01-01 00:00:00+00]}'"
        " WHERE script = 's0'",
    )

    got = await asyncio.gather(*(claims.claim(run) for run in listed))

    assert [isinstance(claim, Claim) and claim.ledger.covered for claim in got] == [(), ()]
