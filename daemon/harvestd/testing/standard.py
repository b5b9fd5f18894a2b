"""The tests that any script must pass: what may happen to a run must not show in its data."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pytest

from harvestd.catalog.script import Script
from harvestd.terms import Outcome, RunKey, ScriptName, Window
from harvestd.testing.faults import (
    Fault,
    InStep,
    Writes,
    cancelled,
    disconnected,
    killed,
    spread,
    watched,
)
from harvestd.testing.harvest import Harvest, window_of
from harvestd.testing.replica import Ran, Replica
from harvestd.testing.state import State, differences, state_of

ATTEMPTS_MAX = 5
"""So often a run is tried again after a fault, as the daemon would."""
PIECES = 4


class StandardSuite:
    """Subclass it in a test file beside the script; the fixture ``env`` names the upstream.

        @pytest.fixture
        def env(upstream):
            return {"SHOP_URL": upstream.url}

        class TestItem(StandardSuite):
            script = "item"
            start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC)

    ``start`` and ``end``: the source time to be read, where the upstream has something; left out,
    one window up to now; of a snapshot script what it depends on reads it.  ``allowed``: what an
    operator would have to admit.  ``points_max``: of a run with more writes, faults are made to
    happen at so many.

    Each test reads for tenants of its own, and what they then have is compared with what an
    undisturbed run gives.  The upstream must answer alike each time.
    """

    pytestmark = pytest.mark.asyncio

    script: str
    start: datetime | None = None
    end: datetime | None = None
    allowed: frozenset[str] = frozenset()
    points_max = 12

    async def prepare(self, harvest: Harvest, tenant_id: str, env: Mapping[str, str]) -> None:
        """What a tenant has before the script runs: by default what it depends on is run.

        Only of the script's own data source.  Who overrides it does all of that himself, or
        awaits super().prepare(harvest, tenant_id, env) first.
        """
        for name in _needed(harvest, self.script):
            windows = harvest.script(name).catch_up
            span = (self.start, self.end) if windows else ()
            await harvest.run(name, *span, env=env, tenant_id=tenant_id)

    async def test_a_second_run_writes_nothing(
        self, harvest: Harvest, env: Mapping[str, str]
    ) -> None:
        """What is read again and is as it was leaves the database as it is.

        A script that appends is not made to read again what the ledger has.
        """
        async with self._trial(harvest) as trial:
            key = await trial.tenant("once", env)
            before = await trial.read(key, env)
            appends = any(not table.keyed for table in before.values())
            if not appends:
                await trial.replica.prepare(key, trial.span)
            await trial.attempt(key, env)
            after = await trial.state(key)
            _compare(after, before, "after a second run")
            rewritten = [name for name in after if after[name].versions != before[name].versions]
            if rewritten:
                pytest.fail(
                    f"a second run wrote rows of {', '.join(rewritten)} again that were as before: "
                    "give upsert only what comes from the upstream (no now(), no random id), and "
                    "let no window overwrite what another wrote",
                    pytrace=False,
                )

    async def test_killed_at_each_write(self, harvest: Harvest, env: Mapping[str, str]) -> None:
        """A process that dies at any moment loses nothing and doubles nothing."""
        await self._test_fault(harvest, env, "killed", killed)

    async def test_cancelled_at_each_write(self, harvest: Harvest, env: Mapping[str, str]) -> None:
        """A daemon that ends in order, and cancels the script, loses and doubles nothing."""
        await self._test_fault(harvest, env, "cancelled", cancelled)

    async def test_disconnected_at_each_write(
        self, harvest: Harvest, env: Mapping[str, str]
    ) -> None:
        """A connection that is lost at any write loses nothing and doubles nothing."""
        await self._test_fault(harvest, env, "disconnected", disconnected)

    async def test_tenants_side_by_side(
        self, harvest: Harvest, env: Mapping[str, str], other_env: Mapping[str, str]
    ) -> None:
        """Two tenants at once get what each gets alone, and nobody else's rows change."""
        async with self._trial(harvest) as trial:
            alone, other_alone = (
                await trial.tenant("alone", env),
                await trial.tenant("other-alone", other_env),
            )
            fresh = harvest.fresh_script
            expected = await trial.read(alone, env, fresh(self.script))
            other_expected = await trial.read(other_alone, other_env, fresh(self.script))
            one, other = await trial.tenant("one", env), await trial.tenant("other", other_env)
            with watched(InStep(2)) as in_step:
                await asyncio.gather(
                    in_step.run(trial.read(one, env)), in_step.run(trial.read(other, other_env))
                )
            _compare(await trial.state(one), expected, "beside another tenant's run")
            _compare(await trial.state(other), other_expected, "beside another tenant's run")
            if await trial.state(alone) != expected:
                pytest.fail("the runs of two tenants changed rows of a third", pytrace=False)

    async def test_windows_in_any_order(self, harvest: Harvest, env: Mapping[str, str]) -> None:
        """Backfills come later than what is newer: the order of windows does not show."""
        async with self._trial(harvest) as trial:
            if trial.span is None:
                pytest.skip("a snapshot script has no windows")
            expected = await trial.read(await trial.tenant("in-order", env), env)
            pieces = _pieces(trial.span)
            shuffled = random.Random(1).sample(pieces, len(pieces))  # noqa: S311 - an order
            for name, order in (("backwards", pieces[::-1]), ("shuffled", shuffled)):
                key = await trial.tenant(name, env)
                for window in order:
                    await trial.replica.prepare(key, window)
                    await trial.attempt(key, env)
                _compare(await trial.state(key), expected, f"with its windows {name}")

    async def _test_fault(
        self, harvest: Harvest, env: Mapping[str, str], word: str, fault: Fault
    ) -> None:
        async with self._trial(harvest) as trial:
            with watched(Writes()) as writes:
                key = await trial.tenant("undisturbed", env)
                writes.passed.clear()
                expected = await trial.read(key, env)
            names = [*writes.passed]
            for at in spread(len(names), self.points_max):
                key = await trial.tenant(f"{word}-{at}", env)
                await trial.replica.prepare(key, trial.span)
                await fault(trial.replica, key, partial(trial.attempt, key, env), at)
                await trial.finish(key, env)
                when = f"{word} at step {at} of {len(names)} ({names[at - 1]})"
                _compare(await trial.state(key), expected, when)

    @asynccontextmanager
    async def _trial(self, harvest: Harvest) -> AsyncIterator[_Trial]:
        harvest.allowed |= self.allowed
        script = harvest.script(self.script)
        async with harvest.replica() as replica:
            # Of a snapshot script they are for what it depends on.
            asked = (self.start, self.end) if script.catch_up else (None, None)
            span = await window_of(replica, script, *asked)
            yield _Trial(self, harvest, replica, script, span)


