"""Two replicas on one database: each takes the turns of the tenants that are at home with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from harvestd.service.app import App
from harvestd.tenants.homes import homes_among
from tests.builders import a_tenant, query
from tests.cli.shell import harvestd
from tests.daemons import GATED, PROBE, cycle, in_hand, running_app, runs
from tests.processes import wait_until

TENANTS = [f"tenant-{number:02d}" for number in range(24)]
COPYING = """
async def run(env, db, tenant_id, start_date, end_date):
    row = {"script": __name__, "from_at": start_date, "to_at": end_date}
    await db.copy("event", [row], end_date)
"""
"""Each of its attempts has a row, and so a place in the history."""
ONE = {"probe/main.py": COPYING}


async def some_tenants(url: str, config: dict[str, dict[str, str]] = PROBE) -> None:
    for tenant_id in TENANTS:
        await a_tenant(url, tenant_id, config)


@asynccontextmanager
async def another(
    app: App, url: str, folder: Path, files: dict[str, str] = ONE
) -> AsyncIterator[App]:
    """A second replica, with its own folders, after both know of each other."""
    async with running_app(url, folder, files, lease_seconds=3.0) as other:
        await wait_until(lambda: living(app, 2), "the first one knows of both")
        yield other


async def living(app: App, replicas: int) -> bool:
    return len(app.heartbeat.living) == replicas


async def holders(url: str, *, since: int = 0) -> dict[str, set[UUID]]:
    """Which replicas made each tenant's attempts, the first ``since`` of all left out."""
    rows = await query(
        url,
        "SELECT tenant_id, array_agg(DISTINCT replica_id) AS replicas FROM"
        " (SELECT * FROM harvestd.run_history ORDER BY ended_at OFFSET $1) AS attempt"
        " GROUP BY tenant_id",
        since,
    )
    return {row["tenant_id"]: set(row["replicas"]) for row in rows}


async def attempts(url: str) -> int:
    (row,) = await query(url, "SELECT count(*)::int AS n FROM harvestd.run_history")
    return int(row["n"])


def homes(*apps: App) -> dict[str, UUID | None]:
    home_of = homes_among(frozenset(app.heartbeat.replica_id for app in apps))
    return {tenant_id: home_of(tenant_id) for tenant_id in TENANTS}


async def test_each_replica_takes_its_own_tenants_and_one_that_leaves_leaves_them_at_once(
    database_url: str, tmp_path: Path
) -> None:
    await some_tenants(database_url)
    async with running_app(database_url, tmp_path / "one", ONE, lease_seconds=3.0) as one:
        await one.feeder.idle()
        alone = await attempts(database_url)
        async with another(one, database_url, tmp_path / "two") as two:
            await cycle(one)
            await cycle(two)
            shared = homes(one, two)
            seen = await holders(database_url, since=alone)
            text = (await harvestd("status", url=database_url)).out
            replicas = (await harvestd("status", "--json", url=database_url)).json["replicas"]
            told = {replica["replica_id"]: replica["tenants"] for replica in replicas}
            await query(database_url, "UPDATE data_source_run SET due_at = now()")
            before = await attempts(database_url)

        async def all_of_them_ran() -> bool:
            return len(await holders(database_url, since=before)) == len(TENANTS)

        # no tick for an hour: the departure itself asks for the cycle
        await wait_until(all_of_them_ran, "the tenants of the one that left")
        after = await holders(database_url, since=before)
        (left,) = await query(
            database_url,
            "SELECT dead_at - heartbeat_at AS silent FROM harvestd.replica WHERE replica_id = $1",
            two.heartbeat.replica_id,
        )

    assert seen == {tenant_id: {home} for tenant_id, home in shared.items()}
    assert told == {
        str(app.heartbeat.replica_id): list(shared.values()).count(app.heartbeat.replica_id)
        for app in (one, two)
    }
    assert all(f"home of {tenants} tenants, holds 0 runs" in text for tenants in told.values())
    assert all(replicas == {one.heartbeat.replica_id} for replicas in after.values())
    assert left["silent"] < two.lease  # nobody had to miss it


async def test_what_is_under_way_when_a_replica_joins_is_finished_where_it_is(
    database_url: str, tmp_path: Path
) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    await some_tenants(database_url, {"probe": {"GATES": str(gates)}})
    files = {"probe/main.py": GATED}
    async with running_app(database_url, tmp_path / "one", files, lease_seconds=3.0) as one:
        await in_hand(one, len(TENANTS))
        async with another(one, database_url, tmp_path / "two", files) as two:
            await cycle(two)
            moved = [t for t, home in homes(one, two).items() if home == two.heartbeat.replica_id]
            still = len(one.hands.by_run)
            (gates / "main").touch()
            await one.feeder.idle()
            rows = await runs(database_url)

    assert moved
    assert still == len(TENANTS)
    assert {row["word"] for row in rows.values()} == {"COMPLETED"}
    assert {row["fence"] for row in rows.values()} == {1}


