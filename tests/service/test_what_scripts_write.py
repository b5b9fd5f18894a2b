"""What scripts write, as one replica commits it: per tenant, per transaction, per checkpoint."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.builders import a_tenant, query
from tests.daemons import PROBE, cycle, running_app, runs


async def test_a_tenant_sees_and_writes_only_its_own_rows(
    database_url: str, tmp_path: Path
) -> None:
    nosy = """
    resources = ["nosy"]
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ('mine', $1, $2)",
                start_date, end_date)
        seen = await db.fetch("SELECT DISTINCT tenant_id FROM event")
        assert [row["tenant_id"] for row in seen] == [tenant_id], seen
    """
    forging = """
    catch_up = False
    dependencies = ["nosy"]
    async def run(env, db, tenant_id, start_date, end_date):
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (tenant_id, script, from_at, to_at) "
                "VALUES ('globex', 'forged', $1, $2)", start_date, end_date)
    """
    for tenant_id in ("acme", "globex", "initech"):
        await a_tenant(database_url, tenant_id, PROBE)
    plugins = {"probe/nosy.py": nosy, "probe/forging.py": forging}
    async with running_app(database_url, tmp_path, plugins) as app:
        await cycle(app)
        states = await runs(database_url)

    assert {states[f"{t}/probe/nosy"]["word"] for t in ("acme", "globex", "initech")} == {
        "COMPLETED"
    }
    assert states["acme/probe/forging"]["word"] == "FAILED"
    assert await query(
        database_url, "SELECT FROM probe.event WHERE script = 'forged' AND tenant_id = 'globex'"
    ) == await query(
        database_url,
        "SELECT FROM probe.event WHERE script = 'forged'",
    )


async def test_a_seat_brings_nothing_of_its_last_run_to_the_next_tenant(
    database_url: str, tmp_path: Path
) -> None:
    leaving = """
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        found = await db.fetchrow(
            "SELECT current_setting('statement_timeout') AS limit, "
            "(SELECT count(*) FROM pg_largeobject_metadata) AS large, "
            "to_regclass('pg_temp.left_behind') IS NULL AS none_left")
        assert (found["limit"], found["large"], found["none_left"]) == ("0", 0, True), found
        await db.fetchval("SELECT lo_from_bytea(0, 'a secret row')")
        async with db.transaction() as connection:
            await connection.execute("CREATE TEMP TABLE left_behind (row text)")
            await connection.execute("SET statement_timeout = '1h'")
            await connection.execute("ALTER ROLE CURRENT_USER SET statement_timeout = '2h'")
            await connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    """
    for tenant_id in ("acme", "globex", "initech"):
        await a_tenant(database_url, tenant_id, PROBE)
    for _ in range(2):  # the second daemon leases the same seat
        async with running_app(
            database_url, tmp_path, {"probe/main.py": leaving}, seats_max=1
        ) as app:
            await app.feeder.idle()
            first = await runs(database_url)  # of the seat as it was leased
            await cycle(app)
            states = await runs(database_url)
        assert {run["word"] for run in first.values()} == {"COMPLETED"}
        assert {run["word"] for run in states.values()} == {"COMPLETED"}, [
            run["error"] for run in states.values()
        ]


async def test_rows_and_bookmark_of_one_transaction_come_together_or_not_at_all(
    database_url: str, tmp_path: Path
) -> None:
    script = """
    import asyncio
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        assert await db.bookmark("b") is None
        try:
            async with db.transaction():
                await db.set_bookmark("b", {"at": 1})
                raise LookupError
        except LookupError:
            pass
        assert await db.bookmark("b") is None
        async with db.transaction() as connection:
            await asyncio.gather(
                db.set_bookmark("b", {"at": 2}),
                connection.execute(
                    "INSERT INTO event (script, from_at, to_at) VALUES ('x', now(), now())"))
        assert await db.bookmark("b") == {"at": 2}
    """
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await cycle(app, forced=False)
        states = await runs(database_url)
    assert states["acme/probe/main"]["word"] == "COMPLETED", states["acme/probe/main"]["error"]


async def test_an_error_of_the_upstream_inside_a_transaction_stays_what_it_is(
    database_url: str, tmp_path: Path
) -> None:
    script = """
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ('x', now(), now())")
            raise ConnectionResetError("the upstream hung up")
    """
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await cycle(app)
        (state,) = (await runs(database_url)).values()
    assert state["reason"] == "ConnectionResetError"
    assert "the upstream hung up" in state["error"]
    assert await query(database_url, "SELECT FROM probe.event") == []


async def test_a_checkpoint_is_where_the_next_attempt_begins(
    database_url: str, tmp_path: Path
) -> None:
    script = """
    from datetime import timedelta
    import_window_duration = timedelta(days=365)
    async def run(env, db, tenant_id, start_date, end_date):
        rows = await db.fetch("SELECT to_at FROM event ORDER BY to_at")
        middle = start_date + (end_date - start_date) / 2
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ('x', $1, $2)",
                start_date, middle)
            await db.checkpoint(middle)
        if not rows:
            raise ConnectionError("the upstream went away")
        await db.checkpoint(end_date)
    """
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": script}) as app:
        await cycle(app, forced=False)
        await cycle(app, forced=True)
        events = await query(database_url, "SELECT * FROM probe.event ORDER BY from_at")
        states = await runs(database_url)
    assert states["acme/probe/main"]["word"] == "COMPLETED", states["acme/probe/main"]["error"]
    assert all(earlier["to_at"] == later["from_at"] for earlier, later in pairwise(events[:2]))
