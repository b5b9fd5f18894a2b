"""Heartbeat, reaper and drain at unlucky moments: nobody is cancelled who should go on, and
whoever should stop does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harvestd.database import step as steps
from harvestd.service.app import App
from harvestd.terms import Outcome
from tests.builders import a_tenant, a_transaction, query
from tests.daemons import GATED, WITHIN, in_hand, running_app, runs
from tests.processes import wait_until

IDLE = "catch_up = False\nasync def run(*_): pass\n"
SHORT = {"lease_seconds": 3.0}
NO_HEARTBEATS = "LOCK TABLE harvestd.installation IN ACCESS EXCLUSIVE MODE"
"""A heartbeat reads it, a claim does not."""
BEGINS = GATED.replace(
    "    while", '    Path(env["GATES"], "began-" + tenant_id).touch()\n    while'
)
"""The shortest lease: a heartbeat each second."""


@dataclass(slots=True)
class Held:
    """A step at which the first who comes waits."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def held_at(*names: str) -> AsyncIterator[Mapping[str, Held]]:
    """Hold up the first that reaches each of these steps."""
    held = {name: Held() for name in names}

    async def hook(name: str) -> None:
        if name in held and not held[name].reached.is_set():
            held[name].reached.set()
            await held[name].go_on.wait()

    steps.hook = hook
    try:
        async with asyncio.timeout(WITHIN):
            yield held
    finally:
        steps.hook = None
        for one in held.values():
            one.go_on.set()


async def answered(app: App) -> None:
    """Wait until one more heartbeat was answered, and acted upon."""
    before = app.heartbeat.confirmed_at

    async def later() -> bool:
        return app.heartbeat.confirmed_at > before

    await wait_until(later, "a heartbeat that is answered")


def gates(tmp_path: Path) -> Path:
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


def began(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("began-*")}


async def test_a_heartbeat_that_crosses_a_record_cancels_nobody(
    database_url: str, tmp_path: Path
) -> None:
    open_gates = gates(tmp_path)
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(open_gates)}})
    plugins = {"probe/quick.py": GATED, "probe/slow.py": GATED}
    async with running_app(database_url, tmp_path, plugins, **SHORT) as app:
        await in_hand(app, 2)
        async with held_at("record", "heartbeat") as held:
            (open_gates / "quick").touch()
            await held["record"].reached.wait()
            await held["heartbeat"].reached.wait()
            await query(
                database_url, "UPDATE data_source_run SET fence = fence + 1 WHERE script = 'quick'"
            )
            held["heartbeat"].go_on.set()
            await answered(app)
            held["record"].go_on.set()
            await app.cycles.get()  # asked for because the run was given back
        (open_gates / "slow").touch()
        await app.feeder.idle()
        states = await runs(database_url)
        history = await query(database_url, "SELECT outcome FROM harvestd.run_history")

    assert {run["word"] for run in states.values()} == {"COMPLETED"}
    assert states["acme/probe/slow"]["fence"] == 1
    assert {attempt["outcome"] for attempt in history} == {"completed"}


async def test_a_heartbeat_sent_before_a_run_was_claimed_anew_spares_the_new_attempt(
    database_url: str, tmp_path: Path
) -> None:
    gate = gates(tmp_path) / "main"
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gate.parent)}})
    async with running_app(database_url, tmp_path, {"probe/main.py": GATED}, **SHORT) as app:
        await in_hand(app)
        async with held_at("heartbeat") as held:
            await held["heartbeat"].reached.wait()
            gate.touch()
            await app.feeder.idle()
            gate.unlink()
            app.wanted.ask("the test", forced=True)
            await in_hand(app)
            held["heartbeat"].go_on.set()
            await answered(app)
        (hand,) = app.hands.by_run.values()
        gate.touch()
        await app.feeder.idle()

    assert (hand.claim.fence, hand.cancelled_as) == (2, None)


async def test_a_run_that_somebody_took_from_us_is_given_up_at_the_next_heartbeat(
    database_url: str, tmp_path: Path
) -> None:
    gate = gates(tmp_path) / "main"
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gate.parent)}})
    async with running_app(database_url, tmp_path, {"probe/main.py": GATED}, **SHORT) as app:
        await in_hand(app)
        (hand,) = app.hands.by_run.values()
        await query(database_url, "UPDATE data_source_run SET fence = fence + 1")

        async def cancelled() -> bool:
            return hand.cancelled_as is not None

        await wait_until(cancelled, "the attempt is cancelled", within=WITHIN)
        gate.touch()

    assert hand.cancelled_as is Outcome.LOST


async def test_no_heartbeat_waits_for_the_reaper(database_url: str, tmp_path: Path) -> None:
    async with (
        running_app(database_url, tmp_path, {}, **SHORT) as app,
        held_at("reap_free") as held,
    ):
        await held["reap_free"].reached.wait()
        await answered(app)
        await answered(app)


async def test_a_heartbeat_that_hangs_stops_the_attempts_before_the_lease_is_over(
    database_url: str, tmp_path: Path
) -> None:
    gate = gates(tmp_path) / "main"
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gate.parent)}})
    async with running_app(database_url, tmp_path, {"probe/main.py": GATED}, **SHORT) as app:
        await in_hand(app)
        async with a_transaction(database_url, "SELECT FROM harvestd.replica FOR UPDATE"):
            await in_hand(app, 0)
            age = app.heartbeat.age_seconds
        gate.touch()

    assert age < app.lease.total_seconds()


