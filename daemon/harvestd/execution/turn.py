"""A tenant's turn: its due runs in the order of their dependencies, side by side where they may.

`readiness` decides, from values; `take_turn` acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from graphlib import TopologicalSorter

from harvestd.catalog.graph import Graph
from harvestd.catalog.snapshot import Catalog
from harvestd.errors import DatabaseError
from harvestd.execution.limits import Slots
from harvestd.execution.runner import Parts, attempt_run
from harvestd.observing.logs import get_logger, report_database_error
from harvestd.runs.claims import Listed
from harvestd.tenants.config import Tenant
from harvestd.terms import Outcome, ScriptName

log = get_logger()


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run row says, as far as readiness depends on it."""

    listed: Listed
    completed: bool
    due_at: datetime
    blocked_by: str | None
    held: bool


@dataclass(frozen=True, slots=True)
class TenantTurn:
    """A tenant and its runs as its turn finds them.

    ``due`` are those that may be claimed; ``unusable`` are due too, but this replica cannot run
    them, and why.
    """

    tenant: Tenant
    runs: Mapping[ScriptName, RunState]
    due: frozenset[ScriptName]
    unusable: Mapping[ScriptName, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """Nothing is in the way: claim it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Not to be run in this turn; ``done`` says whether what needs it may go on."""

    done: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """Due, but what it needs is not there: ``by`` is spelled out; due again when that is."""

    by: str
    due_at: datetime | None


def readiness(
    name: ScriptName, graph: Graph, turn: TenantTurn, done: Mapping[ScriptName, bool]
) -> Ready | Settled | Blocked:
    """What to do with a script whose needs have all been dealt with; ``done`` says how."""
    run = turn.runs.get(name)
    if run is None:
        return Settled(done=False)
    if name not in turn.due:
        return Settled(done=run.completed and not run.held)
    for need in sorted(graph.needs.get(name, frozenset())):
        if not done.get(need, False):
            needed = turn.runs.get(need)
            # Due in this turn too: it failed just now, and is due again when its row says so.
            waits = needed is not None and need not in turn.due
            return Blocked(str(need), needed.due_at if needed is not None and waits else None)
    return Ready()


@dataclass(slots=True)
class _Progress:
    """The turn under way."""

    sorter: TopologicalSorter[ScriptName]
    done: dict[ScriptName, bool] = field(default_factory=dict)
    blocked: list[tuple[Listed, str, datetime | None]] = field(default_factory=list)
    waiting: list[ScriptName] = field(default_factory=list)
    attempts: dict[asyncio.Task[bool], ScriptName] = field(default_factory=dict)


async def take_turn(parts: Parts, slots: Slots, catalog: Catalog, turn: TenantTurn) -> None:
    """Run what is due and ready of one tenant; say of the rest what it waits for.

    At most ``tenant.runs_max`` attempts at once.  One that fails takes nothing with it but
    what needs it.
    """
    graph = catalog.graph_for(frozenset(turn.tenant.envs))
    nodes = set(graph.order)
    progress = _Progress(
        TopologicalSorter({name: graph.needs.get(name, frozenset()) & nodes for name in nodes})
    )
    for name, why in {**graph.blocked, **turn.unusable}.items():
        if name in turn.due or name in turn.unusable:
            progress.blocked.append((turn.runs[name].listed, why, None))
    progress.sorter.prepare()
    try:
        while progress.sorter.is_active():
            _settle(progress, graph, turn)
            _start(progress, parts, slots, catalog, turn)
            if progress.attempts:
                await _wait_for_one(progress)
    finally:
        for task in progress.attempts:
            task.cancel()
        await asyncio.gather(*progress.attempts, return_exceptions=True)
    if progress.blocked and not parts.draining.is_set():
        await _say_blocked(parts, progress.blocked)


def _settle(progress: _Progress, graph: Graph, turn: TenantTurn) -> None:
    """Deal with every script that is to be looked at, until only attempts are left."""
    while found := progress.sorter.get_ready():
        for name in found:
            match readiness(name, graph, turn, progress.done):
                case Ready():
                    progress.waiting.append(name)
                    continue
                case Settled(done=done):
                    progress.done[name] = done
                case Blocked(by=by, due_at=due_at):
                    progress.done[name] = False
                    progress.blocked.append((turn.runs[name].listed, by, due_at))
            progress.sorter.done(name)


def _start(
    progress: _Progress, parts: Parts, slots: Slots, catalog: Catalog, turn: TenantTurn
) -> None:
    # At least one: with none the loop of `take_turn` would never wait for anything.
    runs_max = max(1, turn.tenant.runs_max or parts.tenant_runs_max)
    while progress.waiting and len(progress.attempts) < runs_max:
        name = progress.waiting.pop(0)
        task = asyncio.create_task(
            _attempt(parts, slots, catalog, turn, name), name=f"{turn.tenant.tenant_id}/{name}"
        )
        progress.attempts[task] = name


async def _wait_for_one(progress: _Progress) -> None:
    ended, _ = await asyncio.wait(progress.attempts, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        name = progress.attempts.pop(task)
        progress.done[name] = task.result()
        progress.sorter.done(name)


async def _attempt(
    parts: Parts, slots: Slots, catalog: Catalog, turn: TenantTurn, name: ScriptName
) -> bool:
    """One attempt in a slot; whether what needs it may go on."""
    script = catalog.script(name)
    source = catalog.sources[name.source]
    run = turn.runs[name]
    assert script is not None
    try:
        async with slots.slot():
            if parts.draining.is_set():
                return False
            outcome = await attempt_run(
                parts, run.listed, script, turn.tenant.envs[name.source], source.plain_keys
            )
    except DatabaseError as error:
        report_database_error(error, "a run was not claimed")
        return False
    except Exception as error:
        # One run's trouble must not end the tenant's other attempts.
        log.error("turn_failed", reason=type(error).__name__, exc_info=error)
        return False
    return outcome is Outcome.COMPLETED


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
