"""One cycle, top to bottom: what could run, for whom, what differs, what is due.

It waits for no script: it hands the due list to the feeder and ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harvestd.catalog.snapshot import EMPTY, Catalog, reload
from harvestd.execution.feeder import DueList, Feeder
from harvestd.observing import metrics
from harvestd.observing.logs import get_logger
from harvestd.runs.claims import Claims
from harvestd.runs.enrolment import Enrolment
from harvestd.runs.heartbeat import Heartbeat, own_seconds
from harvestd.service.source_schemas import SourceSchemas

log = get_logger()

FULL_COMPARISON_SECONDS = 3600.0
CLOCK_SLACK = timedelta(minutes=1)
NEVER = datetime(1, 1, 3, tzinfo=UTC)


@dataclass(slots=True)
class Cycle:
    """The parts of a cycle, and what it keeps from one to the next."""

    plugin_dirs: Sequence[Path]
    enrolment: Enrolment
    claims: Claims
    heartbeat: Heartbeat
    schemas: SourceSchemas
    feeder: Feeder
    give_up: Callable[[Collection[int]], object]
    """Cancels those of these runs that are in hand."""
    catalog: Catalog = EMPTY
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Data sources whose tables are not as their schema.sql says (yet), and why."""
    compared_at: float | None = None
    applied_version: str = ""
    """Of the catalog that the run rows were last compared with."""
    forced_at: datetime = NEVER
    told: object = None
    """What is told of the plugins here, and under which replica id."""

    async def run(self, in_hand: Callable[[], Collection[int]], *, forced: bool) -> datetime:
        """Run one cycle; the database's time of its beginning.

        ``forced``: every run that last started before now is due, unless ``not_before`` holds it.
        Raises: Unreachable, DatabaseError; the next tick starts from the beginning.
        """
        started = time.perf_counter()
        await self._refresh_catalog()
        self.unusable = await self.schemas.prepare(self.catalog.sources.values(), again=forced)
        await self._tell_plugins()
        await self._apply_difference()
        clock = await self.enrolment.read_clock()
        # It stays: a run that is under way now, and started before, is taken by a later cycle.
        # One of the future was noted before that clock was set back, and forces nothing.
        known = [at for at in (clock.forced_at, self.forced_at) if at < clock.now + CLOCK_SLACK]
        self.forced_at = clock.now if forced else max(known, default=NEVER)
        due, runs_due = await self._list_due(clock.now, self.forced_at, in_hand)
        # Nothing that can fail comes after it, or a forced cycle would be forced twice.
        self.feeder.offer(due, self.catalog, self.unusable)
        self.heartbeat.cycled_at = own_seconds()
        seconds = time.perf_counter() - started
        metrics.RUNS_DUE.set(runs_due)
        metrics.CYCLE_SECONDS.observe(seconds)
        metrics.CYCLES.labels("completed").inc()
        metrics.LAST_CYCLE.set_to_current_time()
        write = log.info if forced else log.debug
        write(
            "cycle_finished",
            forced=forced,
            runs_due=runs_due,
            tenants=due.tenants,
            seconds=round(seconds, 3),
        )
        return clock.now

    async def _refresh_catalog(self) -> None:
        catalog = await asyncio.to_thread(reload, self.catalog, self.plugin_dirs)
        if catalog is self.catalog:
            return
        for problem in sorted(set(catalog.problems) - set(self.catalog.problems), key=str):
            log.error(
                "plugin_refused",
                source=problem.source,
                script=problem.script,
                file=problem.path,
                line=problem.line,
                what=problem.what,
            )
        for note in sorted(set(catalog.notes) - set(self.catalog.notes)):
            log.warning("plugin_shadowed", file=note)
        self.catalog = catalog
        scripts = catalog.scripts_of(catalog.sources)
        log.info(
            "catalog_reloaded",
            scripts=len(scripts),
            sources=len(catalog.sources),
            problems=len(catalog.problems),
        )

    async def _tell_plugins(self) -> None:
        problems = [str(problem) for problem in self.catalog.problems]
        problems += [f"schema.sql of {name}: {why}" for name, why in self.unusable.items()]
        metrics.PLUGIN_PROBLEMS.set(len(problems))
        names = [str(script.name) for script in self.catalog.scripts_of(self.catalog.sources)]
        # Under each new id too.
        if (told := (self.claims.replica_id, problems, names)) != self.told:
            await self.enrolment.note_plugins(*told)
            self.told = told

    async def _apply_difference(self) -> None:
        now = time.monotonic()
        # Until it was applied: a cycle may fail between the one and the other.
        catalog_changed = self.catalog.version != self.applied_version
        hourly = self.compared_at is None or now - self.compared_at > FULL_COMPARISON_SECONDS
        scripts = {script.name: script for script in self.catalog.scripts_of(self.catalog.sources)}
        await self.enrolment.wake_changed(scripts, everything=catalog_changed)
        difference = await self.enrolment.apply(scripts, everything=catalog_changed or hourly)
        self.feeder.outdate(difference.changed)
        await self.enrolment.wake()
        if mended := await self.enrolment.mend_dates():
            log.warning("clock_set_back", runs=mended)
        if hourly:
            await self.enrolment.housekeep()
        self.applied_version = self.catalog.version
        if catalog_changed or hourly:
            self.compared_at = now
        if difference.enrolled:
            log.info("runs_enrolled", runs=difference.enrolled)
        if difference.retired:
            log.info("runs_retired", runs=difference.retired)
        if difference.too_long:
            log.error("tenants_refused", tenants=len(difference.too_long))
        if difference.locked:
            self.give_up(difference.locked)

    async def _list_due(
        self, began: datetime, forced_at: datetime, in_hand: Callable[[], Collection[int]]
    ) -> tuple[DueList, int]:
        """The tenants with something due, the longest overdue first, and how many runs that is."""
        due, runs = DueList(began, forced_at), 0
        held: dict[int, int] = {}
        orphaned = False
        is_here = await self._find_homes()
        rows_due = self.enrolment.due_runs(began, forced_at, self.claims.replica_id)
        async with aclosing(rows_due) as rows:
            async for row in rows:
                if row["kind"] == "held":
                    held.update(zip(row["run_nos"], row["fences"], strict=True))
                    continue
                if row["kind"] == "orphaned":
                    orphaned = True
                    continue
                if not is_here(row["tenant_id"]):
                    continue
                due.add(row["run_no"], in_hand=self.feeder.has_in_hand(row["tenant_id"]))
                runs += row["runs"]
        if orphaned:
            await self.enrolment.declare_unknown_dead()
        # What is given back now is due in this very cycle.
        for run_no in await self.claims.give_back_strays(held, in_hand):
            due.again[run_no] = held[run_no]
        return due, runs + len(due.again)

    async def _find_homes(self) -> Callable[[str], bool]:
        """Whether a tenant is at home here.

        All are where no other replica houses any, and for one that houses nobody: it works beside
        the others, as `run --once` does.  One whose cycles failed is asked again by its next beat.
        """
        here = self.heartbeat
        if not here.houses or here.living <= {here.replica_id}:
            return lambda tenant_id: True
        home_of = await self.enrolment.find_homes(here.living)
        return lambda tenant_id: home_of(tenant_id) == here.replica_id
