"""The one feeder: takes tenants from the due list, longest overdue first, as slots free.

A cycle only moves the list (`offer`); it never waits for a script.  Configurations
are fetched for the tenants in hand alone.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from harvestd.catalog.snapshot import EMPTY, Catalog
from harvestd.database.pool import Database
from harvestd.errors import DatabaseError
from harvestd.execution.limits import Limits
from harvestd.execution.readiness import RunState, TenantTurn
from harvestd.execution.runner import Parts
from harvestd.execution.turn import Turn
from harvestd.observing.logs import get_logger, report_database_error
from harvestd.runs.claims import Listed
from harvestd.tenants.config import ENV_BYTES_MAX, Tenant, envs_of
from harvestd.terms import RunKey, ScriptName, Status

log = get_logger()

PAGE = 50
"""Tenants fetched by one statement."""
NEVER = datetime(1, 1, 3, tzinfo=UTC)


@dataclass(slots=True)
class DueList:
    """Who has something due in a cycle: one run_no of each tenant, the longest overdue first.

    Eight bytes a tenant, however many wait; all else is read when a tenant's turn comes.
    """

    began: datetime = NEVER
    forced_at: datetime = NEVER
    """As in list_due_runs: they say what of a tenant is due."""
    others: array[int] = field(default_factory=lambda: array("q"))
    in_hand: list[int] = field(default_factory=list)
    """Of tenants whose turn is under way: what is due joins it."""
    again: dict[int, int] = field(default_factory=dict)
    """run_no → fence of runs that are due though they started in this cycle; they come last."""
    crowded: dict[str, dict[int, int]] = field(default_factory=dict)
    """By narrow limit: run_no → fence of runs for which enough tenants waited there."""
    taken: int = 0
    """How many of ``others`` were taken."""

    @property
    def tenants(self) -> int:
        """How many are left; one of ``again`` or ``crowded`` may be counted twice."""
        listed = len(self.others) - self.taken + len(self.in_hand)
        return listed + len(self.again) + sum(map(len, self.crowded.values()))

    def add(self, run_no: int, *, in_hand: bool) -> None:
        """The next tenant, by any of its runs."""
        if in_hand:
            self.in_hand.append(run_no)
        else:
            self.others.append(run_no)

    def note_crowded(self, crowded: Mapping[str, Mapping[int, int]]) -> None:
        """These are left for when fewer wait."""
        for narrow, fences in crowded.items():
            self.crowded.setdefault(narrow, {}).update(fences)

    def take(
        self, room: int, narrow_room: Callable[[str], int]
    ) -> tuple[list[int], dict[int, int]]:
        """A run_no of each of the next tenants, of which ``room`` may begin a turn, and the
        fences of those that come again; ``narrow_room`` says how many may wait for a limit."""
        if self.in_hand:
            page, self.in_hand = self.in_hand[:PAGE], self.in_hand[PAGE:]
            return page, {}
        page = list(self.others[self.taken : self.taken + max(0, min(PAGE, room))])
        self.taken += len(page)
        if page or room <= 0:
            return page, {}
        fences: dict[int, int] = {}
        for narrow, crowded in self.crowded.items():  # before ``again``: these had no slot yet
            fences = fences or _taken(crowded, min(PAGE, room, narrow_room(narrow)))
        fences = fences or _taken(self.again, min(PAGE, room))
        return list(fences), fences


class Feeder:
    """Hands tenants to their turns."""

    def __init__(self, parts: Parts, limits: Limits, database: Database) -> None:
        self._parts = parts
        self._limits = limits
        self._line = database.line("turns")
        self._catalog = EMPTY
        self._unusable: Mapping[str, str] = {}
        self._due = DueList()
        self._turns: dict[str, Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._after: dict[str, int] = {}
        """A run_no of each tenant whose turn was about to end when something was to join it."""
        self._fetching = 0
        self._outdated_meanwhile: set[str] = set()
        """Tenants whose configuration changed while a page was fetched."""
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        limits.narrow_freed = self._note_change

    def offer(self, due: DueList, catalog: Catalog, unusable: Mapping[str, str]) -> None:
        """The list of a new cycle replaces what is left of the old one; draining, none does.

        ``unusable`` are data sources whose scripts are not to be run, and why.
        """
        if self._parts.draining.is_set():
            return
        if catalog is not self._catalog:
            self.outdate(self._turns)
        self._catalog = catalog
        self._unusable = unusable
        self._due = due
        self._after.clear()
        self._note_change()

    def outdate(self, tenant_ids: Iterable[str]) -> None:
        """Start nothing more from what the turns of these tenants have read; they end early."""
        for tenant_id in tenant_ids:
            self._outdated_meanwhile.add(tenant_id)
            if (turn := self._turns.get(tenant_id)) is not None:
                turn.outdate()

    def has_in_hand(self, tenant_id: str) -> bool:
        """Whether a turn of that tenant is under way."""
        return tenant_id in self._turns

    @property
    def tenants_left(self) -> int:
        """Tenants on the list and in hand."""
        return self._due.tenants + self._fetching + len(self._turns)

    async def idle(self) -> None:
        """Wait until nothing is left of the list, and no turn is under way."""
        await self._idle.wait()

    async def feed_forever(self) -> None:
        """Start turns as long as the process lives."""
        try:
            while True:
                self._changed.clear()
                while not self._parts.draining.is_set() and await self._feed_page():
                    pass
                await self._changed.wait()
        finally:
            self.outdate(self._turns)  # a cancelled attempt ends, and nothing follows it
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_pending(self) -> None:
        """Draining: nothing more is started."""
        self._due = DueList()
        self._after.clear()
        self._note_change()

    async def _feed_page(self) -> bool:
        """Begin the turns of the next tenants, or let what is due join theirs; False: none."""
        catalog, due = self._catalog, self._due
        page, again = due.take(self._limits.tenants_max - len(self._turns), self._limits.room)
        if not page:
            return False
        self._fetching = len(page)
        self._outdated_meanwhile.clear()
        found: dict[int, TenantTurn] = {}
        try:
            found = await self._read_turns(page, due, again)
        except DatabaseError as error:
            report_database_error(error, "turns were not started")  # the next cycle lists them
        self._fetching = 0
        for run_no, turn in found.items():
            tenant_id = turn.tenant.tenant_id
            if catalog is not self._catalog or tenant_id in self._outdated_meanwhile:
                continue  # the cycle that changed it lists the tenant anew
            under_way = self._turns.get(tenant_id)
            if under_way is None:
                self._start(turn)
            elif not under_way.join(turn, catalog) and due is self._due:
                self._after[tenant_id] = run_no
        self._note_change()
        return True

    def _start(self, found: TenantTurn) -> None:
        tenant_id = found.tenant.tenant_id
        turn = Turn(self._parts, self._limits, self._catalog, found, lambda: self._due.tenants > 0)
        self._turns[tenant_id] = turn
        task = asyncio.create_task(self._take(tenant_id, turn), name=f"turn of {tenant_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, tenant_id: str, turn: Turn) -> None:
        try:
            left = await turn.take()
            if not self._parts.draining.is_set():
                # A newer list lacks what was under way when it was made.
                self._due.again.update(left)
                self._due.note_crowded(turn.crowded)
        except Exception as error:
            # One tenant's turn must not end another's; the next cycle lists what is left.
            log.error("turn_failed", reason=type(error).__name__, exc_info=error)
        finally:
            del self._turns[tenant_id]
            if (run_no := self._after.pop(tenant_id, None)) is not None:
                self._due.in_hand.append(run_no)
            self._note_change()

    async def _read_turns(
        self, page: list[int], due: DueList, again: Mapping[int, int]
    ) -> dict[int, TenantTurn]:
        """run_no → the turn of its tenant; of two runs of one tenant the last."""
        tenants = await self._line.fetch("read_tenants", page)
        tenant_ids = [row["tenant_id"] for row in tenants]
        configs = await self._line.fetch("read_env", tenant_ids, ENV_BYTES_MAX)
        runs = await self._line.fetch("read_tenant_runs", tenant_ids, due.began, due.forced_at)
        rows_of = _by_tenant(configs)
        runs_of = _by_tenant(runs)
        turns: dict[str, tuple[int, TenantTurn]] = {}
        for row in tenants:
            tenant_id = row["tenant_id"]
            if row["paused"] or tenant_id not in runs_of:
                continue  # all of its runs were retired or deleted since they were listed
            own = rows_of.get(tenant_id, [])
            tenant = Tenant(
                tenant_id=tenant_id,
                runs_max=row["runs_max"],
                envs=envs_of(tenant_id, [(r["data_source"], r["key"], r["value"]) for r in own]),
                too_large=frozenset(r["data_source"] for r in own if not r["fits"]),
            )
            turns[tenant_id] = row["run_no"], self._turn_of(tenant, runs_of[tenant_id], again)
        return dict(turns.values())

    def _turn_of(self, tenant: Tenant, rows: list[Any], again: Mapping[int, int]) -> TenantTurn:
        states = {state.listed.key.name: state for state in map(_state, rows)}
        due: set[ScriptName] = set()
        blocked: set[ScriptName] = set()
        unusable: dict[ScriptName, str] = {}
        for (name, state), row in zip(states.items(), rows, strict=True):
            if name.source not in tenant.envs or state.listed.key in self._parts.hands.keys:
                continue
            is_due = row["due"] or again.get(row["run_no"]) == row["fence"]
            if not is_due and (state.blocked_by is None or state.held):
                continue
            why = self._why_unusable(name, tenant)
            if is_due and why is not None:
                unusable[name] = why
            elif why is None:
                (due if is_due else blocked).add(name)
        return TenantTurn(tenant, states, frozenset(due), unusable, frozenset(blocked))

    def _why_unusable(self, name: ScriptName, tenant: Tenant) -> str | None:
        if name.source in tenant.too_large:
            return (
                f"the configuration of {name.source} is larger than {ENV_BYTES_MAX // 1024} KiB; "
                "why: whatever a run says is searched for all of it, so that no secret gets into "
                "a log; next: shorten or unset values, harvestd config list TENANT names them"
            )
        if name.source in self._unusable:
            return f"schema.sql of {name.source}: {self._unusable[name.source]}"
        if self._catalog.script(name) is None:
            return self._catalog.why_missing(name)
        return None

    def _note_change(self) -> None:
        self._changed.set()
        if self.tenants_left:
            self._idle.clear()
        else:
            self._idle.set()


def _taken(fences: dict[int, int], most: int) -> dict[int, int]:
    return {run_no: fences.pop(run_no) for run_no in list(islice(fences, most))}


def _by_tenant(rows: Iterable[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row["tenant_id"], []).append(row)
    return grouped


def _state(row: Mapping[str, Any]) -> RunState:
    return RunState(
        listed=Listed(
            RunKey(row["tenant_id"], row["data_source"], row["script"]), row["run_no"], row["fence"]
        ),
        completed=row["status"] == Status.COMPLETED,  # the application may have words of its own
        due_at=row["due_at"],
        blocked_by=row["blocked_by"],
        held=row["held"],
        suspect=row["suspect"],
    )
