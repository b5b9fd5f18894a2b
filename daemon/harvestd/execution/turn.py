"""A tenant's turn: its due runs in the order of their dependencies, side by side where they may.

`readiness` decides, from values; `take_turn` acts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from harvestd.catalog.graph import Graph
from harvestd.catalog.snapshot import Catalog
from harvestd.errors import DatabaseError
from harvestd.execution.limits import Limits
from harvestd.execution.runner import Parts, attempt_run
from harvestd.observing.logs import get_logger, report_database_error
from harvestd.observing.redaction import Redactor
from harvestd.runs.claims import Listed
from harvestd.tenants.config import Tenant
from harvestd.terms import Outcome, ScriptName

log = get_logger()


class RunState(NamedTuple):
    """What a run row says, as far as readiness depends on it."""

    listed: Listed
    completed: bool
    due_at: datetime
    blocked_by: str | None
    held: bool
    suspect: bool = False
    """Its last holder died: it may be what kills processes."""


@dataclass(frozen=True, slots=True)
class TenantTurn:
    """A tenant and its runs as its turn finds them.

    ``due`` are those that may be claimed; ``unusable`` are due too, but this replica cannot run
    them, and why.  ``blocked`` are not due before what they needed is tried again.
    """

    tenant: Tenant
    runs: Mapping[ScriptName, RunState]
    due: frozenset[ScriptName]
    unusable: Mapping[ScriptName, str] = field(default_factory=dict)
    blocked: frozenset[ScriptName] = frozenset()
    outdated: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once configuration or plugins changed: nothing more is started from what this holds."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Nothing is in the way: claim it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Not to be run in this turn; ``done`` says whether what needs it may go on."""

    done: bool


@dataclass(frozen=True, slots=True)
class Postponed:
    """Due, but what it needs is not done yet: it gave its place back to others, and both come
    ``again`` in this cycle, or another replica is at it."""

    again: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """Due, but what it needs is not there: ``by`` is spelled out; due again when that is."""

    by: str
    due_at: datetime | None


def readiness(
    name: ScriptName,
    graph: Graph,
    turn: TenantTurn,
    done: Mapping[ScriptName, bool],
    postponed: Mapping[ScriptName, Postponed] = MappingProxyType({}),
) -> Ready | Settled | Postponed | Blocked:
    """What to do with a script whose needs have all been dealt with; ``done`` says how.

    ``postponed`` are those that go on later, and hold what needs them.
    """
    run = turn.runs.get(name)
    if run is None:
        return Settled(done=False)
    if not _goes_on(name, graph, turn, done):
        return Settled(done=run.completed and not run.held)
    for need in sorted(graph.needs.get(name, frozenset())):
        if need in postponed:
            return postponed[need]
        if not done.get(need, False):
            needed = turn.runs.get(need)
            if needed is not None and needed.held and need not in turn.due:
                return Postponed(again=False)
            # Due in this turn too: it failed just now, and is due again when its row says so.
            waits = needed is not None and need not in turn.due
            return Blocked(str(need), needed.due_at if needed is not None and waits else None)
    return Ready()


def _goes_on(
    name: ScriptName, graph: Graph, turn: TenantTurn, done: Mapping[ScriptName, bool]
) -> bool:
    """Whether it is due, or was blocked by what has been done in this very turn.

    The time that it took over from that would be too late: somebody mended or triggered it.
    """
    if name in turn.due or name not in turn.blocked:
        return name in turn.due
    needs = graph.needs.get(name, frozenset())
    return all(done.get(need, False) for need in needs) and any(
        _goes_on(need, graph, turn, done) for need in needs
    )


@dataclass(slots=True)
class _Going:
    """The turn under way."""

    parts: Parts
    limits: Limits
    catalog: Catalog
    turn: TenantTurn
    tenants_wait: Callable[[], bool]
    graph: Graph
    workers: asyncio.TaskGroup
    listed: dict[ScriptName, Listed]
    """With the fence that each run has now: an attempt that yielded raised it."""
    undecided: list[ScriptName]
    """What has to wait for the end of what it needs; that stands before it."""
    waiting: deque[ScriptName] = field(default_factory=deque)
    """Ready, and to be attempted as soon as the tenant's limit allows."""
    working: int = 0
    done: dict[ScriptName, bool] = field(default_factory=dict)
    blocked: list[tuple[Listed, str, datetime | None]] = field(default_factory=list)
    postponed: dict[ScriptName, Postponed] = field(default_factory=dict)
    redactors: dict[str, Redactor] = field(default_factory=dict)

    def others_wait(self, name: ScriptName) -> bool:
        """Whether somebody could use the place of an attempt of ``name``."""
        suspect = self.turn.runs[name].suspect
        slots_wanted = self.limits.wanted(name.source, suspect=suspect)
        return bool(self.waiting) or slots_wanted or self.tenants_wait()


