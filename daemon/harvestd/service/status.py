"""What there is and how it goes, for the CLI and the status page: reads only, never a secret.

The fields of these values are the keys of every ``--json``; times are UTC, durations seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.runs.heartbeat import find_homes
from harvestd.tenants.config import Env, envs_of
from harvestd.terms import ScriptName


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole installation; ``lag_seconds`` is of the run that is furthest behind.

    From ``pending`` to ``blocked`` each run is counted once.
    """

    now: datetime
    server_version: str
    hex: str
    tenants: int
    paused: int
    runs: int
    pending: int
    running: int
    waiting: int
    completed: int
    failed: int
    blocked: int
    due: int
    retired: int
    rows_written: int
    lag_seconds: float | None

    @property
    def reader(self) -> str:
        """The role that an application or a dashboard joins to read the rows."""
        return Roles(self.hex).reader


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """A process that was not declared dead, and when it was last heard of."""

    replica_id: UUID
    host: str
    pid: int
    version: str
    started_at: datetime
    silent_seconds: float
    lease_seconds: float | None
    """How long it may be silent; None: an older version, which does not say."""
    houses: bool
    """Whether tenants may be at home there; not while it drains or each of its cycles fails, nor
    in `run --once`."""
    holds: int
    plugin_problems: list[str]
    """Plugin files and schemas that it cannot use."""
    lacks: list[str]
    """Scripts that it does not have, and another replica has."""
    tenants: int | None = None
    """How many are at home there; None: they were not counted."""


@dataclass(frozen=True, slots=True)
class TenantSeen:
    """One tenant and the state of its runs."""

    id: str
    name: str
    paused: bool
    sources: list[str]
    runs: int
    failed: int
    waiting: int
    blocked: int
    lag_seconds: float | None


