"""What happens to a run at one of its writes: it is killed, it is cancelled, its connection dies.

The points are the steps of `harvestd.database.step`, which every write, checkpoint, bookmark and
commit of a run passes, and the records of the daemon itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from harvestd.database import step
from harvestd.terms import RunKey
from harvestd.testing.replica import Ran, Replica

PATIENCE_SECONDS = 0.5
ASKED_OF_A_SEAT = frozenset({"write", "sweep", "checkpoint", "bookmark"})
WRITES = ASKED_OF_A_SEAT | {"commit", "cover", "record"}


@dataclass(slots=True)
class Writes:
    """The writes of a run as it passes them; at number ``at`` (from 1) something happens."""

    at: int | None = None
    happens: Callable[[], Awaitable[None]] | None = None
    passed: list[str] = field(default_factory=list)

    async def pass_by(self, name: str) -> None:
        """The hook: the run is about to do ``name``."""
        if name not in WRITES:
            return
        self.passed.append(name)
        if len(self.passed) == self.at and self.happens is not None:
            await self.happens()


class _HasHook(Protocol):
    async def pass_by(self, name: str) -> None: ...


Watcher = TypeVar("Watcher", bound=_HasHook)


@contextmanager
def watched(by: Watcher) -> Iterator[Watcher]:
    """From here to the end of the block every write of this process passes ``by``."""
    before, step.hook = step.hook, by.pass_by
    try:
        yield by
    finally:
        step.hook = before


Begin = Callable[[], Coroutine[Any, Any, Ran]]


class Fault(Protocol):
    """Begins an attempt in which something happens at write number ``at``, and waits for its end.

    It may end well all the same.  Raises nothing.
    """

    async def __call__(self, replica: Replica, key: RunKey, begin: Begin, at: int) -> None:
        """The whole of it."""
        ...


async def killed(replica: Replica, key: RunKey, begin: Begin, at: int) -> None:
    """The process is killed, and another replica takes the run over."""
    async with _halted(begin, at) as halted:
        if halted.is_at is not None:
            await replica.take_over(key, halted.task)


async def cancelled(replica: Replica, key: RunKey, begin: Begin, at: int) -> None:
    """The daemon is told to end, and cancels the script, which may tidy up."""
    async with _halted(begin, at) as halted:
        if halted.is_at == "record":
            halted.go_on.set()  # as the daemon does: what has ended is recorded
        else:
            halted.task.cancel()


async def disconnected(replica: Replica, key: RunKey, begin: Begin, at: int) -> None:
    """The server ends the connection of the run within its write, and the run goes on."""
    async with _halted(begin, at) as halted:
        if halted.is_at in ASKED_OF_A_SEAT:
            await replica.disconnect(key, halted.go_on, halted.task)
        elif halted.is_at is not None:
            await replica.end_seats()
            halted.go_on.set()


@dataclass(slots=True)
class _Halted:
    """An attempt that stands still before a write, or (``is_at`` is None) has ended before it."""

    task: asyncio.Task[Ran]
    is_at: str | None
    go_on: asyncio.Event


@asynccontextmanager
async def _halted(begin: Begin, at: int) -> AsyncIterator[_Halted]:
    """An attempt that comes to write number ``at``; it has ended when this has."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def halt() -> None:
        arrived.set()
        await go_on.wait()

    task, arrival = asyncio.create_task(begin()), asyncio.create_task(arrived.wait())
    try:
        with watched(Writes(at, halt)) as writes:
            await asyncio.wait({task, arrival}, return_when=asyncio.FIRST_COMPLETED)
        yield _Halted(task, writes.passed[-1] if arrived.is_set() else None, go_on)
        await asyncio.wait({task})
    finally:
        # Of a test that is cancelled itself nothing goes on.
        arrival.cancel()
        task.cancel()
        await asyncio.gather(task, arrival, return_exceptions=True)


class InStep:
    """Lets runs that go on at once make their writes side by side: none is ahead by more than one.

    A run that works long before its next write is waited for in vain, and then not for long.
    """

    def __init__(self, runs: int) -> None:
        self._running = runs
        self._here: list[asyncio.Event] = []

    async def pass_by(self, name: str) -> None:
        """The hook: one of the runs is about to do ``name``."""
        if name in WRITES:
            here = asyncio.Event()
            self._here.append(here)
            self._go_on()
            with suppress(TimeoutError):
                await asyncio.wait_for(here.wait(), PATIENCE_SECONDS)

    async def run(self, work: Awaitable[object]) -> None:
        """One of the runs, to its end."""
        try:
            await work
        finally:
            self._running -= 1
            self._go_on()

    def _go_on(self) -> None:
        if len(self._here) >= self._running:
            here, self._here = self._here, []
            for one in here:
                one.set()


def spread(points: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 1 to ``points``, evenly, with the first and the last."""
    if points <= most:
        return [*range(1, points + 1)]
    return sorted({1 + round(n * (points - 1) / max(1, most - 1)) for n in range(most)})
