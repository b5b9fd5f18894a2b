"""A row that contradicts its ledger, its history or its holder is found."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from harvestd.database.pool import Database
from harvestd.runs.claims import Claims, Listed
from harvestd.service.acts import Acts, RunsChosen
from harvestd.terms import Window
from tests.builders import (
    query,
    taken,
)
from tests.service.verifying.faults import GRACE, LONG_AGO, completed, found, verified


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
