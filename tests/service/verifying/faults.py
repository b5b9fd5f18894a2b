"""Looking for faults, and a run that has something to be wrong about."""

from __future__ import annotations

from datetime import timedelta

from harvestd.database.pool import Database
from harvestd.runs.claims import Claims, Listed
from harvestd.service.verifying import Verified, verify
from harvestd.terms import Window
from tests.builders import LEASE, TICK, an_ending, taken

GRACE = LEASE + TICK
LONG_AGO = "now() - interval '2 hours'"


async def verified(database: Database, tenant_id: str | None = None) -> Verified:
    return await verify(database, tenant_id, grace=GRACE)


async def found(database: Database) -> list[str]:
    """The kinds of what is wrong."""
    return sorted((await verified(database)).counts)


async def completed(claims: Claims, listed: Listed, days: float = 3) -> Listed:
    """A run of which an attempt covered the first ``days``; as it is listed from then on."""
    claim = await taken(claims, listed)
    start = claim.ledger.origin
    window = Window(start, min(start + timedelta(days=days), claim.started_at))
    assert await claims.record(claim, an_ending(covered=[window], rows=1))
    return listed._replace(fence=claim.fence)
