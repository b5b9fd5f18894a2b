"""What starts a cycle from outside: the timer and the signals.  Both only set something.

The job never does the work: a scheduler that runs cycles would skip the tick that
comes while one is under way, and with it a SIGHUP.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from harvestd.observing.logs import get_logger

log = get_logger()

# APScheduler goes by the wall clock, the loop by a steady one: after so many intervals
# without a tick the wall clock was set back, and the next tick would wait until it is
# where it was, for days.
INTERVALS_WITHOUT_A_TICK_MAX = 2
# Due at once by any wall clock.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Wanted:
    """The next cycle: one event that the timer, SIGHUP and the trigger set."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    forced: bool = False

    def ask(self, reason: str, *, forced: bool) -> None:
        """A cycle begins soon; several that ask before it share it."""
        self.forced = self.forced or forced
        self.event.set()
        log.info("cycle_requested", reason=reason)


@asynccontextmanager
async def ticking(event: asyncio.Event, interval_seconds: float) -> AsyncIterator[None]:
    """Set ``event`` at once and then every ``interval_seconds``, until the block ends."""
    pulse = _Pulse(event, interval_seconds)
    pulse.start()
    try:
        yield
    finally:
        await pulse.end()


class _Pulse:
    """One interval job, and a watch over it by the loop's clock."""

    def __init__(self, event: asyncio.Event, interval_seconds: float) -> None:
        self._event = event
        self._interval_seconds = interval_seconds
        self._loop = asyncio.get_running_loop()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._job = self._scheduler.add_job(
            self._tick,
            _SteadyInterval(seconds=interval_seconds, timezone=UTC),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
            next_run_time=LONG_AGO,
        )
        self._watch: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._scheduler.start()
        self._watch_anew()

    async def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._scheduler.shutdown(wait=False)
        # The shutdown is only scheduled by that call; let it happen.
        await asyncio.sleep(0)

    async def _tick(self) -> None:
        # A coroutine: APScheduler runs plain functions in threads, and asyncio's events
        # must not be set from there.
        self._event.set()
        self._watch_anew()

    def _watch_anew(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        seconds = self._interval_seconds * INTERVALS_WITHOUT_A_TICK_MAX
        self._watch = self._loop.call_later(seconds, self._catch_up)

    def _catch_up(self) -> None:
        self._job.modify(next_run_time=LONG_AGO)
        self._watch_anew()


class _SteadyInterval(IntervalTrigger):  # type: ignore[misc]  # apscheduler has no types
    """An interval that counts from now when the clock jumped over more than one.

    The plain one lists every tick missed: after a jump of a year half a million datetimes,
    made on the event loop.
    """

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        interval = timedelta(seconds=self.interval_length)
        following = (previous or now) + interval
        return following if now < following <= now + interval else now + interval


def install_signals(
    loop: asyncio.AbstractEventLoop,
    *,
    on_reload: Callable[[], None],
    on_stop: Callable[[], None],
) -> Callable[[], None]:
    """SIGHUP calls ``on_reload``; SIGTERM and SIGINT call ``on_stop``, each time.

    Returns what takes the handlers away again.  Only in the main thread.
    """
    wanted = {
        signal.SIGHUP: on_reload,
        signal.SIGTERM: on_stop,
        signal.SIGINT: on_stop,
    }

    def received(number: signal.Signals) -> None:
        log.info("signal_received", signal=number.name)
        wanted[number]()

    for number in wanted:
        loop.add_signal_handler(number, received, number)

    def remove() -> None:
        for number in wanted:
            loop.remove_signal_handler(number)

    return remove
