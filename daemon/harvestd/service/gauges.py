"""What metrics say of the whole database: how late, which holes, how old; asked now and then.

A loop of its own, since its scans take longer than a cycle should.
"""

from __future__ import annotations

import asyncio

from harvestd.database.pool import Database
from harvestd.errors import DatabaseError
from harvestd.observing import metrics
from harvestd.observing.logs import report_database_error

MEASURE_SECONDS = 60.0


class Gauges:
    """The questions, on a connection of their own."""

    def __init__(self, database: Database, *, tenants_max: int) -> None:
        self._line = database.line("gauges")
        self._tenants_max = tenants_max

    async def measure(self) -> None:
        """Ask once, and show it.  Raises: Unreachable, DatabaseError."""
        scripts = await self._line.fetch("measure_scripts")
        tenants = await self._line.fetch("measure_tenants", self._tenants_max)
        credentials = await self._line.fetch("measure_credentials")
        metrics.show(metrics.OF_SCRIPTS, scripts)
        metrics.show(metrics.OF_TENANTS, tenants)
        metrics.show(metrics.OF_CREDENTIALS, credentials)

    async def measure_forever(self) -> None:
        """Ask once a minute."""
        while True:
            try:
                await self.measure()
            except DatabaseError as error:
                report_database_error(error, "the gauges of lag and gaps stand still")
            await asyncio.sleep(MEASURE_SECONDS)