async def test_a_replica_that_drains_houses_nobody_while_it_ends_what_it_has(
    database_url: str, tmp_path: Path
) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    await some_tenants(database_url, {"probe": {"GATES": str(gates)}})
    files = {"probe/main.py": GATED, "probe/quick.py": COPYING}
    settings = {"lease_seconds": 3.0, "drain_seconds": 40.0}
    async with running_app(database_url, tmp_path / "one", files, **settings) as one:

        async def quiet() -> bool:
            under_way = {hand.claim.key.script for hand in one.hands.by_run.values()}
            return under_way == {"main"} and not (one.cycling or one.wanted.event.is_set())

        async with another(one, database_url, tmp_path / "two", files) as two:
            await in_hand(one, len(TENANTS))
            await wait_until(quiet, "only what does not end is under way, and no cycle")
            await query(
                database_url, "UPDATE data_source_run SET due_at = now() WHERE script = 'quick'"
            )
            before = await attempts(database_url)
            one.stop("the test drains it")

            async def all_of_them_ran() -> bool:
                return len(await holders(database_url, since=before)) == len(TENANTS)

            await wait_until(all_of_them_ran, "the quick scripts of all tenants", within=30.0)
            draining = len(one.hands.by_run)
            seen = await holders(database_url, since=before)
            (gates / "main").touch()

    assert draining == len(TENANTS)
    assert all(replicas == {two.heartbeat.replica_id} for replicas in seen.values())


async def test_a_command_that_ends_by_itself_works_beside_and_houses_nobody(
    database_url: str, tmp_path: Path
) -> None:
    await some_tenants(database_url)
    async with running_app(database_url, tmp_path / "one", ONE, lease_seconds=3.0) as one:
        await one.feeder.idle()
        before = await attempts(database_url)
        plugins = {"PLUGIN_DIRS": str(tmp_path / "one/plugins")}
        done = await harvestd("run", "--once", url=database_url, settings=plugins)
        seen = await holders(database_url, since=before)
        housing = await query(database_url, "SELECT replica_id FROM harvestd.replica WHERE houses")

    assert done.code == 0, done.err
    assert set(seen) == set(TENANTS)
    assert one.heartbeat.replica_id not in set().union(*seen.values())
    assert housing == [{"replica_id": one.heartbeat.replica_id}]


async def test_a_tenant_whose_home_lacks_a_script_moves_to_a_replica_that_has_it(
    database_url: str, tmp_path: Path
) -> None:
    await some_tenants(database_url)
    more = ONE | {"probe/more.py": COPYING}
    async with running_app(database_url, tmp_path / "one", more, lease_seconds=3.0) as one:
        await one.feeder.idle()
        before = await attempts(database_url)
        async with another(one, database_url, tmp_path / "two") as two:
            for app in (one, two, one, two):
                await cycle(app)
            lacking = await holders(database_url, since=before)
            blocked = [r["blocked_by"] for r in (await runs(database_url)).values()]
            doctor = await harvestd("doctor", url=database_url)
            (tmp_path / "two/plugins/probe/more.py").write_text(COPYING)
            await cycle(two)
            before = await attempts(database_url)
            await cycle(one)
            await cycle(two)
            mended = await holders(database_url, since=before)
            shared = homes(one, two)

    assert set(lacking) == set(TENANTS)
    assert all(replicas == {one.heartbeat.replica_id} for replicas in lacking.values())
    assert set(blocked) == {None}
    assert "lacks probe/more, which another has" in doctor.out
    assert mended == {tenant_id: {home} for tenant_id, home in shared.items()}


async def test_where_no_replica_has_all_scripts_the_home_says_what_it_lacks_and_nobody_else(
    database_url: str, tmp_path: Path
) -> None:
    config = {"left": {"KEY": "v"}, "right": {"KEY": "v"}}
    await some_tenants(database_url, config)
    left, right = {"left/main.py": COPYING}, {"right/main.py": COPYING}
    async with (
        running_app(database_url, tmp_path / "one", left, lease_seconds=3.0) as one,
        another(one, database_url, tmp_path / "two", right) as two,
    ):
        for _ in range(2):
            await cycle(one)
            await cycle(two)
        shared = homes(one, two)
        settled = {key: row["blocked_by"] for key, row in (await runs(database_url)).items()}
        for _ in range(2):
            await cycle(one)
            await cycle(two)
        later = {key: row["blocked_by"] for key, row in (await runs(database_url)).items()}

    lacked = {one.heartbeat.replica_id: "right", two.heartbeat.replica_id: "left"}
    for tenant_id, home in shared.items():
        assert home is not None
        assert f"has {lacked[home]}/main" in settled[f"{tenant_id}/{lacked[home]}/main"]
    assert later == settled


async def test_a_replica_that_beats_while_its_cycles_fail_houses_nobody_until_one_ends_well(
    database_url: str, tmp_path: Path
) -> None:
    await some_tenants(database_url)
    settings = {"lease_seconds": 3.0, "interval_seconds": 0.3, "first_import_days": 1}
    async with (
        running_app(database_url, tmp_path / "one", ONE, **settings) as one,
        running_app(database_url, tmp_path / "two", ONE, **settings) as two,
    ):
        await wait_until(lambda: living(two, 2), "both know of each other")
        sound = one.database.statements
        one.database.statements = {**sound, "read_clock": "SELECT 1 / 0"}
        await wait_until(lambda: living(two, 1), "the other one knows that it stands still")
        await one.feeder.idle()
        before = await attempts(database_url)

        async def all_of_them_ran() -> bool:
            return len(await holders(database_url, since=before)) == len(TENANTS)

        await wait_until(all_of_them_ran, "the tenants of both")
        seen = await holders(database_url, since=before)
        one.database.statements = sound
        await wait_until(lambda: living(two, 2), "it houses tenants again")

    assert all(replicas == {two.heartbeat.replica_id} for replicas in seen.values())