async def test_an_error_while_a_dead_replica_rejoins_is_tried_again(
    database_url: str, tmp_path: Path
) -> None:
    async with running_app(database_url, tmp_path, {}, **SHORT) as app:
        dead = app.heartbeat.replica_id
        # At once, or a heartbeat in between would be refused itself.
        await query(
            database_url,
            "DO $$ BEGIN DELETE FROM harvestd.replica; ALTER TABLE harvestd.replica "
            "ADD CONSTRAINT nobody_enters CHECK (false) NOT VALID; END $$",
        )

        async def refused() -> bool:
            return "database" in app.health.problems

        await wait_until(refused, "the new id is refused")
        await query(database_url, "ALTER TABLE harvestd.replica DROP CONSTRAINT nobody_enters")

        async def back() -> bool:
            return "database" not in app.health.problems

        await wait_until(back, "the replica is back")
        living = await query(
            database_url, "SELECT replica_id FROM harvestd.replica WHERE dead_at IS NULL"
        )
        assert living == [{"replica_id": app.heartbeat.replica_id}]
        assert app.heartbeat.replica_id != dead


async def test_a_tick_while_attempts_are_drained_starts_nothing_and_delays_nothing(
    database_url: str, tmp_path: Path
) -> None:
    gate = gates(tmp_path) / "main"
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gate.parent)}})
    await a_tenant(database_url, "globex", {"other": {"KEY": "value"}})
    plugins = {"probe/main.py": GATED, "other/main.py": IDLE}
    async with running_app(database_url, tmp_path, plugins, drain_seconds=600.0) as app:
        await in_hand(app)
        before = await runs(database_url)
        app.stop("the test")
        await app.draining.wait()
        app.wanted.ask("a tick", forced=True)
        await app.cycles.get()
        gate.touch()
        async with asyncio.timeout(WITHIN / 4):
            await app.feeder.idle()
    after = await runs(database_url)

    assert after["acme/probe/main"]["word"] == "COMPLETED"
    assert after["globex/other/main"]["fence"] == before["globex/other/main"]["fence"]


async def test_what_a_drain_keeps_from_running_is_not_said_to_be_blocked(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(gates(tmp_path))}})
    plugins = {
        "probe/main.py": GATED,
        "probe/needy.py": 'dependencies = ["probe/main"]\n' + IDLE,
    }
    async with running_app(database_url, tmp_path, plugins, drain_seconds=0.0) as app:
        await in_hand(app)
    states = await runs(database_url)

    assert states["acme/probe/main"]["word"] == "PENDING"
    assert states["acme/probe/needy"]["blocked_by"] is None


async def test_a_replica_that_may_be_dead_by_now_begins_nothing_though_it_could_still_claim(
    database_url: str, tmp_path: Path
) -> None:
    """Only its heartbeat is held up.  Others would start the same scripts beside it."""
    open_gates = gates(tmp_path)
    for tenant_id in ("acme", "globex", "initech"):
        await a_tenant(database_url, tenant_id, {"probe": {"GATES": str(open_gates)}})
    plugins = {"probe/main.py": BEGINS}
    async with running_app(database_url, tmp_path, plugins, **SHORT, runs_max=1) as app:
        await in_hand(app)
        first = began(open_gates)
        async with held_at("claim") as held, a_transaction(database_url, NO_HEARTBEATS):

            async def cancelled() -> bool:
                return app.heartbeat.overdue and not app.hands.by_run

            await wait_until(cancelled, "what was under way is given up")
            assert not held["claim"].reached.is_set()
            async with asyncio.timeout(WITHIN):
                await app.feeder.idle()
            assert began(open_gates) == first
        (open_gates / "main").touch()


async def test_a_claim_that_is_given_when_the_replica_may_be_dead_by_now_starts_no_script(
    database_url: str, tmp_path: Path
) -> None:
    open_gates = gates(tmp_path)
    await a_tenant(database_url, "acme", {"probe": {"GATES": str(open_gates)}})
    async with held_at("claim") as held:
        plugins = {"probe/main.py": BEGINS}
        async with running_app(database_url, tmp_path, plugins, **SHORT) as app:
            await held["claim"].reached.wait()
            async with a_transaction(database_url, NO_HEARTBEATS):

                async def overdue() -> bool:
                    return app.heartbeat.overdue

                await wait_until(overdue, "its heartbeats are missing")
                held["claim"].go_on.set()
                await app.feeder.idle()
                assert began(open_gates) == set()
            (open_gates / "main").touch()
    states = await runs(database_url)

    assert states["acme/probe/main"]["failures"] == 0


async def test_what_was_not_begun_in_doubt_is_listed_again_once_a_late_heartbeat_is_answered(
    database_url: str, tmp_path: Path
) -> None:
    """A pause of the process, shorter than its lease: no heartbeat failed, none came in time."""
    async with running_app(
        database_url, tmp_path, {"probe/main.py": IDLE}, lease_seconds=9.0
    ) as app:
        await answered(app)
        app.heartbeat.confirmed_at -= 8.0
        await a_tenant(database_url, "acme", {"probe": {"KEY": "x"}})
        app.wanted.ask("the test", forced=False)
        await app.cycles.get()
        await app.feeder.idle()
        assert (await runs(database_url))["acme/probe/main"]["fence"] == 0
        assert app.heartbeat.overdue

        async def completed() -> bool:
            return bool((await runs(database_url))["acme/probe/main"]["word"] == "COMPLETED")

        await wait_until(completed, "what was not begun is begun", within=10.0)
