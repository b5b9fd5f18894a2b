"""What is wrong with one run row, or done to it, costs no other run anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from harvestd.database import step as steps
from harvestd.database.pool import Database
from harvestd.errors import DatabaseError
from harvestd.runs.claims import Claim, Refusal
from tests.builders import (
    a_claimer,
    a_run,
    a_tenant,
    a_transaction,
    an_ending,
    query,
    until_somebody_waits_for_a_lock,
)
from tests.daemons import GATED, PROBE, cycle, in_hand, running_app, runs, write_plugins

IDLE = "catch_up = False\nasync def run(*_): pass\n"
NAMES = ("first", "second", "third")


async def test_an_attempt_that_ends_by_a_mistake_of_ours_ends_no_other_of_its_tenant(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(tmp_path)}})
    asked: list[str] = []

    async def mistaken(step: str) -> None:
        if step == "claim":
            asked.append(step)
            if len(asked) == len(NAMES):  # the others are under way
                for name in NAMES:
                    (tmp_path / name).touch()
                raise LookupError("nobody thought of it")

    plugins = {f"probe/{name}.py": GATED for name in NAMES}
    steps.hook = mistaken
    try:
        async with running_app(database_url, tmp_path, plugins) as app:
            await app.feeder.idle()
    finally:
        steps.hook = None

    ended = sorted(run["word"] for run in (await runs(database_url)).values())
    assert ended == ["COMPLETED", "COMPLETED", "PENDING"]


async def test_a_row_of_another_program_is_not_claimed_while_it_has_no_origin(
    database: Database, database_url: str
) -> None:
    claims, listed = await a_claimer(database), await a_run(database_url)
    await query(database_url, "UPDATE data_source_run SET origin = NULL")

    assert isinstance(await claims.claim(listed), Refusal)
    assert (await runs(database_url))["acme/probe/main"]["word"] == "PENDING"


async def test_an_ending_that_the_database_refuses_costs_no_other_its_record(
    database: Database, database_url: str
) -> None:
    claims = await a_claimer(database)
    taken = [await claims.claim(await a_run(database_url, f"acme/probe/s{i}")) for i in range(3)]
    endings = [an_ending(), an_ending()._replace(error="\x00"), an_ending()]

    recorded = await asyncio.gather(
        *(claims.record(c, e) for c, e in zip(taken, endings, strict=True) if isinstance(c, Claim)),
        return_exceptions=True,
    )

    assert (recorded[0], recorded[2]) == (True, True)
    assert isinstance(recorded[1], DatabaseError)


REFUSES_ACME = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
    CREATE TRIGGER refuse BEFORE {what} ON data_source_run
        FOR EACH ROW WHEN (NEW.tenant_id = 'acme') EXECUTE FUNCTION public.refuse();
"""


