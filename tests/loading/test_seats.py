"""Seats between two holders: none is used whose binding is uncertain, none is taken from a
living replica, and none is lost."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg
import pytest

from harvestd.database.pool import LOST, Database
from harvestd.errors import LeaseLost, SeatsTaken, Unreachable
from harvestd.loading.seats import Binding, Seat, Seats
from harvestd.observing import metrics
from harvestd.runs.claims import Claim, Claims
from tests.builders import (
    a_replica,
    a_run,
    a_transaction,
    made_roles,
    query,
    until_somebody_waits_for_a_lock,
)
from tests.processes import wait_until

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
TENANT = "SELECT harvestd_api.tenant()"


class Watched(Database):
    """Shows the connections it made, by purpose; seats open only while they may."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.made: dict[str, asyncpg.Connection[Any]] = {}
        self.seat_opening, self.seats_may_open = asyncio.Event(), asyncio.Event()
        self.seats_may_open.set()

    async def connect(self, purpose: str, **more: Any) -> asyncpg.Connection[Any]:
        if purpose.startswith("seat "):
            self.seat_opening.set()
            await self.seats_may_open.wait()
        connection = self.made[purpose] = await super().connect(purpose, **more)
        return connection


@dataclass(frozen=True, slots=True)
class Holder:
    """A replica's seats, and what it has claimed."""

    seats: Seats
    claims: Claims
    url: str

    async def claims_run_of(self, tenant_id: str) -> Binding:
        claim = await self.claims.claim(await a_run(self.url, f"{tenant_id}/probe/main"))
        assert isinstance(claim, Claim)
        return Binding(claim.key, claim.run_no, claim.fence, None, None)

    async def used(self, binding: Binding) -> Seat:
        """The seat on which a run's SQL ran just now."""
        async with self.seats.bound(binding) as seat:
            assert await seat.connection.fetchval(TENANT) == binding.key.tenant_id
        return seat


async def a_holder(database: Database, url: str) -> Holder:
    roles = await made_roles(url)
    replica_id = (await a_replica(database)).replica_id
    seats = Seats(database, roles, replica_id, seats_max=2)
    return Holder(seats, Claims(database, replica_id), url)


async def until_closed(seat: Seat) -> None:
    async def closed() -> bool:
        return seat.connection.is_closed()

    await wait_until(closed, "the seat's connection is closed")


async def test_a_seat_whose_binding_is_uncertain_is_never_used_again(database_url: str) -> None:
    database = Watched(database_url)
    holder = await a_holder(database, database_url)
    acme, globex = [await holder.claims_run_of(tenant_id) for tenant_id in ("acme", "globex")]
    uncertain = await holder.used(globex)
    async with a_transaction(database_url, "SELECT FROM harvestd.binding FOR UPDATE"):
        binding = asyncio.create_task(holder.used(acme))
        await until_somebody_waits_for_a_lock(database_url)
        # Now the server goes on with the statement by itself, as soon as it can.
        database.made["bindings"].terminate()
        with pytest.raises(Unreachable):
            await binding

        assert (await holder.used(globex)).pid != uncertain.pid
    await holder.seats.close()
    await database.close()


async def test_of_runs_that_are_bound_together_each_has_its_own_and_the_lost_one_none(
    database: Database, database_url: str
) -> None:
    holder = await a_holder(database, database_url)
    acme, globex = [await holder.claims_run_of(tenant_id) for tenant_id in ("acme", "globex")]
    await asyncio.gather(holder.used(acme), holder.used(globex))  # two seats are open now

    lost = holder.used(globex._replace(fence=globex.fence - 1))
    again = holder.used(acme._replace(handed_from=MONDAY))
    answers = await asyncio.gather(again, lost, return_exceptions=True)

    assert isinstance(answers[0], Seat) and isinstance(answers[1], LeaseLost)
    await holder.seats.close()


async def test_a_seat_whose_opening_was_interrupted_is_opened_again_and_not_one_more(
    database: Database, database_url: str
) -> None:
    holder = await a_holder(database, database_url)
    binding = await holder.claims_run_of("acme")
    first = await holder.used(binding)
    first.connection.terminate()
    async with a_transaction(database_url, "LOCK TABLE harvestd.seat IN EXCLUSIVE MODE"):
        opening = asyncio.create_task(holder.used(binding))
        await until_somebody_waits_for_a_lock(database_url)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    assert (await holder.used(binding)).name == first.name
    await holder.seats.close()


async def test_a_lease_whose_commit_was_interrupted_is_taken_again_and_not_one_more(
    database: Database, database_url: str
) -> None:
    holder = await a_holder(database, database_url)
    binding = await holder.claims_run_of("acme")
    # What the server has of a lease whose answer nobody waited for.
    await query(
        database_url,
        "INSERT INTO harvestd.seat (seat_no, replica_id, leased_at) VALUES (1, $1, now())",
        holder.seats.replica_id,
    )
    async with (
        holder.seats.bound(binding),
        holder.seats.bound(await holder.claims_run_of("globex")) as other,
    ):
        seats = await query(database_url, "SELECT seat_no FROM harvestd.seat ORDER BY 1")
        assert [seat["seat_no"] for seat in seats] == [1, 2]
        assert other.seat_no == 2
    await holder.seats.close()


