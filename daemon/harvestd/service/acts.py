"""What an operator changes: tenants, their configuration, what is due, what is read again.

Each act is one transaction, and replicas that live learn of it with their next heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from harvestd.catalog.script import Script
from harvestd.database.pool import Database
from harvestd.errors import DatabaseError, HarvestdError
from harvestd.runs.heartbeat import Heartbeat
from harvestd.terms import ScriptName, Window

NOT_NULL = "23502"
LOCK_NOT_AVAILABLE = "55P03"
# A killed daemon's backends end as soon as they notice; each look asks them to again.
TAKEOVER_LOOKS_MAX = 50
TAKEOVER_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Chosen:
    """A run that an act was meant for; ``held``: an attempt is under way."""

    name: ScriptName
    held: bool


class RunsChosen(NamedTuple):
    """Which runs are meant; None: all."""

    tenant_id: str | None
    source: str | None
    script: str | None


@dataclass(frozen=True, slots=True)
class Backfilled:
    """Runs of one script whose ledger changed; ``held`` of them were under way."""

    name: ScriptName
    runs: int
    held: int


@dataclass(frozen=True, slots=True)
class Rereading:
    """What a backfill reads again of the runs of one script, of one tenant or of all.

    ``seconds`` is source time, of all ``runs`` together; ``windows`` None: no plugin here says
    how wide they are.  ``before_origin`` are runs whose source time now begins earlier.
    """

    data_source: str
    script: str
    runs: int
    tenants: int
    held: int
    before_origin: int
    rewound: int
    seconds: float
    windows: int | None


class Acts:
    """The acts, on a connection of their own.  Each raises: Unreachable, DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._line = database.line("operator")

    async def add_tenant(self, tenant_id: str, name: str) -> bool:
        """Add a tenant; False when it was there, which is left as it is.

        Raises: HarvestdError, where the application's table wants more than harvestd knows.
        """
        try:
            return await self._line.fetchval("add_tenant", tenant_id, name) is not None
        except DatabaseError as error:
            if error.sqlstate != NOT_NULL:
                raise
            raise HarvestdError(
                "the application's tenant table wants more than an id and a name",
                why=error.why,
                next_step="let the application make the tenant; harvestd finds it by itself",
            ) from None

    async def set_config(self, tenant_id: str, source: str, key: str, value: str) -> bool:
        """Keep a value; True when the key had none before."""
        added = await self._line.fetchval("set_config", tenant_id, source, key, value)
        await self._wake()
        return bool(added)

    async def unset_config(self, tenant_id: str, source: str, key: str | None) -> list[str]:
        """Remove a value, or (None) all of a data source, which disables it; the keys."""
        rows = await self._line.fetch("unset_config", tenant_id, source, key)
        await self._wake()
        return sorted(row["key"] for row in rows)

    async def trigger_all(self) -> None:
        """Every replica runs a cycle soon, over every run that last started before now."""
        await self._wake(forced=True)

    async def trigger(self, tenant_id: str, source: str | None, script: str | None) -> list[Chosen]:
        """These runs of a tenant are due now; those that are held go on undisturbed."""
        rows = await self._line.fetch("trigger_runs", tenant_id, source, script)
        await self._wake()
        return [_chosen(row) for row in rows]

    async def reset(self, tenant_id: str, source: str | None, script: str | None) -> list[Chosen]:
        """Forget the progress of these runs: ledger and bookmarks; loaded rows stay.

        Raises: HarvestdError, when a script holds its run in one transaction for too long.
        """
        chosen = (tenant_id, source, script)
        try:
            async with self._line.connection() as connection, connection.transaction():
                rows = await connection.fetch(self._line.sql("reset_runs"), *chosen)
                await connection.fetch(self._line.sql("drop_bookmarks"), *chosen)
        except DatabaseError as error:
            raise _explained(error, "nothing was reset") from None
        await self._wake()
        return sorted(map(_chosen, rows), key=lambda one: one.name)

    async def preview_backfill(
        self, chosen: RunsChosen, window: Window, scripts: Iterable[Script]
    ) -> list[Rereading]:
        """What `backfill` would have read again, by script; changes nothing."""
        known = list(scripts)
        rows = await self._line.fetch(
            "preview_backfill",
            *chosen,
            window.start,
            window.end,
            [script.name.source for script in known],
            [script.name.script for script in known],
            [script.width if script.catch_up else None for script in known],
        )
        return [Rereading(**row) for row in rows]

    async def backfill(self, chosen: RunsChosen, window: Window) -> list[Backfilled]:
        """Take ``window`` out of the ledgers of the runs that are ``chosen``, which are due now.

        Raises: HarvestdError, when a script holds its run in one transaction for too long.
        """
        try:
            rows = await self._line.fetch("backfill_runs", *chosen, window.start, window.end)
        except DatabaseError as error:
            raise _explained(error, "nothing was changed") from None
        await self._wake()
        return [
            Backfilled(ScriptName(row["data_source"], row["script"]), row["runs"], row["held"])
            for row in rows
        ]

    async def keyless_tables(self, sources: Iterable[str]) -> list[str]:
        """Tables of ``sources`` whose rows are there twice once a script appends them again."""
        rows = await self._line.fetch("list_keyless_tables", sorted(set(sources)))
        return [row["name"] for row in rows]

    async def set_tenant(
        self, tenant_id: str, *, name: str | None, sets_limit: bool, runs_max: int | None
    ) -> tuple[str, int | None]:
        """Change a tenant's name (None: leave it) and limit; both as they are now.

        ``runs_max`` None: as the setting says; it counts with ``sets_limit`` only.
        """
        row = await self._line.fetchrow("set_tenant", tenant_id, name, sets_limit, runs_max)
        if row is None:
            raise HarvestdError(f"the tenant {tenant_id!r} is gone")
        return row["name"], row["runs_max"]

    async def pause(self, tenant_id: str) -> list[Chosen]:
        """Start nothing of a tenant any more, and take back what is under way: those runs.

        Raises: HarvestdError, when it is paused but a script holds its run in one transaction.
        """
        await self._line.fetch("pause_tenant", tenant_id)
        # Only now: a turn that is read from here on finds the tenant paused, and one that was
        # read before finds other fences.
        try:
            rows = await self._line.fetch("take_back_runs", tenant_id)
        except DatabaseError as error:
            raise _explained(
                error, f"{tenant_id} is paused, but what is under way was not taken back"
            ) from None
        await self._wake()
        return sorted((_chosen(row) for row in rows if row["held"]), key=lambda one: one.name)

    async def resume(self, tenant_id: str) -> list[Chosen]:
        """Let a paused tenant's runs go on, due at once; none where it was not paused."""
        try:
            rows = await self._line.fetch("resume_tenant", tenant_id)
        except DatabaseError as error:
            raise _explained(error, f"{tenant_id} is still paused") from None
        await self._wake()
        return sorted(map(_chosen, rows), key=lambda one: one.name)

    async def _wake(self, *, forced: bool = False) -> None:
        await self._line.fetch("force_cycle", forced)


def _chosen(row: Any) -> Chosen:
    return Chosen(ScriptName(row["data_source"], row["script"]), row["held"])


def _explained(error: DatabaseError, what: str) -> HarvestdError:
    """The error for an act that waited in vain for a run's row; others as they are."""
    if error.sqlstate != LOCK_NOT_AVAILABLE:
        return error
    return HarvestdError(
        f"{what}: a run is in the middle of a long transaction",
        why="its script writes, and this waited 10 s for it",
        next_step="run the same command again in a moment",
    )


async def take_over_embedded(database: Database, *, lease: timedelta, tick: timedelta) -> int:
    """Free what a killed daemon left behind in an embedded database; how many runs.

    Only for the one owner of that database: nobody else can be working on it, so nothing is
    gained by waiting for a lease.  Each step is the reaper's own.
    """
    line = database.line("takeover")
    await line.fetch("declare_replicas_dead")
    await line.close()
    reaper = Heartbeat(database, uuid4(), lease=lease, tick=tick)
    freed = 0
    for _ in range(TAKEOVER_LOOKS_MAX):
        reaped = await reaper.reap()
        freed += len(reaped.freed)
        if not reaped.ended:
            break
        await asyncio.sleep(TAKEOVER_LOOK_SECONDS)
    return freed
