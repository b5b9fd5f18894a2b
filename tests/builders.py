"""Rows and values with boring defaults, for tests of every layer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles, ensure_roles
from harvestd.planning.state import after_attempt
from harvestd.runs.claims import Claim, Claims, Ending, Listed
from harvestd.runs.heartbeat import Heartbeat
from harvestd.terms import Outcome, RunKey, Window
from tests.processes import wait_until

LEASE = timedelta(seconds=30)
TICK = timedelta(seconds=60)


async def query(url: str, sql: str, *arguments: object) -> list[dict[str, Any]]:
    """Rows of a statement on a connection of its own, as dicts."""
    async with closing(await asyncpg.connect(url)) as connection:
        return [dict(row) for row in await connection.fetch(sql, *arguments)]


@asynccontextmanager
async def a_transaction(url: str, *statements: str) -> AsyncIterator[None]:
    """An operator's psql that stays in the middle of a transaction until the block ends."""
    async with closing(await asyncpg.connect(url)) as connection:
        await connection.execute("BEGIN")
        for statement in statements:
            await connection.execute(statement)
        yield


async def made_roles(url: str) -> Roles:
    """The roles of a database, made where they are missing."""
    async with closing(await asyncpg.connect(url)) as connection:
        return await ensure_roles(connection)


async def a_tenant(
    url: str, tenant_id: str, config: dict[str, dict[str, str]] | None = None
) -> None:
    """A tenant with values by data source and key."""
    await query(url, "INSERT INTO tenant (id, name) VALUES ($1, $1)", tenant_id)
    for source, values in (config or {}).items():
        for key, value in values.items():
            await query(
                url,
                "INSERT INTO tenant_data_source_config (tenant_id, data_source, key, value) "
                "VALUES ($1, $2, $3, $4)",
                tenant_id,
                source,
                key,
                value,
            )


async def a_run(url: str, key: str = "acme/probe/main", *, days: float = 3) -> Listed:
    """An enrolled run that never ran, its origin ``days`` ago."""
    tenant_id, source, script = key.split("/")
    rows = await query(
        url,
        "INSERT INTO data_source_run (tenant_id, data_source, script, origin) "
        "VALUES ($1, $2, $3, date_trunc('milliseconds', now() - $4::interval)) RETURNING run_no",
        tenant_id,
        source,
        script,
        timedelta(days=days),
    )
    return Listed(RunKey(tenant_id, source, script), rows[0]["run_no"], fence=0)


async def a_replica(database: Database, *, lease: timedelta = LEASE) -> Heartbeat:
    """A living replica."""
    heartbeat = Heartbeat(database, uuid4(), lease=lease, tick=TICK)
    await heartbeat.register()
    return heartbeat


async def a_held_run(database: Database, url: str, key: str) -> Heartbeat:
    """A run under way; answers the replica that holds it."""
    heartbeat = await a_replica(database)
    listed = await a_run(url, key)
    await query(
        url,
        "UPDATE data_source_run SET status = 'RUNNING', fence = 1, replica_id = $1"
        " WHERE run_no = $2",
        heartbeat.replica_id,
        listed.run_no,
    )
    return heartbeat


async def a_claimer(database: Database) -> Claims:
    """What claims and records for a living replica."""
    replica = await a_replica(database)
    return Claims(database, replica.replica_id)


async def taken(claims: Claims, listed: Listed) -> Claim:
    """The claim of a run that nobody holds."""
    claim = await claims.claim(listed)
    assert isinstance(claim, Claim)
    return claim


def an_ending(
    outcome: Outcome = Outcome.COMPLETED, *, covered: Sequence[Window] = (), rows: int = 0
) -> Ending:
    """The end of an attempt whose run never failed before."""
    follows = after_attempt(outcome, failures=0, interval=None, tick=TICK, jitter=0)
    return Ending(outcome, follows, covered=tuple(covered), windows=len(covered), rows=rows)


async def silence(url: str, replica_id: UUID) -> None:
    """Move a replica's last heartbeat back by two leases."""
    await query(
        url,
        "UPDATE harvestd.replica SET heartbeat_at = heartbeat_at - $2::interval "
        "WHERE replica_id = $1",
        replica_id,
        2 * LEASE,
    )


async def until_somebody_waits_for_a_lock(url: str, *, sessions: int = 1) -> None:
    """Wait until so many sessions of the server wait for what another holds."""
    waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    async def waiting() -> bool:
        return len(await query(url, waits)) >= sessions

    await wait_until(waiting, "a statement that waits for a lock")
