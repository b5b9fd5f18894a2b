"""The composition root: builds every part, starts every task, drains and ends them.

The only place that starts background loops, and the one that chooses the executors of runs.
A loop that dies ends the process; its supervisor restarts it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from harvestd import __version__
from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.errors import DatabaseError, HarvestdError, Unreachable
from harvestd.execution.feeder import Feeder
from harvestd.execution.hands import Hands
from harvestd.execution.inline import InlineExecutor
from harvestd.execution.limits import Limits
from harvestd.execution.runner import Parts
from harvestd.execution.watchdog import Watchdog, report_last_words
from harvestd.loading.seats import Seats
from harvestd.loading.shapes import Shapes
from harvestd.observing import metrics
from harvestd.observing.logs import get_logger, report_database_error
from harvestd.runs.claims import Claims
from harvestd.runs.enrolment import Enrolment
from harvestd.runs.heartbeat import Heartbeat, reap_forever
from harvestd.service.beating import Beating
from harvestd.service.cycle import Cycle
from harvestd.service.gauges import Gauges
from harvestd.service.http import Health, make_app, serve
from harvestd.service.preparing import note_scarce_connections, prepare_database
from harvestd.service.source_schemas import SourceSchemas
from harvestd.service.supervisor import Supervisor
from harvestd.service.ticker import Wanted, ticking
from harvestd.settings import Settings
from harvestd.terms import Outcome

log = get_logger()

RECONNECT_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to reach PostgreSQL; the last one repeats."""
LOOP_LOOK_SECONDS = 1.0
SETTLE_LOOK_SECONDS = 0.05
CYCLES_MAX = 16