async def take_turn(
    parts: Parts,
    limits: Limits,
    catalog: Catalog,
    turn: TenantTurn,
    tenants_wait: Callable[[], bool],
) -> dict[int, int]:
    """Run what is due and ready of one tenant; say of the rest what it waits for.

    At most ``tenant.runs_max`` attempts at once.  One that fails takes nothing with it but
    what needs it.  One whose slice is over goes behind those that wait, and if
    ``tenants_wait`` for a turn, behind those: the answer is what is left so, run_no → fence,
    and all that was not begun when the turn was outdated.
    """
    graph = catalog.graph_for(frozenset(turn.tenant.envs))
    listed = {name: run.listed for name, run in turn.runs.items()}
    async with asyncio.TaskGroup() as workers:
        going = _Going(
            parts, limits, catalog, turn, tenants_wait, graph, workers, listed, list(graph.order)
        )
        for name, why in {**graph.blocked, **turn.unusable}.items():
            if name in turn.due or name in turn.unusable:
                going.blocked.append((listed[name], why, None))
        _settle(going)
        _start_workers(going)
    if going.blocked and not (parts.draining.is_set() or turn.outdated.is_set()):
        await _say_blocked(parts, going.blocked)
    left = [name for name in turn.due if name not in going.done]
    left += [name for name, postponed in going.postponed.items() if postponed.again]
    return {listed[name].run_no: listed[name].fence for name in left}


def _settle(going: _Going) -> None:
    """Decide about every script whose needs have all been dealt with."""
    done, graph = going.done, going.graph
    undecided = []
    for name in going.undecided:
        if any(need not in done and need not in graph.blocked for need in graph.needs[name]):
            undecided.append(name)
            continue
        match readiness(name, graph, going.turn, done, going.postponed):
            case Ready():
                going.waiting.append(name)
            case Settled(done=as_done):
                done[name] = as_done
            case Postponed() as later:
                done[name] = False
                going.postponed[name] = later
            case Blocked(by=by, due_at=due_at):
                done[name] = False
                going.blocked.append((going.listed[name], by, due_at))
    going.undecided = undecided


def _start_workers(going: _Going) -> None:
    """One for each script that waits, as far as the tenant's limit goes."""
    # At least one: with none the turn would end, and come again, without end.
    runs_max = max(1, going.turn.tenant.runs_max or going.parts.tenant_runs_max)
    while going.working < runs_max and (name := _next(going)) is not None:
        going.working += 1
        going.workers.create_task(_work(going, name))


async def _work(going: _Going, first: ScriptName) -> None:
    """Attempt one script after the other, as long as there is one that nobody works on."""
    name: ScriptName | None = first
    task = asyncio.current_task()
    assert task is not None
    while name is not None:
        task.set_name(f"{going.turn.tenant.tenant_id}/{name}")
        outcome = await _attempt(going, going.listed[name])
        _note_end(going, name, outcome)
        name = _next(going)
        _start_workers(going)
    going.working -= 1


def _next(going: _Going) -> ScriptName | None:
    return going.waiting.popleft() if going.waiting and not going.turn.outdated.is_set() else None


def _note_end(going: _Going, name: ScriptName, outcome: Outcome | None) -> None:
    """Go on with what needs it; an attempt that only yielded goes on itself."""
    if outcome is None and going.turn.outdated.is_set():
        return  # perhaps it was not begun: left for whoever reads anew
    if outcome is Outcome.YIELDED:
        listed = going.listed[name]
        going.listed[name] = listed._replace(fence=listed.fence + 1)
        if not going.tenants_wait():
            going.waiting.append(name)
            return
        going.postponed[name] = Postponed(again=True)
    going.done[name] = outcome is Outcome.COMPLETED
    _settle(going)


async def _attempt(going: _Going, listed: Listed) -> Outcome | None:
    """One attempt in a slot: how it ended, or None where there was none."""
    name = listed.key.name
    script = going.catalog.script(name)
    assert script is not None
    slot = await going.limits.take(name.source, suspect=going.turn.runs[name].suspect)
    try:
        if going.parts.draining.is_set() or going.turn.outdated.is_set():
            return None
        outcome = await attempt_run(
            going.parts,
            listed,
            script,
            going.turn.tenant.envs[name.source],
            redactor=_redactor(going, name.source),
            slot=slot,
            others_wait=lambda: going.others_wait(name),
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
    return outcome if isinstance(outcome, Outcome) else None


def _redactor(going: _Going, source: str) -> Redactor:
    """One for all scripts of a data source: they share its configuration."""
    redactor = going.redactors.get(source)
    if redactor is None:
        secrets = going.turn.tenant.envs[source].secret_values(
            going.catalog.sources[source].plain_keys
        )
        redactor = going.redactors[source] = Redactor(secrets)
    return redactor


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
