"""The one feeder: takes tenants from the due list, longest overdue first, as slots free.

A cycle only moves the list (`offer`); it never waits for a script.  Configurations
are fetched for the tenants in hand alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harvestd.catalog.snapshot import EMPTY, Catalog
from harvestd.database.pool import Database
from harvestd.errors import DatabaseError
from harvestd.execution.limits import Limits
from harvestd.execution.runner import Parts
from harvestd.execution.turn import RunState, TenantTurn, take_turn
from harvestd.observing.logs import get_logger, report_database_error
from harvestd.runs.claims import Listed
from harvestd.tenants.config import ENV_BYTES_MAX, Tenant, envs_of
from harvestd.terms import RunKey, ScriptName, Status

log = get_logger()

TENANTS_PER_SLOT = 4
"""Tenants in hand at once, as a multiple of RUNS_MAX: enough to keep every slot busy."""
PAGE = 50
"""Tenants fetched by one statement."""


@dataclass(slots=True)
class DueTenant:
    """A tenant on the due list: since when, and the fence of each run that may be claimed."""

    tenant_id: str
    due_at: datetime
    fences: dict[int, int] = field(default_factory=dict)


class Feeder:
    """Hands tenants to their turns."""

    def __init__(self, parts: Parts, limits: Limits, database: Database) -> None:
        self._parts = parts
        self._limits = limits
        self._line = database.line("turns")
        self._catalog = EMPTY
        self._unusable: Mapping[str, str] = {}
        self._pending: dict[str, DueTenant] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._outdated: dict[str, asyncio.Event] = {}
        """Of each tenant that is fetched or in hand: set once it would run from old values."""
        self._fetching = 0
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tenants_max = TENANTS_PER_SLOT * limits.runs_max

    def offer(
        self, due: Iterable[DueTenant], catalog: Catalog, unusable: Mapping[str, str]
    ) -> None:
        """The list of a new cycle replaces what is left of the old one; draining, none does.

        ``unusable`` are data sources whose scripts are not to be run, and why.
        """
        if self._parts.draining.is_set():
            return
        if catalog is not self._catalog:
            self.outdate(self._outdated)
        self._catalog = catalog
        self._unusable = unusable
        ordered = sorted(due, key=lambda tenant: (tenant.due_at, tenant.tenant_id))
        self._pending = {tenant.tenant_id: tenant for tenant in ordered}
        self._note_change()

    def outdate(self, tenant_ids: Iterable[str]) -> None:
        """Start nothing more from what the turns of these tenants have read; they end early."""
        for tenant_id in tenant_ids:
            if (outdated := self._outdated.get(tenant_id)) is not None:
                outdated.set()

    @property
    def tenants_left(self) -> int:
        """Tenants on the list and in hand."""
        return len(self._pending) + self._fetching + len(self._turns)

    async def idle(self) -> None:
        """Wait until nothing is left of the list, and no turn is under way."""
        await self._idle.wait()

    async def feed_forever(self) -> None:
        """Start turns as long as the process lives."""
        try:
            while True:
                self._changed.clear()
                while (page := self._next_page()) and not self._parts.draining.is_set():
                    await self._start_turns(page)
                await self._changed.wait()
        finally:
            self.outdate(self._outdated)  # a cancelled attempt ends, and nothing follows it
            for task in self._turns.values():
                task.cancel()
            await asyncio.gather(*self._turns.values(), return_exceptions=True)

    def drop_pending(self) -> None:
        """Draining: nothing more is started."""
        self._pending.clear()
        self._note_change()

    def _next_page(self) -> list[DueTenant]:
        room = min(PAGE, self._tenants_max - len(self._turns))
        page: list[DueTenant] = []
        for tenant in self._pending.values():
            if len(page) >= room:
                break
            if tenant.tenant_id not in self._turns:  # in hand: after its turn
                page.append(tenant)
        for tenant in page:
            del self._pending[tenant.tenant_id]
            self._outdated[tenant.tenant_id] = asyncio.Event()
        self._fetching = len(page)
        return page

    async def _start_turns(self, page: list[DueTenant]) -> None:
        try:
            turns = await self._read_turns(page)
        except DatabaseError as error:
            report_database_error(error, "turns were not started")  # the next cycle lists them
            turns = []
        self._fetching = 0
        for due in page:
            if not any(turn.tenant.tenant_id == due.tenant_id for turn in turns):
                del self._outdated[due.tenant_id]
        for turn in turns:
            tenant_id = turn.tenant.tenant_id
            task = asyncio.create_task(self._turn(turn), name=f"turn of {tenant_id}")
            self._turns[tenant_id] = task
        self._note_change()

    async def _turn(self, turn: TenantTurn) -> None:
        try:
            left = await take_turn(
                self._parts, self._limits, self._catalog, turn, lambda: bool(self._pending)
            )
            if left and not self._parts.draining.is_set():
                tenant_id = turn.tenant.tenant_id
                again = DueTenant(tenant_id, min(run.due_at for run in turn.runs.values()))
                # Behind all others, unless a newer list has the tenant already.
                self._pending.setdefault(tenant_id, again).fences.update(left)
        except Exception as error:
            # One tenant's turn must not end another's; the next cycle lists what is left.
            log.error("turn_failed", reason=type(error).__name__, exc_info=error)
        finally:
            self._turns.pop(turn.tenant.tenant_id, None)
            self._outdated.pop(turn.tenant.tenant_id, None)
            self._note_change()

    async def _read_turns(self, page: list[DueTenant]) -> list[TenantTurn]:
        tenant_ids = [due.tenant_id for due in page]
        limits = await self._line.fetch("read_tenants", tenant_ids)
        configs = await self._line.fetch("read_env", tenant_ids, ENV_BYTES_MAX)
        runs = await self._line.fetch("read_tenant_runs", tenant_ids)
        rows_of = _by_tenant(configs)
        runs_of = _by_tenant(runs)
        turns = []
        for row in limits:
            tenant_id = row["tenant_id"]
            if row["paused"]:
                continue
            own = rows_of.get(tenant_id, [])
            tenant = Tenant(
                tenant_id=tenant_id,
                runs_max=row["runs_max"],
                envs=envs_of(tenant_id, [(r["data_source"], r["key"], r["value"]) for r in own]),
                too_large=frozenset(r["data_source"] for r in own if not r["fits"]),
            )
            turns.append(self._turn_of(tenant, runs_of.get(tenant_id, []), page))
        return turns

    def _turn_of(self, tenant: Tenant, rows: list[Any], page: list[DueTenant]) -> TenantTurn:
        fences = next(due.fences for due in page if due.tenant_id == tenant.tenant_id)
        states = {state.listed.key.name: state for state in map(_state, rows)}
        free = {
            name: state
            for name, state in states.items()
            if name.source in tenant.envs and state.listed.key not in self._parts.hands.keys
        }
        due = frozenset(
            name
            for name, state in free.items()
            if fences.get(state.listed.run_no) == state.listed.fence
        )
        unusable = {name: why for name in due if (why := self._why_unusable(name, tenant))}
        blocked = frozenset(
            name
            for name, state in free.items()
            if state.blocked_by is not None
            and not state.held
            and name not in due
            and self._why_unusable(name, tenant) is None
        )
        outdated = self._outdated[tenant.tenant_id]
        return TenantTurn(tenant, states, due - unusable.keys(), unusable, blocked, outdated)

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