@dataclass(frozen=True, slots=True)
class TenantKept:
    """What is kept of a tenant; ``runs_max`` None: as the setting says."""

    id: str
    name: str
    paused: bool
    runs_max: int | None


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One run of a tenant.

    ``due_seconds`` is negative when it is overdue; ``silent_seconds`` is how long its holder,
    ``held_by``, has not been heard of (None: its row was deleted), ``lease_seconds`` how long it
    may be silent.
    """

    data_source: str
    script: str
    status: str
    retired: bool
    blocked_by: str | None
    reason: str | None
    error: str | None
    failures: int
    due_seconds: float
    waits_until: datetime | None
    covered_from: datetime | None
    covered_to: datetime | None
    lag_seconds: float | None
    rows_written: int
    started_at: datetime | None
    seconds: float | None
    held_by: str | None
    silent_seconds: float | None
    lease_seconds: float | None
    stopped: bool
    """Not tried again by itself: its configuration or plugin has to change, or a trigger."""


@dataclass(frozen=True, slots=True)
class RunReported:
    """How a run stands after a forced cycle; windows, rows and seconds are of that cycle."""

    tenant_id: str
    data_source: str
    script: str
    status: str
    blocked_by: str | None
    reason: str | None
    error: str | None
    waits_until: datetime | None
    windows: int | None
    """None for an idle success, which keeps no history."""
    rows_written: int
    seconds: float | None
    covered_from: datetime | None
    covered_to: datetime | None

    @property
    def in_trouble(self) -> bool:
        """Whether somebody has to look at it: a wait with a date mends itself."""
        waits_for_somebody = self.status == "WAITING" and self.waits_until is None
        return bool(self.blocked_by) or self.status == "FAILED" or waits_for_somebody


@dataclass(frozen=True, slots=True)
class KeySet:
    """A configuration key that has a value; never the value."""

    tenant_id: str
    data_source: str
    key: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """One attempt that the history kept; ``covered_*`` is what it covered, end to end."""

    data_source: str
    script: str
    outcome: str
    started_at: datetime
    seconds: float
    windows: int
    rows_written: int
    reason: str | None
    error: str | None
    covered_from: datetime | None
    covered_to: datetime | None


@dataclass(frozen=True, slots=True)
class GapSeen:
    """Source time of a run that is not covered; ``live``: up to now, otherwise a hole behind."""

    tenant_id: str
    data_source: str
    script: str
    from_at: datetime
    to_at: datetime
    seconds: float
    live: bool
    paused: bool
    status: str
    blocked_by: str | None


@dataclass(frozen=True, slots=True)
class Gaps:
    """The biggest gaps, and how many of both kinds there are in all."""

    gaps: list[GapSeen]
    holes: int
    live_gaps: int


class Status:
    """The questions, on a connection of their own.  Each raises: Unreachable, DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._line = database.line("status")

    async def overview(self) -> Overview | None:
        """Everything in numbers; None before the first start made its roles."""
        row = await self._line.fetchrow("read_overview")
        return None if row is None else Overview(**row)

    async def replicas(self) -> list[ReplicaSeen]:
        """The living, and those that have not been found dead yet."""
        return [ReplicaSeen(**row) for row in await self._line.fetch("list_replicas")]

    async def count_tenants(self, replicas: Sequence[ReplicaSeen]) -> list[ReplicaSeen]:
        """The same with the number of tenants that are at home with each."""
        if not replicas:
            return []
        living = frozenset(one.replica_id for one in replicas if one.houses)
        home_of = await find_homes(self._line, living)
        rows = await self._line.fetch("list_tenant_ids")
        counted = Counter(home_of(row["id"]) for row in rows)
        return [replace(one, tenants=counted[one.replica_id]) for one in replicas]

    async def tenants(self, limit: int) -> list[TenantSeen]:
        """At most ``limit`` tenants, the worst first."""
        seen = []
        for row in await self._line.fetch("list_tenants", limit):
            fields = dict(row)
            lag = fields.pop("lag")
            seen.append(TenantSeen(**fields, lag_seconds=lag.total_seconds() if lag else None))
        return seen

    async def tenant(self, tenant_id: str) -> TenantKept | None:
        """The tenant of that id, if there is one."""
        row = await self._line.fetchrow("find_tenant", tenant_id)
        return None if row is None else TenantKept(**row)

    async def tenant_ids_like(self, tenant_id: str) -> list[str]:
        """Up to 1000 ids of about that length, to find the one that was meant."""
        rows = await self._line.fetch("list_tenant_ids_like", tenant_id)
        return [row["id"] for row in rows]

    async def runs_of(self, tenant_id: str) -> list[RunSeen]:
        """Every run of a tenant by data source and script, the retired ones too."""
        return [RunSeen(**row) for row in await self._line.fetch("list_runs_of", tenant_id)]

    async def attempts_of(
        self, tenant_id: str, source: str | None, script: str | None, *, limit: int
    ) -> list[AttemptSeen]:
        """What the history kept of a tenant's attempts, the newest first, at most ``limit``."""
        rows = await self._line.fetch("list_attempts_of", tenant_id, source, script, limit)
        return [AttemptSeen(**row) for row in rows]

    async def gaps(self, tenant_id: str | None, *, limit: int) -> Gaps:
        """Source time that is not covered, of a tenant or (None) of all, the biggest first."""
        found, holes, live_gaps = [], 0, 0
        for row in await self._line.fetch("list_gaps", tenant_id, limit):
            fields = dict(row)
            holes, live_gaps = fields.pop("holes"), fields.pop("live_gaps")
            found.append(GapSeen(**fields))
        return Gaps(found, holes, live_gaps)

    async def run_names(self) -> list[ScriptName]:
        """Which scripts have runs, of any tenant."""
        rows = await self._line.fetch("list_run_names")
        return [ScriptName(row["data_source"], row["script"]) for row in rows]

    async def paused_tenants(self) -> list[str]:
        """At most 1000 tenants of whom nothing runs, because somebody said so."""
        return [row["id"] for row in await self._line.fetch("list_paused_tenants")]

    async def now(self) -> datetime:
        """The clock that windows and leases go by."""
        now: datetime = await self._line.fetchval("tell_time")
        return now

    async def env_of(self, tenant_id: str, source: str) -> Env:
        """The configuration of a tenant's data source: the only answer here that holds secrets."""
        rows = await self._line.fetch("read_env_of", tenant_id, source)
        stored = [(row["data_source"], row["key"], row["value"]) for row in rows]
        empty = Env({}, tenant_id=tenant_id, source=source)
        return envs_of(tenant_id, stored).get(source, empty)

    async def keys_set(self, tenant_id: str | None) -> list[KeySet]:
        """Which configuration keys have a value, of a tenant or (None) of all."""
        return [KeySet(**row) for row in await self._line.fetch("list_config", tenant_id)]

    async def once_report(self, since: datetime) -> list[RunReported]:
        """How a forced cycle that began at ``since`` ended, at most 1000 runs, by tenant.

        Those in trouble are never left out for others.
        """
        rows = await self._line.fetch("read_once_report", since)
        report = [RunReported(**row) for row in rows]
        return sorted(report, key=lambda run: (run.tenant_id, run.data_source, run.script))