async def test_a_seat_whose_login_was_changed_is_opened_with_a_new_password(
    database: Database, database_url: str
) -> None:
    holder = await a_holder(database, database_url)
    binding = await holder.claims_run_of("acme")
    first = await holder.used(binding)
    await query(database_url, f"ALTER ROLE {first.name} NOLOGIN PASSWORD 'of a backup'")
    await query(database_url, "SELECT pg_terminate_backend($1)", first.pid)
    await until_closed(first)

    assert (await holder.used(binding)).name == first.name
    await holder.seats.close()


async def test_a_seat_brings_nothing_of_another_replicas_run_to_the_first_that_uses_it(
    database: Database, database_url: str
) -> None:
    before, after = [await a_holder(database, database_url) for _ in range(2)]
    async with before.seats.bound(await before.claims_run_of("acme")) as left:
        with suppress(asyncpg.InsufficientPrivilegeError):  # where the database is hardened
            await left.connection.fetchval("SELECT lo_from_bytea(0, 'a secret row')")
        await left.connection.execute("ALTER ROLE CURRENT_USER SET work_mem = '1GB'")
    await before.seats.close()

    async with after.seats.bound(await after.claims_run_of("globex")) as seat:
        assert seat.name == left.name
        assert await seat.connection.fetchval("SHOW work_mem") != "1GB"
        large = "SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = $1::regrole"
        assert await seat.connection.fetchval(large, seat.name) == 0
    await after.seats.close()


async def test_a_replica_that_does_not_know_it_is_dead_takes_no_seat_of_a_living_one(
    database: Database, database_url: str
) -> None:
    dead, living = [await a_holder(database, database_url) for _ in range(2)]
    binding = await dead.claims_run_of("acme")
    lost = await dead.used(binding)
    await query(
        database_url,
        "UPDATE harvestd.replica SET dead_at = now() WHERE replica_id = $1",
        dead.seats.replica_id,
    )
    async with living.seats.bound(await living.claims_run_of("globex")) as theirs:
        assert theirs.name == lost.name
        await until_closed(lost)
        assert (await dead.used(binding)).name != theirs.name
        assert await theirs.connection.fetchval(TENANT) == "globex"
    await dead.seats.close()
    await living.seats.close()


async def test_a_seat_that_was_being_opened_when_its_replica_died_is_left_to_others(
    database_url: str,
) -> None:
    database = Watched(database_url)
    database.seats_may_open.clear()
    dead, living = [await a_holder(database, database_url) for _ in range(2)]
    opening = asyncio.create_task(dead.used(await dead.claims_run_of("acme")))
    await asyncio.wait_for(database.seat_opening.wait(), 10)
    await query(
        database_url,
        "UPDATE harvestd.replica SET dead_at = now() WHERE replica_id = $1",
        dead.seats.replica_id,
    )
    # as App does when a heartbeat tells it
    reborn = await a_replica(database)
    opening.cancel()
    await dead.seats.forget_leases()
    dead.seats.replica_id = dead.claims.replica_id = reborn.replica_id
    with pytest.raises(asyncio.CancelledError):
        await opening
    database.seats_may_open.set()

    async with living.seats.bound(await living.claims_run_of("globex")) as theirs:
        assert (await dead.used(await dead.claims_run_of("hooli"))).name != theirs.name
        assert await theirs.connection.fetchval(TENANT) == "globex"
    await dead.seats.close()
    await living.seats.close()
    await database.close()


async def test_who_gets_no_seat_in_time_hears_who_has_them_and_costs_nobody_one(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await a_holder(database, database_url)
    bindings = [await holder.claims_run_of(tenant) for tenant in ("acme", "globex", "initech")]
    monkeypatch.setattr("harvestd.loading.seats.SEAT_WAIT_SECONDS", 0.05)
    before = metrics.SEAT_TIMEOUTS._value.get()
    async with holder.seats.bound(bindings[0]), holder.seats.bound(bindings[1]):
        with pytest.raises(SeatsTaken, match="all 2 of this replica") as refused:
            await holder.used(bindings[2])
        assert re.search(r"of probe/main, since \d+ s", str(refused.value.why))
        assert "acme" not in str(refused.value)  # another tenant's name is none of this one's
    assert metrics.SEAT_TIMEOUTS._value.get() == before + 1
    async with holder.seats.bound(bindings[2]), holder.seats.bound(bindings[0]):
        pass
    await holder.seats.close()


STUBBORN = """DO $$ BEGIN LOOP
    BEGIN FOR n IN 1..2000000000 LOOP END LOOP; EXCEPTION WHEN query_canceled THEN NULL; END;
END LOOP; END $$"""


async def test_a_backend_whose_connection_was_lost_here_is_gone_before_the_attempt_ends(
    database: Database, database_url: str
) -> None:
    holder = await a_holder(database, database_url)
    binding = await holder.claims_run_of("acme")
    alive = "SELECT FROM pg_stat_activity WHERE pid = $1"
    with pytest.raises(LOST):
        async with holder.seats.bound(binding) as seat:
            working = asyncio.create_task(seat.connection.execute(STUBBORN))
            works = partial(query, database_url, alive + " AND query LIKE 'DO %'", seat.pid)
            await wait_until(works, "the backend works")
            seat.connection._transport.abort()  # type: ignore[attr-defined]
            await working
    assert await query(database_url, alive, seat.pid) == []
    await holder.seats.close()
