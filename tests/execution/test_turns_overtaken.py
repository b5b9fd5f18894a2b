"""What changes while a tenant's turn is listed or under way: the turn goes on from what is true."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.builders import a_tenant, query
from tests.daemons import GATED, WITHIN, in_hand, running_app
from tests.execution.test_turns import attempts_of, gated, one_cycle


async def test_a_tenant_whose_runs_were_retired_while_it_was_listed_ends_nobody(
    database_url: str, tmp_path: Path
) -> None:
    config = gated(tmp_path)
    for tenant_id in [f"t{number}" for number in range(12)]:  # eight are in hand at once
        await a_tenant(database_url, tenant_id, config)
    async with running_app(database_url, tmp_path, {"probe/main.py": GATED}, runs_max=1) as app:
        await in_hand(app)
        await query(
            database_url,
            "UPDATE data_source_run SET retired_at = now() WHERE replica_id IS NULL",
        )
        (tmp_path / "gates" / "main").touch()
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()
        await a_tenant(database_url, "late", config)
        await one_cycle(app)
        await attempts_of(database_url, "late/probe/main", 1)
