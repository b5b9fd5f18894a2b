"""Which of a tenant's scripts may be attempted, must wait, or is blocked: from values alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from harvestd.catalog.graph import Graph
from harvestd.runs.claims import Listed
from harvestd.tenants.config import Tenant
from harvestd.terms import ScriptName


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
