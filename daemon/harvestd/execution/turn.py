"""A tenant's turn: its due runs in the order of their dependencies, side by side where they may.

What of it may go on is decided in `readiness.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from harvestd.catalog.snapshot import Catalog
from harvestd.errors import DatabaseError
from harvestd.execution.limits import Limits
from harvestd.execution.readiness import (
    Blocked,
    Postponed,
    Ready,
    RunState,
    Settled,
    TenantTurn,
    readiness,
)
from harvestd.execution.runner import Parts, attempt_run
from harvestd.observing.logs import get_logger, report_database_error
from harvestd.observing.redaction import Redactor
from harvestd.runs.claims import Listed, Refusal
from harvestd.terms import Outcome, ScriptName

log = get_logger()


class Turn:
    """The turn of one tenant, as long as anything of it goes on.

    At most ``tenant.runs_max`` attempts at once.  One that fails takes nothing with it but
    what needs it.  One whose slice is over goes behind those that wait, and if
    ``tenants_wait`` for a turn, behind those.
    """

    def __init__(
        self,
        parts: Parts,
        limits: Limits,
        catalog: Catalog,
        found: TenantTurn,
        tenants_wait: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._limits = limits
        self._catalog = catalog
        self._found = found
        self._tenants_wait = tenants_wait
        self._graph = catalog.graph_for(frozenset(found.tenant.envs))
        self._listed = {name: run.listed for name, run in found.runs.items()}
        """With the fence that each run has now: an attempt raised it."""
        self._undecided = list(self._graph.order)
        """What has to wait for the end of what it needs; that stands before it."""
        self._waiting: deque[ScriptName] = deque()
        """Ready, and to be attempted as soon as the tenant's limit allows."""
        self._working: set[ScriptName] = set()
        self._done = dict.fromkeys(self._graph.blocked, False)
        """What has been dealt with, and whether what needs it may go on."""
        self._postponed: dict[ScriptName, Postponed] = {}
        self.crowded: dict[str, dict[int, int]] = {}
        """By narrow limit: run_no → fence of what is left for when fewer tenants wait there."""
        self._redactors: dict[str, Redactor] = {}
        self._workers = asyncio.TaskGroup()

    async def take(self) -> dict[int, int]:
        """Attempt what is due and ready; say of the rest what it waits for.

        The answer is what is left for later in this cycle, run_no → fence: what yielded, and
        all that was not begun when the turn was outdated.
        """
        async with self._workers:
            self._tell_unusable({**self._graph.blocked, **self._found.unusable})
            self._go_on()
        left = [name for name in self._found.due if name not in self._done]
        left += [name for name, postponed in self._postponed.items() if postponed.again]
        return {self._listed[name].run_no: self._listed[name].fence for name in left}

    def join(self, found: TenantTurn, catalog: Catalog) -> bool:
        """Go on from what is true by now; False where that has to wait for the end of this turn.

        So a script that runs for an hour holds up none but those that need it, neither with what
        became due since nor with another configuration.
        """
        if not self._working:
            return False
        if self._found.outdated.is_set():
            self._waiting.clear()
        else:  # the attempts under way were begun from it
            found = replace(found, outdated=self._found.outdated)
        self._redactors.clear()  # a configuration is read anew before its change is noted
        self._catalog = catalog
        self._graph = catalog.graph_for(frozenset(found.tenant.envs))
        self.crowded.clear()
        self._waiting = deque(name for name in self._waiting if self._has(name, found))
        under_way = self._working.union(self._waiting)
        ended = [name for name, run in found.runs.items() if self._completed_since(name, run)]
        for name, run in found.runs.items():
            if name not in under_way:
                self._listed[name] = run.listed
        self._postponed = {  # what another had, or was too many, is judged anew
            name: later
            for name, later in self._postponed.items()
            if later.again and name not in found.due
        }
        self._done = dict.fromkeys(ended, True)
        self._done |= dict.fromkeys({*self._graph.blocked, *self._postponed}, False)
        decided = under_way.union(self._done)
        self._undecided = [name for name in self._graph.order if name not in decided]
        self._found = replace(found, due=found.due | under_way)
        self._tell_unusable(found.unusable)
        self._go_on()
        return True

    def outdate(self) -> None:
        """Start nothing more from what was found: configuration or plugins changed."""
        self._found.outdated.set()

    def _go_on(self) -> None:
        """Decide what can be decided, and start what may be started."""
        self._settle()
        self._start_workers()

    def _settle(self) -> None:
        """Decide about every script whose needs have all been dealt with."""
        undecided = []
        blocked = []
        for name in self._undecided:
            needs = self._graph.needs[name]
            if any(need not in self._done for need in needs):
                undecided.append(name)
                continue
            match readiness(name, self._graph, self._found, self._done, self._postponed):
                case Ready():
                    self._waiting.append(name)
                case Settled(done=done):
                    self._done[name] = done
                case Postponed() as later:
                    self._done[name] = False
                    self._postponed[name] = later
                case Blocked(by=by, due_at=due_at):
                    self._done[name] = False
                    blocked.append((self._listed[name], by, due_at))
        self._undecided = undecided
        self._tell_blocked(blocked)

    def _start_workers(self) -> None:
        """One for each script that waits, as far as the tenant's limit goes."""
        # At least one: with none the turn would end, and come again, without end.
        runs_max = max(1, self._found.tenant.runs_max or self._parts.tenant_runs_max)
        while len(self._working) < runs_max and (name := self._next()) is not None:
            self._workers.create_task(
                self._work(name), name=f"a run of {self._found.tenant.tenant_id}"
            )

    async def _work(self, first: ScriptName) -> None:
        """Attempt one script after the other, as long as there is one that nobody works on."""
        name: ScriptName | None = first
        while name is not None:
            # One that yielded may be retired by now.
            outcome = await self._attempt(name) if name in self._found.runs else None
            self._note_end(name, outcome)
            self._settle()
            name = self._next()
            self._start_workers()

    def _next(self) -> ScriptName | None:
        if not self._waiting or self._found.outdated.is_set():
            return None
        name = self._waiting.popleft()
        self._working.add(name)
        return name

    def _note_end(self, name: ScriptName, outcome: Outcome | None) -> None:
        """An attempt that only yielded goes on itself."""
        self._working.discard(name)
        if outcome is None and self._found.outdated.is_set():
            return  # perhaps it was not begun: left for whoever reads anew
        if outcome is not None:
            listed = self._listed[name]
            self._listed[name] = listed._replace(fence=listed.fence + 1)
        if outcome is Outcome.YIELDED:
            if not self._tenants_wait():
                self._waiting.append(name)
                return
            self._postponed[name] = Postponed(again=True)
        self._done[name] = outcome is Outcome.COMPLETED

    def _completed_since(self, name: ScriptName, run: RunState) -> bool:
        """Whether ``run`` was read while an attempt of this turn was about to complete."""
        return (
            run.held
            and self._done.get(name, False)
            and run.listed.fence == self._listed[name].fence
        )

    def _starts_nothing(self) -> bool:
        parts = self._parts
        return parts.draining.is_set() or self._found.outdated.is_set() or parts.hands.in_doubt()

    def _has(self, name: ScriptName, found: TenantTurn) -> bool:
        return (
            name in found.runs
            and name.source in found.tenant.envs
            and self._catalog.script(name) is not None
        )

    def _others_wait(self, source: str, suspect: bool) -> bool:
        """Whether somebody could use the place of an attempt of ``source``."""
        slots_wanted = self._limits.wanted(source, suspect=suspect)
        return bool(self._waiting) or slots_wanted or self._tenants_wait()

    async def _attempt(self, name: ScriptName) -> Outcome | None:
        """One attempt in a slot: how it ended, or None where there was none."""
        suspect = self._found.runs[name].suspect
        if (narrow := self._limits.crowded(name.source, suspect=suspect)) is not None:
            # In hand it would take the place of a tenant that needs another limit, or none.
            self._postponed[name] = Postponed(again=False)
            listed = self._listed[name]
            self.crowded.setdefault(narrow, {})[listed.run_no] = listed.fence
            return None
        slot = await self._limits.take(name.source, self._found.tenant.tenant_id, suspect=suspect)
        try:
            found, script = self._found, self._catalog.script(name)
            # Perhaps removed while it waited for the slot.
            if self._starts_nothing() or script is None or not self._has(name, found):
                return None
            outcome = await attempt_run(
                self._parts,
                self._listed[name],
                script,
                found.tenant.envs[name.source],
                redactor=self._redactor(name.source),
                slot=slot,
                others_wait=lambda: (
                    found.outdated.is_set() or self._others_wait(name.source, suspect)
                ),
            )
        except DatabaseError as error:
            report_database_error(error, "a run was not claimed")
            return None
        except Exception as error:
            # One run's trouble must not end the tenant's other attempts.
            log.error("turn_failed", reason=type(error).__name__, exc_info=error)
            return None
        finally:
            slot.give_back()
        if isinstance(outcome, Refusal):
            # Somebody else is at it, or was since it was listed: what needs it is not blocked.
            self._postponed[name] = Postponed(again=False)
            return None
        return outcome

    def _redactor(self, source: str) -> Redactor:
        """One for all scripts of a data source: they share its configuration."""
        redactor = self._redactors.get(source)
        if redactor is None:
            env, plain_keys = (
                self._found.tenant.envs[source],
                self._catalog.sources[source].plain_keys,
            )
            redactor = self._redactors[source] = Redactor(env.secret_values(plain_keys))
        return redactor

    def _tell_unusable(self, why: Mapping[ScriptName, str]) -> None:
        due = self._found.due.union(self._found.unusable)
        self._tell_blocked([(self._listed[name], why[name], None) for name in why if name in due])

    def _tell_blocked(self, blocked: list[tuple[Listed, str, datetime | None]]) -> None:
        if blocked and not self._starts_nothing():
            self._workers.create_task(_say_blocked(self._parts, blocked))


async def _say_blocked(parts: Parts, blocked: list[tuple[Listed, str, datetime | None]]) -> None:
    try:
        news = await parts.claims.mark_blocked(blocked)
    except DatabaseError as error:
        report_database_error(error, "blocked runs were not noted")
        return
    for listed, by, _ in blocked:
        if listed.run_no in news:
            log.warning(
                "run_blocked",
                tenant_id=listed.key.tenant_id,
                source=listed.key.source,
                script=listed.key.script,
                blocked_by=by,
                reason="it goes on by itself once that is mended; its progress is kept",
            )
