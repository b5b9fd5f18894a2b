"""The timer by real time, the signals by real ones to a child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, tzinfo

import apscheduler.schedulers.base as scheduler_base
import pytest

from harvestd.service.ticker import _SteadyInterval, ticking

WITHIN = 10.0
DAY = timedelta(days=1)

CHILD = """
import asyncio, os
from harvestd.service.ticker import install_signals, ticking

async def main():
    stopped, tick = asyncio.Event(), asyncio.Event()
    stops = []

    def stop():
        stops.append(1)
        print("stop", len(stops), flush=True)
        if len(stops) == 2:
            stopped.set()

    remove = install_signals(
        asyncio.get_running_loop(),
        on_reload=lambda: print("reload", flush=True),
        on_stop=stop,
    )
    async with ticking(tick, 3600):
        await tick.wait()
        print("ready", flush=True)
        await stopped.wait()
    remove()
    print("end", flush=True)

asyncio.run(main())
"""


async def ticked(event: asyncio.Event, within: float = WITHIN) -> None:
    await asyncio.wait_for(event.wait(), within)
    event.clear()


async def test_the_first_tick_comes_at_once_and_others_follow() -> None:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with ticking(event, 0.05):
        await ticked(event)
        first = loop.time() - began
        for _ in range(4):
            await ticked(event)
        fifth = loop.time() - began

    assert first < 0.05
    assert fifth >= 0.15


async def test_a_long_interval_does_not_delay_the_first_tick() -> None:
    event = asyncio.Event()
    async with ticking(event, 86400):
        await ticked(event)
        assert not event.is_set()


async def test_ticks_that_nobody_waited_for_are_one_tick() -> None:
    event = asyncio.Event()
    async with ticking(event, 0.01):
        for _ in range(3):
            await ticked(event)
        ended = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, ended.set)
        await ended.wait()
        assert event.is_set()
        event.clear()
        assert not event.is_set()


async def test_no_tick_comes_after_the_block() -> None:
    event = asyncio.Event()
    async with ticking(event, 0.01):
        await ticked(event)
    event.clear()
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, ended.set)
    await ended.wait()

    assert not event.is_set()


async def test_the_timer_ends_when_its_block_is_cancelled() -> None:
    event, inside = asyncio.Event(), asyncio.Event()

    async def tick_forever() -> None:
        async with ticking(event, 0.01):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(tick_forever())
    await asyncio.wait_for(inside.wait(), WITHIN)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    event.clear()
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, ended.set)
    await ended.wait()

    assert not event.is_set()


class ShiftedClock(datetime):
    """The wall clock of APScheduler, set to another day by the test."""

    shift = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.shift


@pytest.mark.parametrize("jump", [-DAY, DAY, 365 * DAY, -365 * DAY])
async def test_ticks_go_on_when_the_wall_clock_jumps(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_base, "datetime", ShiftedClock)
    monkeypatch.setattr(ShiftedClock, "shift", timedelta(0))
    event = asyncio.Event()
    async with ticking(event, 0.02):
        await ticked(event)
        ShiftedClock.shift = jump
        event.clear()
        for _ in range(5):
            await ticked(event)


def test_a_jump_of_a_year_makes_one_fire_time_and_not_a_list() -> None:
    every = _SteadyInterval(seconds=1, timezone=UTC)
    now = datetime(2026, 11, 25, tzinfo=UTC)

    assert every.get_next_fire_time(None, now) == now + timedelta(seconds=1)
    assert every.get_next_fire_time(now, now) == now + timedelta(seconds=1)
    half = now - timedelta(seconds=0.5)
    assert every.get_next_fire_time(half, now) == now + timedelta(seconds=0.5)
    assert every.get_next_fire_time(now - 365 * DAY, now) == now + timedelta(seconds=1)
    assert every.get_next_fire_time(now + 365 * DAY, now) == now + timedelta(seconds=1)


@asynccontextmanager
async def child() -> AsyncIterator[asyncio.subprocess.Process]:
    path = os.pathsep.join(part for part in sys.path if part)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-c", CHILD),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await said(process) == "ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), WITHIN)).decode().strip()


@pytest.mark.slow
async def test_sighup_reloads_each_time_and_never_ends_the_process() -> None:
    async with child() as process:
        for _ in range(3):
            os.kill(process.pid, signal.SIGHUP)
            assert await said(process) == "reload"
        assert process.returncode is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_sigterm_and_sigint_ask_to_stop_each_time(number: signal.Signals) -> None:
    async with child() as process:
        os.kill(process.pid, number)
        assert await said(process) == "stop 1"
        os.kill(process.pid, signal.SIGHUP)
        assert await said(process) == "reload"
        os.kill(process.pid, number)
        assert await said(process) == "stop 2"
        assert await said(process) == "end"
        assert await asyncio.wait_for(process.wait(), WITHIN) == 0
