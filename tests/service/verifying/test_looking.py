"""`verify` looks at everything at one moment, and finds nothing where nothing is wrong."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from harvestd.database.pool import Database
from harvestd.database.statements import load_statements, sql_root
from harvestd.errors import DatabaseError
from harvestd.runs.claims import Claims, Listed
from harvestd.service import verifying
from harvestd.service.verifying import WORDS
from tests.builders import (
    a_run,
    a_tenant,
    query,
)
from tests.daemons import PROBE, SIMPLE, cycle, running_app
from tests.service.verifying.faults import completed, verified


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