class App:
    """One replica: everything between settings and the end of the process."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        supervisor: Supervisor | None = None,
        *,
        ticks: bool = True,
    ) -> None:
        """``ticks``: whether cycles begin by themselves too, not only when one is asked for."""
        self.settings = settings
        self.ticks = ticks
        self.supervisor = supervisor or Supervisor({})
        self.database = Database(url)
        self.health = Health()
        self.wanted = Wanted()
        self.stopping = asyncio.Event()
        self.draining = asyncio.Event()
        self.cycling = False
        self.hurried = asyncio.Event()
        self.hands = Hands(in_doubt=lambda: self.heartbeat.overdue)
        self.lease = timedelta(seconds=settings.lease_seconds)
        self.tick = timedelta(seconds=settings.interval_seconds)
        self.heartbeat = Heartbeat(self.database, uuid4(), lease=self.lease, tick=self.tick)
        self.heartbeat.houses = ticks
        self.address: str | None = None
        self.cycles: asyncio.Queue[tuple[datetime, bool]] = asyncio.Queue(CYCLES_MAX)
        """Each cycle whose due list was handed over: when it began (database time), and whether
        it was a forced one; for --once."""
        self.health.set_problem("database", "starting")
        self.health.set_problem("cycle", "no cycle has ended yet")

    def reload(self) -> None:
        """SIGHUP: a whole cycle begins, over every run that last started before now."""
        self.supervisor.reloading()
        self.wanted.ask("SIGHUP", forced=True)

    def stop(self, reason: str) -> None:
        """SIGTERM or Ctrl-C: drain; a second time: now."""
        if self.stopping.is_set():
            self.hurried.set()
        self.stopping.set()
        self.supervisor.stopping()
        log.info("daemon_stopping", reason=reason, runs=len(self.hands.by_run))

    async def settle(self) -> None:
        """Wait until no cycle is wanted or under way, and no turn is left of the last."""
        await self.feeder.idle()
        while self.cycling or self.wanted.event.is_set():
            await asyncio.sleep(SETTLE_LOOK_SECONDS)
            await self.feeder.idle()

    async def run(self, *, on_ready: Callable[[App], None] | None = None) -> None:
        """Run until `stop`.  Raises: what ended a loop, or a start that cannot succeed."""
        began = time.monotonic()
        log.info("daemon_started", version=__version__, data_dir=str(self.settings.data_dir))
        metrics.BUILD_INFO.labels(__version__).set(1)
        report_last_words(self.settings.data_dir)
        watchdog = Watchdog(
            self.settings.data_dir, end_after_seconds=self.lease.total_seconds() * 2 / 3
        )
        watchdog.start()
        try:
            await self._run(began, on_ready)
        finally:
            watchdog.stop()
        log.info("daemon_stopped", seconds=round(time.monotonic() - began, 3))

    async def _run(self, began: float, on_ready: Callable[[App], None] | None) -> None:
        http_end = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            host, port = self.settings.http_host_port
            listening = asyncio.Event()
            group.create_task(
                serve(
                    make_app(self.health),
                    host,
                    port,
                    on_listening=lambda address: self._listening(address, listening),
                    stop=http_end,
                ),
                name="http",
            )
            group.create_task(self._watch_loop(http_end), name="loop lag")
            await listening.wait()
            roles = await self._prepare_database()
            if roles is not None:
                async with self._working(group, roles):
                    log.info("daemon_ready", seconds=round(time.monotonic() - began, 3))
                    self.supervisor.ready()
                    if on_ready is not None:
                        on_ready(self)
                    await self.stopping.wait()
                    await self._drain()
            http_end.set()

    def _listening(self, address: str, listening: asyncio.Event) -> None:
        self.address = address
        log.info("http_listening", address=address)
        listening.set()

    async def _prepare_database(self) -> Roles | None:
        """Migrate, make the roles and enter the living, as soon as PostgreSQL answers.

        None when told to stop.

        Raises: DatabaseError, for what time does not mend.
        """
        pauses = iter(RECONNECT_SECONDS)
        pause = 0.0
        while not self.stopping.is_set():
            try:
                roles = await prepare_database(self.database)
                await self.heartbeat.register()
                await note_scarce_connections(self.heartbeat, self.settings.seats_max)
            except Unreachable as error:
                self.health.set_problem("database", str(error))
                self.supervisor.starting(error.what)
                log.error("database_unreachable", code=error.code, reason=str(error))
                pause = next(pauses, pause)
                await _wait_for(self.stopping, pause)
            else:
                self.health.clear("database")
                metrics.DATABASE_UP.set(1)
                return roles
        return None

    @asynccontextmanager
    async def _working(self, group: asyncio.TaskGroup, roles: Roles) -> AsyncIterator[None]:
        """Build the parts, start the loops; on leaving, give everything back."""
        replica_id = self.heartbeat.replica_id
        settings = self.settings
        self.claims = Claims(self.database, replica_id, runs_max=settings.runs_max)
        self.seats = Seats(self.database, roles, replica_id, seats_max=settings.seats_max)
        shapes = Shapes(self.database)
        enrolment = Enrolment(
            self.database, first_import=timedelta(days=settings.first_import_days)
        )
        allowed = {"local_repositories"} if settings.allow_local_repositories else set()
        inline = InlineExecutor()
        parts = Parts(
            claims=self.claims,
            seats=self.seats,
            shapes=shapes,
            hands=self.hands,
            executors={inline.name: inline},
            tick=self.tick,
            timeout=timedelta(seconds=settings.run_timeout_seconds),
            slice=timedelta(seconds=settings.slice_seconds),
            tenant_runs_max=settings.tenant_runs_max,
            cache_root=Path(settings.data_dir) / "cache",
            allowed=frozenset(allowed),
            draining=self.draining,
            ask_cycle=lambda reason: self.wanted.ask(reason, forced=False),
            say_recorded=self._note_record,
        )
        limits = Limits(settings.runs_max, settings.source_runs_max)
        self.feeder = Feeder(parts, limits, self.database)
        self.schemas = SourceSchemas(self.database, roles, shapes, parts.ask_cycle)
        self.cycle = Cycle(
            plugin_dirs=settings.plugin_dirs,
            enrolment=enrolment,
            claims=self.claims,
            heartbeat=self.heartbeat,
            schemas=self.schemas,
            feeder=self.feeder,
            give_up=lambda run_nos: self.hands.cancel(Outcome.LOST, run_nos),
        )
        beating = Beating(
            self.heartbeat, self.claims, self.seats, self.hands, self.health, self.wanted
        )
        self.gauges = Gauges(self.database, tenants_max=settings.tenant_metrics_max)
        metrics.HEARTBEAT_AGE.set_function(lambda: self.heartbeat.age_seconds)
        loops = [
            group.create_task(beating.beat_forever(), name="heartbeat"),
            group.create_task(reap_forever(self.heartbeat, self._others_died), name="reaper"),
            group.create_task(self._cycle_forever(), name="cycle"),
            group.create_task(self.feeder.feed_forever(), name="feeder"),
            group.create_task(self.gauges.measure_forever(), name="gauges"),
        ]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._leave()

    async def _leave(self) -> None:
        """Give back what is held, and declare this replica dead, so that others go on at once."""
        try:
            await self.schemas.close()
            await self.seats.close()
            await self.claims.leave()
            await self.database.close()
        except DatabaseError as error:
            # Others take over after the lease; the fence keeps what is left of us out.
            report_database_error(error, "left without a word")

    async def _drain(self) -> None:
        """No new claims; attempts get DRAIN_SECONDS, then are cancelled and given back."""
        began = time.monotonic()
        self.draining.set()
        self.heartbeat.houses = False
        self.feeder.drop_pending()
        runs = len(self.hands.by_run)
        deadline = self.settings.drain_seconds
        idle = asyncio.create_task(self.feeder.idle())
        hurried = asyncio.create_task(self.hurried.wait())
        await asyncio.wait({idle, hurried}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
        cancelled = self.hands.cancel(Outcome.CANCELLED)
        if cancelled:
            await asyncio.wait({idle}, timeout=self.lease.total_seconds() / 3)
        for task in (idle, hurried):
            task.cancel()
        await asyncio.gather(idle, hurried, return_exceptions=True)
        log.info(
            "drain_finished",
            runs_ended=max(runs - cancelled, 0),  # a claim under way may have added one
            runs_cancelled=cancelled,
            seconds=round(time.monotonic() - began, 3),
        )

    async def _cycle_forever(self) -> None:
        every = self.settings.interval_seconds
        async with ticking(self.wanted.event, every) if self.ticks else nullcontext():
            while True:
                self.cycling = False
                await self.wanted.event.wait()
                # Cleared before the cycle begins: whoever asks from here on gets another one.
                self.cycling = True
                self.wanted.event.clear()
                forced, self.wanted.forced = self.wanted.forced, False
                try:
                    began = await self.cycle.run(self.hands.fences, forced=forced)
                except Exception as error:
                    # Also of a value that nobody thought of: the next tick tries again.
                    known = error if isinstance(error, HarvestdError) else None
                    reason = str(error) if known else type(error).__name__
                    metrics.CYCLES.labels("failed").inc()
                    self.wanted.forced = self.wanted.forced or forced
                    self.health.set_problem("cycle", known.what if known else reason)
                    code = known.code if known else "mistake"
                    log.error("cycle_failed", code=code, reason=reason, exc_info=known is None)
                    if not self.ticks:
                        asyncio.get_running_loop().call_later(every, self.wanted.event.set)
                else:
                    self.health.clear("cycle")
                    if self.cycles.full():
                        self.cycles.get_nowait()  # nobody listens
                    self.cycles.put_nowait((began, forced))
                if forced:
                    self.supervisor.ready()  # of the reload that asked for it

    def _note_record(self, problem: str | None) -> None:
        if problem is None:
            self.health.clear("records")
        else:
            self.health.set_problem("records", problem)

    def _others_died(self) -> None:
        self.wanted.ask("a replica died", forced=False)

    async def _watch_loop(self, end: asyncio.Event) -> None:
        """How late the event loop comes back; while it does, and beats, the supervisor hears."""
        pause = min(LOOP_LOOK_SECONDS, self.supervisor.ping_seconds or LOOP_LOOK_SECONDS)
        while not end.is_set():
            if self.health.alive:
                self.supervisor.ping()
            asked = time.perf_counter()
            await _wait_for(end, pause)
            if not end.is_set():
                metrics.EVENT_LOOP_LAG.set(max(time.perf_counter() - asked - pause, 0.0))


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