async def refuse_acme(url: str, what: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(REFUSES_ACME.format(what=what))
    await connection.close()


async def test_a_row_that_the_application_lets_nobody_make_costs_no_other_its_place(
    database_url: str, tmp_path: Path
) -> None:
    await refuse_acme(database_url, "INSERT")
    for tenant_id in ("acme", "globex", "hooli"):
        await a_tenant(database_url, tenant_id, PROBE)
    plugins = {f"probe/{name}.py": IDLE for name in NAMES}
    async with running_app(database_url, tmp_path, plugins) as app:
        await app.feeder.idle()
        states = await runs(database_url)

    assert {run["tenant_id"] for run in states.values()} == {"globex", "hooli"}
    assert {run["word"] for run in states.values()} == {"COMPLETED"}


async def test_a_row_that_the_application_lets_nobody_change_costs_no_other_its_claim(
    database: Database, database_url: str
) -> None:
    claims = await a_claimer(database)
    listed = [await a_run(database_url, f"{one}/probe/main") for one in ("acme", "globex", "hooli")]
    await refuse_acme(database_url, "UPDATE")

    asked = (claims.claim(one) for one in listed)
    refused, *others = await asyncio.gather(*asked, return_exceptions=True)

    assert isinstance(refused, DatabaseError)
    assert all(isinstance(other, Claim) for other in others)


@pytest.mark.parametrize(
    ("covered", "read"),
    [
        ("{[2024-01-01Z,2024-01-01Z],[2024-02-01Z,2024-03-01Z)}", [(2, 3)]),
        ("{[2024-01-01Z,2024-02-01Z),(2024-02-01Z,2024-03-01Z]}", [(1, 3)]),
    ],
)
async def test_a_ledger_written_by_another_program_costs_no_other_its_claim(
    covered: str, read: list[tuple[int, int]], database: Database, database_url: str
) -> None:
    claims = await a_claimer(database)
    listed = [await a_run(database_url, f"{one}/probe/main") for one in ("acme", "globex")]
    await query(
        database_url,
        "UPDATE data_source_run SET covered = $1::text::tstzmultirange,"
        " last_fetched_data_date = '2024-03-01Z' WHERE tenant_id = 'acme'",
        covered,
    )

    odd, other = await asyncio.gather(*(claims.claim(one) for one in listed))

    assert isinstance(odd, Claim)
    assert isinstance(other, Claim)
    assert [(piece.start.month, piece.end.month) for piece in odd.ledger.covered] == read


WRONG = {
    "acme": "due_at = 'infinity'",
    "globex": "due_at = '-infinity'",
    "hooli": "last_fetched_data_date = '-infinity'",
    "pied": "due_at = '4000-01-01 BC'",
    "raviga": "due_at = '200000-01-01'",
    "initech": "status = 'SKIPPED'",
}


PLACES = "SELECT tenant_id, status::text AS word, fence FROM data_source_run ORDER BY 1"


async def test_values_that_python_has_no_place_for_stop_no_cycle(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in (*WRONG, "umbrella"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": IDLE}) as app:
        await cycle(app)
        # a word of the application's own
        await query(database_url, "ALTER TYPE \"DataSourceRunStatus\" ADD VALUE 'SKIPPED'")
        for tenant_id, change in WRONG.items():
            await query(
                database_url,
                f"UPDATE data_source_run SET {change} WHERE tenant_id = $1",
                tenant_id,
            )
        before = await query(database_url, PLACES)
        await cycle(app)
        after = await query(database_url, PLACES)

    assert after == [
        {"tenant_id": run["tenant_id"], "word": "COMPLETED", "fence": run["fence"] + 1}
        for run in before
    ]


async def test_a_run_that_nobody_works_on_is_run_in_the_cycle_that_finds_it(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": IDLE}) as app:
        await app.feeder.idle()
        await make_stray(database_url, app.claims.replica_id)
        await cycle(app, forced=False)
        run = (await runs(database_url))["acme/probe/main"]

    assert (run["word"], run["fence"]) == ("COMPLETED", 3)


async def make_stray(url: str, replica_id: object) -> None:
    """As after a claim whose answer was lost."""
    await query(
        url,
        "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1, fence = fence + 1 "
        "WHERE tenant_id = 'acme'",
        replica_id,
    )


async def test_rows_that_stay_locked_while_their_attempts_end_hold_up_no_cycle(
    database_url: str, tmp_path: Path
) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    await a_tenant(database_url, "acme", {"other": {"KEY": "value"}})
    await a_tenant(database_url, "globex", {"probe": {"GATES": str(gates)}})
    plugins = {f"probe/{name}.py": GATED for name in NAMES} | {"other/main.py": IDLE}
    async with running_app(database_url, tmp_path, plugins) as app:
        await in_hand(app, len(NAMES))
        await make_stray(database_url, app.claims.replica_id)
        lock = "SELECT FROM data_source_run WHERE tenant_id = 'globex' FOR UPDATE"
        async with a_transaction(database_url, lock):
            for name in NAMES:
                (gates / name).touch()
            await until_somebody_waits_for_a_lock(database_url)
            app.wanted.ask("the test", forced=False)
            async with asyncio.timeout(5):  # each of the three may wait for ten seconds
                await app.cycles.get()


@pytest.mark.parametrize("state", ["a stray", "waiting"])
async def test_a_row_that_somebody_keeps_locked_stops_no_cycle(
    state: str, database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": IDLE}) as app:
        await app.feeder.idle()
        if state == "a stray":
            await make_stray(database_url, app.claims.replica_id)
        else:
            await query(
                database_url,
                "UPDATE data_source_run SET failures = 1, due_at = now() + interval '1 hour' "
                "WHERE tenant_id = 'acme'",
            )
            await query(
                database_url,
                "UPDATE tenant_data_source_config SET value = value WHERE tenant_id = 'acme'",
            )
        before = await runs(database_url)
        lock = "SELECT FROM data_source_run WHERE tenant_id = 'acme' FOR UPDATE"
        async with a_transaction(database_url, lock):
            await cycle(app, forced=False)
        locked = await runs(database_url)
        await cycle(app)
        after = await runs(database_url)

    acme, globex = "acme/probe/main", "globex/probe/main"
    assert locked[globex]["fence"] == before[globex]["fence"] + 1
    assert locked[acme]["fence"] == before[acme]["fence"]
    assert (after[acme]["word"], after[acme]["fence"]) == ("COMPLETED", before[acme]["fence"] + 1)


WAITS = """
from datetime import UTC, datetime, timedelta
from harvestd.plugin import Unauthorised, Wait
async def run(env, *_):
    if env["KEY"] == "limited":
        raise Wait(datetime.now(UTC) + timedelta(hours=1), "rate limit")
    if env["KEY"] == "wrong":
        raise Unauthorised("401")
"""


async def test_while_an_old_transaction_stays_open_a_change_wakes_a_run_only_once(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "limited"}})
    async with running_app(database_url, tmp_path, {"probe/main.py": WAITS}) as app:
        await app.feeder.idle()
        async with a_transaction(database_url, "SELECT pg_current_xact_id()"):
            await query(database_url, "UPDATE tenant_data_source_config SET value = value")
            for _ in range(3):
                await cycle(app, forced=False)
        run = (await runs(database_url))["acme/probe/main"]

    assert (run["word"], run["fence"]) == ("WAITING", 2)


async def test_a_changed_configuration_ends_waiting_also_when_the_catalog_changed_too(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "wrong"}})
    async with running_app(database_url, tmp_path, {"probe/main.py": WAITS}) as app:
        await app.feeder.idle()
        waited = (await runs(database_url))["acme/probe/main"]
        await query(database_url, "UPDATE tenant_data_source_config SET value = 'right'")
        write_plugins(tmp_path / "plugins", {"other/main.py": IDLE})
        await cycle(app, forced=False)
        run = (await runs(database_url))["acme/probe/main"]

    assert waited["word"] == "WAITING"
    assert run["word"] == "COMPLETED"
