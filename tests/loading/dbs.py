"""The ``db`` of scripts, with its wall, for the tests of what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from harvestd.database.pool import Database
from harvestd.loading.facade import Db
from harvestd.loading.fenced import Fenced
from harvestd.loading.schemas import apply_source_schema
from harvestd.loading.seats import Binding, Seats
from harvestd.loading.shapes import Shapes
from harvestd.runs.claims import Claim, Claims
from harvestd.terms import Window
from tests.builders import a_replica, a_run, made_roles, query

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Shop:
    """A replica that runs scripts of the data source ``shop``."""

    url: str
    seats: Seats
    claims: Claims
    shapes: Shapes

    async def claims_run_of(
        self, tenant_id: str, *, script: str = "main", lookback: timedelta = timedelta()
    ) -> Binding:
        """A claimed run whose window is the first day from its origin."""
        claim = await self.claims.claim(await a_run(self.url, f"{tenant_id}/shop/{script}"))
        assert isinstance(claim, Claim)
        (row,) = await query(
            self.url, "SELECT origin FROM data_source_run WHERE run_no = $1", claim.run_no
        )
        window = Window(row["origin"], row["origin"] + DAY)
        return Binding(claim.key, claim.run_no, claim.fence, window.start - lookback, window)

    def db(self, binding: Binding) -> Db:
        """What ``run`` gets for that window."""
        return Db(Fenced(self.seats, binding), self.shapes)

    async def db_of(self, tenant_id: str, script: str = "main") -> Db:
        """The db of a run that was claimed just now."""
        return self.db(await self.claims_run_of(tenant_id, script=script))

    async def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """What the daemon sees: every tenant's rows."""
        return [tuple(row.values()) for row in await query(self.url, sql, *arguments)]

    async def covered(self, binding: Binding) -> datetime | None:
        """Up to where the run's source time is covered."""
        ((reached,),) = await self.rows(
            "SELECT upper(covered) FROM data_source_run WHERE run_no = $1", binding.run_no
        )
        assert reached is None or isinstance(reached, datetime)
        return reached


@asynccontextmanager
async def a_shop(
    database: Database, url: str, schema_sql: str, *, seats_max: int = 2
) -> AsyncIterator[Shop]:
    """The data source with its tables finished, and a replica with so many seats."""
    roles = await made_roles(url)
    await apply_source_schema(database, roles, source="shop", schema_sql=schema_sql)
    replica_id = (await a_replica(database)).replica_id
    seats = Seats(database, roles, replica_id, seats_max=seats_max)
    try:
        yield Shop(url, seats, Claims(database, replica_id), Shapes(database))
    finally:
        await seats.close()
