"""Apply the difference between configurations × catalog and the run rows.

Which tenants changed is known from the notes that triggers on the config tables
leave; at the start, hourly, and with a new catalog everything is compared.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from harvestd.catalog.script import Script
from harvestd.database.pool import Database
from harvestd.errors import DatabaseError, Unreachable
from harvestd.observing.lines import escape
from harvestd.observing.logs import report_database_error
from harvestd.planning.plan import RunRow, make_plan
from harvestd.runs.claims import multirange
from harvestd.runs.heartbeat import find_homes
from harvestd.terms import RunKey, ScriptName

PAGE = 5_000
"""Rows applied by one statement."""
SCANNED = 1_000
"""Rows of a long due list fetched at once: they are worked through without a pause."""
LISTED_AT_ONCE = 10_000
"""Rows of the due list that are read without a cursor: about 3 MB."""
REFUSED_MAX = 20
"""Of one comparison; where more rows are refused the cycle fails as a whole."""
PROBLEMS_MAX = 50
PROBLEM_CHARS_MAX = 1_000
FOREVER = datetime.max.replace(tzinfo=UTC)
"""Becomes PostgreSQL's infinity."""


@dataclass(slots=True)
class Difference:
    """How many rows were changed, and which could not be."""

    enrolled: int = 0
    """Rows that are new, or in use again."""
    retired: int = 0
    changed: frozenset[str] = frozenset()
    """Tenants with a new configuration: call `wake` once nothing runs any more from the old."""
    too_long: set[str] = field(default_factory=set)
    """Tenants whose id fits into no key."""
    refused: int = 0
    """Rows that the database did not let in; tried again with the next comparison of all."""
    locked: dict[int, str] = field(default_factory=dict)
    """run_no → tenant of rows that an open transaction of their script holds: for a later cycle,
    once whoever holds the run has cancelled it."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The database's time, and the mark from which later config changes count."""

    now: datetime
    mark: str
    forced_at: datetime


