"""A seat that is bound to what is not its run any more is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg

from harvestd.database.pool import Database
from harvestd.loading.seats import Binding, Seats
from harvestd.runs.claims import Claims, Listed
from harvestd.service.verifying import verify
from harvestd.terms import Window
from tests.builders import (
    made_roles,
    query,
    taken,
)
from tests.service.verifying.faults import found

Connection: TypeAlias = "asyncpg.Connection[Any]"


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
