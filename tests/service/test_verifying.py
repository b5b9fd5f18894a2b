"""`verify` finds each contradiction that is planted, and none where there is none."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from harvestd.database.pool import Database
from harvestd.database.statements import load_statements, sql_root
from harvestd.errors import DatabaseError
from harvestd.loading.seats import Binding, Seats
from harvestd.runs.claims import Claims, Listed
from harvestd.service import verifying
from harvestd.service.acts import Acts, RunsChosen
from harvestd.service.verifying import WORDS, Verified, verify
from harvestd.terms import Outcome, Window
from tests.builders import (
    LEASE,
    TICK,
    a_replica,
    a_run,
    a_tenant,
    an_ending,
    made_roles,
    query,
    taken,
)
from tests.daemons import PROBE, SIMPLE, cycle, running_app

Connection: TypeAlias = "asyncpg.Connection[Any]"
GRACE = LEASE + TICK
LONG_AGO = "now() - interval '2 hours'"


async def verified(database: Database, tenant_id: str | None = None) -> Verified:
    return await verify(database, tenant_id, grace=GRACE)


async def found(database: Database) -> list[str]:
    """The kinds of what is wrong."""
    return sorted((await verified(database)).counts)


@pytest.fixture
async def claims(database: Database) -> Claims:
    return Claims(database, (await a_replica(database)).replica_id)


@pytest.fixture
async def listed(database_url: str) -> Listed:
    await a_tenant(database_url, "acme")
    return await a_run(database_url)


async def completed(claims: Claims, listed: Listed, days: float = 3) -> Listed:
    """A run of which an attempt covered the first ``days``; as it is listed from then on."""
    claim = await taken(claims, listed)
    start = claim.ledger.origin
    window = Window(start, min(start + timedelta(days=days), claim.started_at))
    assert await claims.record(claim, an_ending(covered=[window], rows=1))
    return listed._replace(fence=claim.fence)


def test_each_kind_of_fault_has_its_words_and_is_asked_for() -> None:
    asked = set()
    for path in (sql_root() / "queries" / "verify").glob("find_*.sql"):
        asked |= set(re.findall(r"^ *(?:\(|SELECT )'([a-z_]+)'", path.read_text(), re.MULTILINE))

    assert asked == set(WORDS)


async def test_a_replica_at_work_leaves_nothing_to_be_found(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        seen = await verified(database)
    (attempt,) = await query(
        database_url, "SELECT covered FROM harvestd.run_history WHERE windows > 1"
    )

    assert (seen.faults, seen.counts, seen.holes) == ([], {}, 0)
    assert (seen.runs, seen.bindings) == (1, 1)
    assert seen.attempts >= 1
    # All ninety windows, not only the one that was recorded with the end.
    (piece,) = attempt["covered"]
    assert piece.upper - piece.lower > timedelta(days=89)


@pytest.mark.parametrize("act", ["backfill", "reset", "date"])
async def test_what_an_operator_takes_out_of_a_ledger_is_no_fault(
    database: Database, database_url: str, claims: Claims, listed: Listed, *, act: str
) -> None:
    await completed(claims, listed)
    (row,) = await query(database_url, "SELECT origin FROM data_source_run")
    hour = timedelta(hours=1)
    hole = Window(row["origin"] + hour, row["origin"] + 3 * hour)
    match act:
        case "backfill":
            await Acts(database).backfill(RunsChosen("acme", None, None), hole)
        case "reset":
            await Acts(database).reset("acme", None, None)
        case _:
            await query(
                database_url, "UPDATE data_source_run SET last_fetched_data_date = $1", hole.start
            )
    seen = await verified(database)

    assert seen.counts == {}
    assert (seen.holes, seen.hole_seconds) == ((1, 7200) if act == "backfill" else (0, 0))


async def test_source_time_that_an_attempt_covered_and_the_ledger_lacks_is_named(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    await completed(claims, listed)
    hour = "tstzmultirange(tstzrange(origin, origin + interval '1 hour'))"
    lost = f"UPDATE data_source_run SET covered = covered - {hour} RETURNING origin"
    ((origin,),) = [tuple(row.values()) for row in await query(database_url, lost)]
    seen = await verified(database)
    (fault,) = seen.faults

    assert fault.kind == "ledger_lacks"
    assert (fault.tenant_id, fault.data_source, fault.script) == ("acme", "probe", "main")
    assert f'lacks {{["{origin:%Y-%m-%d %H:%M}' in fault.what
    assert seen.holes == 1


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("covered = covered + tstzmultirange(tstzrange(now(), '2999-01-01')), "
         "last_fetched_data_date = '2999-01-01'", "covered_in_the_future"),
        ("origin = origin + interval '1 day'", "covered_before_origin"),
        ("covered = covered * tstzmultirange(tstzrange(NULL, origin + interval '1 day')), "
         "last_fetched_data_date = last_fetched_data_date - interval '1 hour', "
         "cut_at = clock_timestamp()", ""),
        ("covered = covered + tstzmultirange(tstzrange(origin - interval '1 day', now())), "
         "origin = origin - interval '1 day'", "date_apart"),
        ("fence = 0", "row_behind_history"),
        ("replica_id = gen_random_uuid(), status = 'RUNNING', fence = fence + 1",
         "held_by_nobody"),
        ("fence = 0, replica_id = (SELECT replica_id FROM harvestd.replica), status = 'RUNNING'",
         "row_behind_history"),
    ],
)  # fmt: skip
async def test_a_row_that_somebody_changed_past_harvestd_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed, *, change: str, kind: str
) -> None:
    await completed(claims, listed)
    await query(database_url, f"UPDATE data_source_run SET {change}")

    assert await found(database) == ([kind] if kind else [])


async def test_a_date_beyond_its_ledger_is_wrong_once_a_later_attempt_completed(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    listed = await completed(claims, listed, days=1)
    await completed(claims, listed)
    ahead = "UPDATE data_source_run SET covered = covered * tstzmultirange(tstzrange(NULL, origin))"
    await query(database_url, ahead)

    assert await found(database) == ["date_apart", "ledger_lacks"]


async def test_a_holder_that_is_silent_for_longer_than_a_lease_and_a_tick_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    await taken(claims, listed)
    silent = "UPDATE harvestd.replica SET heartbeat_at = clock_timestamp() - $1::interval"
    await query(database_url, silent, GRACE - timedelta(seconds=20))
    within = await found(database)
    await query(database_url, silent, GRACE + timedelta(seconds=1))
    (fault,) = (await verified(database)).faults

    await query(database_url, "UPDATE harvestd.replica SET lease = interval '10 minutes'")

    assert within == []
    assert await found(database) == []  # it may be silent for as long as it said
    assert fault.kind == "held_by_the_dead"
    assert re.search(r"RUNNING for .+ pid \d+, last heard of \d{4}-", fault.what)


async def test_a_retired_run_that_its_holder_does_not_give_back_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    await taken(claims, listed)
    await query(database_url, "UPDATE data_source_run SET retired_at = now()")
    at_once = await found(database)
    await query(database_url, f"UPDATE data_source_run SET retired_at = {LONG_AGO}")

    assert (at_once, await found(database)) == ([], ["retired_but_held"])


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("fence = 1", ["recorded_twice"]),
        ("started_at = (SELECT min(ended_at) FROM harvestd.run_history) - interval '2 seconds'",
         ["attempts_overlap"]),
        ("started_at = (SELECT min(ended_at) FROM harvestd.run_history) - interval '1 second'", []),
        ("ended_at = ended_at - interval '1 hour', started_at = started_at - interval '1 hour'",
         ["fence_went_back"]),
    ],
)  # fmt: skip
async def test_attempts_that_contradict_each_other_are_found(
    database: Database,
    database_url: str,
    claims: Claims,
    listed: Listed,
    *,
    change: str,
    kinds: list[str],
) -> None:
    listed = await completed(claims, listed, days=1)
    await claims.record(await taken(claims, listed), an_ending(Outcome.FAILED))
    before = await found(database)
    await query(database_url, f"UPDATE harvestd.run_history SET {change} WHERE fence = 2")

    assert before == []
    assert await found(database) == kinds


async def test_an_attempt_under_way_that_began_before_the_last_one_ended_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    await taken(claims, await completed(claims, listed))
    before = await found(database)
    await query(database_url, f"UPDATE data_source_run SET started_at = {LONG_AGO}")

    assert (before, await found(database)) == ([], ["attempts_overlap"])


@asynccontextmanager
async def a_bound_seat(
    database: Database, url: str, claims: Claims, listed: Listed
) -> AsyncIterator[Connection]:
    """The connection of a seat that works for the run."""
    claim = await taken(claims, listed)
    seats = Seats(database, await made_roles(url), claims.replica_id, seats_max=1)
    window = Window(claim.ledger.origin, claim.started_at)
    binding = Binding(claim.key, claim.run_no, claim.fence, window.start, window)
    async with seats.bound(binding) as seat:
        yield seat.connection
    await seats.close()


async def test_a_backend_at_work_for_a_run_that_is_not_its_own_any_more_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    async with a_bound_seat(database, database_url, claims, listed) as connection:
        idle = await found(database)
        await connection.execute("BEGIN")
        await connection.fetch("SELECT harvestd_api.tenant()")
        await query(database_url, "UPDATE data_source_run SET fence = fence + 1")
        # A holder has a lease and a tick to learn of it; this test has not.
        within = await found(database)
        late = await verify(database, None, grace=timedelta())
        await query(database_url, "DELETE FROM data_source_run")
        without = await verify(database, "acme", grace=timedelta())
        await query(database_url, "UPDATE harvestd.binding SET fence = 99")
        await connection.execute("ROLLBACK")

    assert (idle, within) == ([], [])
    assert "bound_without_its_run" in late.counts
    assert without.counts == {"bound_without_its_run": 1}


async def test_a_backend_bound_ahead_of_its_run_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    async with a_bound_seat(database, database_url, claims, listed):
        await query(database_url, "UPDATE harvestd.binding SET fence = fence + 1")
        kinds = await found(database)

    assert kinds == ["bound_ahead_of_its_run"]


async def test_a_seat_that_a_dead_replica_is_still_connected_on_is_found(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    async with a_bound_seat(database, database_url, claims, listed) as connection:
        await query(database_url, "UPDATE data_source_run SET replica_id = NULL")
        await query(database_url, "DELETE FROM harvestd.replica")
        young = await found(database)
        old = await verify(database, None, grace=timedelta())
        await connection.close()
    unconnected = await verify(database, None, grace=timedelta())

    assert (young, list(old.counts)) == ([], ["seat_of_the_dead"])
    assert unconnected.counts == {}


async def test_of_many_faults_of_a_kind_a_bounded_number_is_told_and_all_are_counted(
    database: Database, database_url: str, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "TOLD_MAX", 2)
    for number in range(5):
        await a_run(database_url, f"acme/probe/s{number}")
    await query(
        database_url,
        "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1",
        uuid4(),
    )
    seen = await verified(database)

    assert (len(seen.faults), seen.counts) == (2, {"held_by_nobody": 6})


async def test_a_tenant_is_verified_alone(
    database: Database, database_url: str, claims: Claims, listed: Listed
) -> None:
    await completed(claims, listed)
    await completed(claims, await a_run(database_url, "globex/probe/main"))
    await query(database_url, "UPDATE data_source_run SET fence = 0 WHERE tenant_id = 'globex'")
    acme, globex = await verified(database, "acme"), await verified(database, "globex")

    assert (acme.runs, acme.attempts, acme.counts) == (1, 1, {})
    assert (globex.runs, globex.attempts, globex.counts) == (1, 1, {"row_behind_history": 1})


async def test_it_looks_at_one_moment_and_cannot_write(database_url: str) -> None:
    known = load_statements()
    moment = (
        "SELECT 'seat_of_the_dead' AS kind, current_setting('transaction_isolation') AS seat, "
        "$1::interval::text AS held_by, '' AS since, 1 AS pid"
    )
    writing = "DELETE FROM harvestd.replica WHERE $1::interval IS NOT NULL"
    async with Database(database_url, {**known, "find_seats_of_the_dead": moment}) as database:
        (fault,) = (await verified(database)).faults
    async with Database(database_url, {**known, "find_seats_of_the_dead": writing}) as database:
        with pytest.raises(DatabaseError) as refused:
            await verified(database)

    assert fault.what.startswith("repeatable read is connected")
    assert refused.value.sqlstate == "25006"


async def test_a_window_that_ended_while_the_look_began_does_not_lie_in_the_future(
    database: Database, database_url: str
) -> None:
    await a_run(database_url)
    line = database.line("the test")
    async with (
        line.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await query(  # after BEGIN, before its snapshot
            database_url,
            "UPDATE data_source_run SET last_fetched_data_date = clock_timestamp(),"
            " covered = tstzmultirange(tstzrange(origin, clock_timestamp()))",
        )
        rows = await connection.fetch(line.sql("find_wrong_runs"), None, timedelta(seconds=90))

    assert [row["kind"] for row in rows if row["kind"] == "covered_in_the_future"] == []