@dataclass(slots=True)
class _Trial:
    """One test of the suite: tenants are made, and a script reads the same span for each."""

    suite: StandardSuite
    harvest: Harvest
    replica: Replica
    script: Script
    span: Window | None

    async def tenant(self, name: str, env: Mapping[str, str]) -> RunKey:
        """The script's run of a new tenant, who has what is needed before it."""
        # The test's own tenant may be one that a fixture of the project names, and be there before.
        tenant_id = f"{self.harvest.tenant_id}-{name}-{secrets.token_hex(4)}"
        key = self.harvest.key(self.suite.script, tenant_id)
        await self.suite.prepare(self.harvest, key.tenant_id, env)
        return key

    async def read(
        self, key: RunKey, env: Mapping[str, str], script: Script | None = None
    ) -> State:
        """Let the script read the span, undisturbed; what the tenant has then."""
        before = await self.state(key)
        await self.replica.prepare(key, self.span)
        await self.replica.attempt(script or self.script, key, env)
        after = await self.state(key)
        if after == before:
            span = f" over {self.span.start} - {self.span.end}" if self.span else ""
            pytest.fail(
                f"{self.script.name} wrote nothing{span}, so this test would prove nothing: give "
                "`env` an upstream that has something, and `start` and `end` where it is (or is an "
                "`await` missing before a call of db?)",
                pytrace=False,
            )
        return after

    async def attempt(self, key: RunKey, env: Mapping[str, str]) -> Ran:
        """One attempt, as the ledger says."""
        return await self.replica.attempt(self.script, key, env)

    async def finish(self, key: RunKey, env: Mapping[str, str]) -> None:
        """Attempts until one is completed, as the daemon would make them."""
        for left in reversed(range(ATTEMPTS_MAX)):
            try:
                if (await self.attempt(key, env)).outcome is Outcome.COMPLETED:
                    return
            except Exception:
                if not left:
                    raise
        pytest.fail(
            f"{self.script.name} did not complete in {ATTEMPTS_MAX} attempts", pytrace=False
        )

    async def state(self, key: RunKey) -> State:
        """What the tenant has now."""
        return await state_of(self.replica, key.source, key.tenant_id)


def _compare(actual: State, expected: State, when: str) -> None:
    found = differences(actual, expected)
    if found:
        pytest.fail(
            f"{when}, the tenant has other rows than after an undisturbed run:\n{found}",
            pytrace=False,
        )


def _pieces(span: Window) -> list[Window]:
    """The span in PIECES of equal length."""
    bounds = [span.start + n * (span.width / PIECES) for n in range(PIECES)]
    return [Window(*pair) for pair in zip(bounds, [*bounds[1:], span.end], strict=True)]


def _needed(harvest: Harvest, script: str) -> list[str]:
    """The scripts of the same data source that it depends on, in the order to run them."""
    graph = harvest.catalog.graph_for(frozenset({harvest.source}))
    wanted = {ScriptName(harvest.source, script)}
    for name in reversed(graph.order):
        if name in wanted:
            wanted |= graph.needs[name]
    return [name.script for name in graph.order if name in wanted and name.script != script]
