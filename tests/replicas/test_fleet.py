"""Several daemons, started, paused, ended and killed at random: nothing twice, nothing left lying.

HARVEST_TEST_CHAOS_MINUTES=3 (`make torture`) has 2, 3 and 5 of them share so long;
HARVEST_TEST_SEED chooses what happens.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from harvestd.tenants.homes import homes_among
from tests.builders import a_tenant, query
from tests.daemons import PROBE
from tests.processes import wait_until
from tests.replicas.fleet import (
    DOZE_SECONDS,
    LEASE_SECONDS,
    SCRIPTS,
    TICK_SECONDS,
    a_fleet,
    are_living,
    living,
    longest_wait,
    overlaps,
)

pytestmark = pytest.mark.slow

FLEETS = [2, 3, 5]
SECONDS = float(os.environ.get("HARVEST_TEST_CHAOS_MINUTES", "0")) * 60 / len(FLEETS)
SEED = int(os.environ.get("HARVEST_TEST_SEED", "11"))
TENANTS = [f"tenant-{number:02d}" for number in range(40)]
FREED_SECONDS = LEASE_SECONDS + TICK_SECONDS / 2
"""A dead replica's runs are free when its lease is over, whenever anybody beats or ticks."""
USUAL_WAITS = 3
"""On a busy machine all of it takes longer: so many times what a run waits undisturbed, tick and
all.  Besides, runs whose holder died go one at a time, so that their attempts add up."""


async def now(url: str) -> datetime:
    (row,) = await query(url, "SELECT clock_timestamp() AS now")
    at: datetime = row["now"]
    return at


@pytest.mark.parametrize("replicas", FLEETS if SECONDS else [3])
async def test_replicas_that_come_go_sleep_and_die_repeat_nothing_and_leave_nothing_lying(
    database_url: str, tmp_path: Path, replicas: int
) -> None:
    for tenant_id in TENANTS:
        await a_tenant(database_url, tenant_id, PROBE)
    async with a_fleet(database_url, tmp_path, replicas) as fleet:

        async def all_ran() -> bool:
            rows = await query(
                database_url, "SELECT FROM data_source_run WHERE last_fetched_data_date IS NOT NULL"
            )
            return len(rows) == SCRIPTS * len(TENANTS)

        await wait_until(all_ran, "every run completed once")
        began = await now(database_url)
        await asyncio.sleep(2 * TICK_SECONDS)
        usual, _ = await longest_wait(database_url, began)
        await fleet.disturb(random.Random(f"{SEED} {replicas}"), SECONDS or 7.0, replicas)
        # calm again: each works on its own tenants, and on no other's, once it knows of all
        await wait_until(lambda: are_living(database_url, replicas), "all living", within=15.0)
        home_of = homes_among(frozenset(await living(database_url)))
        attempts: list[dict[str, Any]] = []
        calm = await now(database_url)

        async def all_ran_at_home() -> bool:
            nonlocal calm
            attempts[:] = await query(
                database_url,
                "SELECT tenant_id, run_no, replica_id, started_at FROM harvestd.run_history"
                " WHERE started_at > $1",
                calm,
            )
            strayed = [one for one in attempts if one["replica_id"] != home_of(one["tenant_id"])]
            calm = max((one["started_at"] for one in strayed), default=calm)
            runs = {attempt["run_no"] for attempt in attempts}
            return not strayed and len(runs) == SCRIPTS * len(TENANTS)

        await wait_until(all_ran_at_home, "every run once more, at home")
        waited, whose = await longest_wait(database_url, began)
        await fleet.leave(fleet.running[0])  # no drain finds anything that cannot be ended

    said = f"seed {SEED}: {' '.join(fleet.did)}"
    died = await query(
        database_url,
        "SELECT replica_id, ended_at FROM harvestd.run_history WHERE reason = 'holder_died'",
    )
    assert {"kill", "sleep"} & set(fleet.did), said
    assert died, f"no run was under way at a death, so nothing is proved; {said}"
    assert await overlaps(database_url) == [], said
    (attempt,) = await query(
        database_url,
        "SELECT extract(epoch FROM percentile_cont(0.9) WITHIN GROUP (ORDER BY ended_at"
        " - started_at))::float8 AS seconds FROM harvestd.run_history WHERE outcome = 'completed'",
    )
    lay = [
        (one["ended_at"] - fleet.last_beats[one["replica_id"]]).total_seconds()
        for one in died
        if one["replica_id"] in fleet.last_beats
    ]
    assert max(lay, default=0) < FREED_SECONDS + DOZE_SECONDS, said
    bound = LEASE_SECONDS + DOZE_SECONDS
    bound += USUAL_WAITS * max(usual, TICK_SECONDS) + len(died) * attempt["seconds"]
    assert waited < bound, f"{whose}; {said}"
    counted = Counter(attempt["replica_id"] for attempt in attempts)
    assert len(counted) == replicas
    assert max(counted.values()) < 2.5 * len(attempts) / replicas, counted
    print(f"\n{replicas} replicas, {said}: longest wait {waited:.2f} s of {bound:.1f};", end=" ")
    print(f"{len(died)} runs taken over, the last {max(lay, default=0):.2f} s after", end=" ")
    print(f"the last heartbeat; attempts in the calm {sorted(counted.values())}")