class Enrolment:
    """Keeps run rows in line with configurations and catalog, on a connection of its own."""

    def __init__(self, database: Database, *, first_import: timedelta) -> None:
        self._line = database.line("planning")
        self._page_line = database.line("enrolment")
        self._first_import = first_import
        self._mark: str | None = None
        self._unfinished: set[str] = set()
        self._noted: set[int] = set()
        self._to_wake: dict[str, datetime] = {}
        """Whose change a run may not have seen, and until when it had to start."""
        self._to_wake_again: frozenset[str] = frozenset()
        """Those of them that were asked already, when a run was under way or locked."""
        self._any_ahead = False
        """Whether a run was listed whose dates lie in the future."""
        self._late_runs: list[int] = []
        """Under way with the content that their plugin had before it changed."""

    async def read_clock(self) -> Clock:
        """The database's time.  Raises: Unreachable."""
        row = await self._line.fetchrow("read_clock")
        if row is None:
            raise LookupError("harvestd.installation is empty: run `harvestd migrate`")
        return Clock(now=row["now"], mark=row["mark"], forced_at=row["forced_at"])

    async def apply(self, scripts: Mapping[ScriptName, Script], *, everything: bool) -> Difference:
        """Enrol, revive and retire what differs: of changed tenants, or of all.

        The mark moves only after the difference is applied: a crash in between looks again.
        """
        clock = await self.read_clock()
        first = self._mark is None
        row = await self._line.fetchrow("list_config_changes", self._mark or "0")
        assert row is not None
        notes = zip(row["change_nos"], row["tenant_ids"], row["noted_ats"], strict=True)
        fresh = [(tenant_id, at) for no, tenant_id, at in notes if no not in self._noted]
        changed = {tenant_id: at for tenant_id, at in fresh if tenant_id is not None}
        if everything or first or len(changed) < len({tenant_id for tenant_id, _ in fresh}):
            difference = await self._apply_all(scripts, clock)
        else:
            difference = await self._apply_to(sorted({*changed, *self._unfinished}), scripts, clock)
        difference.changed = frozenset(changed)
        # At the start a run may have seen the change already, under another replica; later
        # a note that was never seen before is news, whenever its transaction began.
        self._to_wake |= changed if first else dict.fromkeys(changed, FOREVER)
        self._to_wake_again -= changed.keys()
        self._mark = row["mark"]
        self._noted = set(row["change_nos"])
        self._unfinished = set(difference.locked.values())
        return difference

    async def wake(self) -> None:
        """End waits and backoff of the tenants that changed; of runs under way once they ended."""
        asked = self._to_wake
        if not asked:
            return
        again = [tenant_id in self._to_wake_again for tenant_id in asked]
        rows = await self._line.fetch("wake_runs_of", list(asked), list(asked.values()), again)
        self._to_wake = {
            # Never later than the first time: what starts from then on sees the change.
            row["tenant_id"]: min(asked[row["tenant_id"]], row["asked_at"])
            for row in rows
        }
        self._to_wake_again = frozenset(self._to_wake)

    async def wake_changed(self, scripts: Mapping[ScriptName, Script], *, everything: bool) -> None:
        """End the backoff of runs whose plugin is another than when they failed.

        Of all runs, or else of those that were under way when that was last asked.
        """
        if not everything and not self._late_runs:
            return
        rows = await self._line.fetch(
            "wake_changed_scripts",
            *_names(scripts),
            [scripts[name].content_hash for name in sorted(scripts)],
            None if everything else self._late_runs,
        )
        self._late_runs = [row["run_no"] for row in rows if not row["woken"]]

    async def due_runs(
        self, began: datetime, forced_at: datetime, replica_id: UUID
    ) -> AsyncGenerator[Any, None]:
        """Who has something due, and what is held, streamed (see list_due_runs).

        To be closed.

        Rows that another program made are noted for the next `apply`: no trigger tells of them.
        """
        sql, asked = self._line.sql("list_due_runs"), (began, forced_at, replica_id)
        async with (
            self._line.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            # At once where it fits: a cursor gets no parallel plan, and takes twice as long.
            rows = await connection.fetch(sql, *asked, LISTED_AT_ONCE + 1)
            for row in rows[:LISTED_AT_ONCE]:
                if self._is_ours(row):
                    yield row
            if len(rows) <= LISTED_AT_ONCE:
                return
            cursor = await connection.cursor(sql, *asked, None)
            await cursor.forward(LISTED_AT_ONCE)
            while page := await cursor.fetch(SCANNED):
                for row in page:
                    if self._is_ours(row):
                        yield row

    def _is_ours(self, row: Any) -> bool:
        if row["kind"] == "foreign":
            self._unfinished.add(row["tenant_id"])
        elif row["kind"] == "ahead":
            self._any_ahead = True
        else:
            return True
        return False

    async def mend_dates(self) -> int:
        """Runs from before the database's clock was set back, if any was listed, are due now."""
        if not self._any_ahead:
            return 0
        self._any_ahead = False  # listed again if it goes wrong; the next cycle lists first
        try:
            return len(await self._line.fetch("mend_dates_ahead"))
        except Unreachable:
            raise
        except DatabaseError as error:  # one row may be refused, as by a trigger
            report_database_error(error, "runs from before the clock was set back wait for it")
            return 0

    async def note_plugins(
        self, replica_id: UUID, problems: Sequence[str], scripts: Sequence[str]
    ) -> None:
        """Tell the other replicas what this one can run, and `harvestd status` what it cannot."""
        told = [escape(text[:PROBLEM_CHARS_MAX]) for text in problems[:PROBLEMS_MAX]]
        await self._line.fetch("note_plugins", replica_id, told, scripts)

    async def declare_unknown_dead(self) -> None:
        """Let the reaper free what is held by replicas that have no row any more."""
        await self._line.fetch("declare_unknown_dead")

    async def find_homes(self, living: frozenset[UUID]) -> Callable[[str], UUID | None]:
        """See `find_homes` of the heartbeat."""
        return await find_homes(self._line, living)

    async def housekeep(self) -> None:
        """What is wanted now and then: history partitions ahead of time, old notes forgotten."""
        await self._line.fetch("make_history_partitions")
        await self._line.fetch("forget_config_changes")

    async def _apply_all(self, scripts: Mapping[ScriptName, Script], clock: Clock) -> Difference:
        difference = Difference()
        # Pages are applied on another connection while this one reads on: memory stays flat.
        async with self._line.connection() as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(self._line.sql("find_missing_runs"), *_names(scripts))
            while page := await cursor.fetch(PAGE):
                await self._apply_page(page, scripts, clock, difference)
        _count_retired(difference, await self._line.fetch("retire_runs"))
        return difference

    async def _apply_to(
        self, tenant_ids: list[str], scripts: Mapping[ScriptName, Script], clock: Clock
    ) -> Difference:
        difference = Difference()
        if not tenant_ids:
            return difference
        rows = await self._line.fetch("find_missing_runs_of", *_names(scripts), tenant_ids)
        for start in range(0, len(rows), PAGE):
            await self._apply_page(rows[start : start + PAGE], scripts, clock, difference)
        _count_retired(difference, await self._line.fetch("retire_runs_of", tenant_ids))
        return difference

    async def _apply_page(
        self,
        page: Sequence[Any],
        scripts: Mapping[ScriptName, Script],
        clock: Clock,
        difference: Difference,
    ) -> None:
        difference.too_long |= {row["tenant_id"] for row in page if row["too_long"]}
        page = [row for row in page if not row["too_long"]]
        # In one order: two replicas that insert the same rows wait for each other, never deadlock.
        wanted = sorted(
            {RunKey(row["tenant_id"], row["data_source"], row["script"]) for row in page}
        )
        plan = make_plan(
            wanted,
            scripts,
            [_run_row(row) for row in page if row["run_no"] is not None],
            now=clock.now,
            first_import=self._first_import,
        )
        if plan.enrol:
            await self._enrol(list(plan.enrol.items()), difference)
        if plan.go_on:
            rows = await self._page_line.fetch(
                "revive_runs",
                [one.run_no for one in plan.go_on],
                [one.origin for one in plan.go_on],
                [multirange([one.covered] if one.covered else []) for one in plan.go_on],
            )
            difference.enrolled += len(rows)
            revived = {row["run_no"] for row in rows}
            tenant_of = {row["run_no"]: row["tenant_id"] for row in page}
            difference.locked |= {
                one.run_no: tenant_of[one.run_no] for one in plan.go_on if one.run_no not in revived
            }

    async def _enrol(
        self, wanted: Sequence[tuple[RunKey, datetime]], difference: Difference
    ) -> None:
        """Make these rows, each with its origin.

        A row that the database refuses, such as by a trigger of the application, is found by
        halves, and costs no other its place.
        """
        try:
            rows = await self._page_line.fetch(
                "enrol_runs",
                [key.tenant_id for key, _ in wanted],
                [key.source for key, _ in wanted],
                [key.script for key, _ in wanted],
                [origin for _, origin in wanted],
            )
        except Unreachable:
            raise
        except DatabaseError as error:
            if len(wanted) > 1:
                half = len(wanted) // 2
                await self._enrol(wanted[:half], difference)
                await self._enrol(wanted[half:], difference)
                return
            difference.refused += 1
            if difference.refused > REFUSED_MAX:
                raise  # not the rows, but the table or the server
            [(key, _)] = wanted
            report_database_error(error, f"{key} was not enrolled")
        else:
            difference.enrolled += len(rows)


def _count_retired(difference: Difference, rows: Sequence[Any]) -> None:
    for row in rows:
        if row["retired"]:
            difference.retired += 1
        else:
            difference.locked[row["run_no"]] = row["tenant_id"]


def _names(scripts: Mapping[ScriptName, Script]) -> tuple[list[str], list[str]]:
    ordered = sorted(scripts)
    return [name.source for name in ordered], [name.script for name in ordered]


def _run_row(row: Any) -> RunRow:
    return RunRow(
        key=RunKey(row["tenant_id"], row["data_source"], row["script"]),
        run_no=row["run_no"],
        retired=row["retired"],
        origin=row["origin"],
        watermark=row["watermark"],
    )
