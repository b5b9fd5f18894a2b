"""Who goes on: actors wait at each ``await step(...)``, and are let go one at a time.

Between two moves everything is quiet: every actor waits at a step, has ended, or waits on the
server for a lock that another one holds.  So the order of moves alone decides what happens, and
the same order happens again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

from harvestd.torture.witness import Witness

LOOK_SECONDS = 0.006
"""A move that takes longer may wait for a lock: the server is asked."""
QUIET_LOOKS = 8
"""After so many looks at a server that does nothing, nothing comes."""
CANCEL_AGAIN_SECONDS = 0.1
STUCK_SECONDS = 30.0

_acting: ContextVar[Actor | None] = ContextVar("harvestd_torture_actor", default=None)


class Stuck(Exception):
    """Something neither goes on nor waits for a lock: a mistake of the torture itself."""


class Actor:
    """One task of a replica, or the operator."""

    def __init__(self, name: str, moved: asyncio.Event) -> None:
        self.name = name
        self._moved = moved
        self.at: str | None = None
        """The step before which it waits."""
        self._ending = False
        self._go: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it can be let go."""
        return self.at is not None and self._go is not None and not self._go.done()

    @property
    def ended(self) -> bool:
        """Whether there is nothing left of it."""
        return self._task is None or self._task.done()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start; it goes on until its first step."""
        context = copy_context()
        context.run(_acting.set, self)
        self._task = asyncio.get_running_loop().create_task(work, name=self.name, context=context)

    def let_go(self, error: Exception | None = None) -> None:
        """Let it pass its step, or fail there with ``error``."""
        assert self._go is not None
        self.at = None
        if error is None:
            self._go.set_result(None)
        else:
            self._go.set_exception(error)

    def cancel(self) -> set[asyncio.Task[None]]:
        """Cancel it; the task, unless it has ended.  No step lets it pass any more."""
        self._ending = True
        if self._task is None or self._task.done():
            return set()
        self._task.cancel()
        return {self._task}

    def raise_mistake(self) -> None:
        """Raise the error that ended it: an actor handles all that a database may do to it."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def wait_at(self, name: str) -> None:
        """Wait before the step ``name``, until somebody lets it go."""
        if self._ending:
            raise asyncio.CancelledError
        self._go = asyncio.get_running_loop().create_future()
        self.at = name
        self._moved.set()
        try:
            await self._go
        finally:
            self.at = None


async def hook(name: str) -> None:
    """What ``step.hook`` is set to: nobody but actors waits."""
    actor = _acting.get()
    if actor is not None:
        await actor.wait_at(name)


class Scheduler:
    """All actors, and the one question: does anything still move?"""

    def __init__(self, witness: Witness) -> None:
        self.actors: dict[str, Actor] = {}
        self.ghosts: set[int] = set()
        """Backends whose client is gone; one that waits for a lock does its work when it gets it.
        """
        self._locked: set[str] = set()
        """Who waited for a lock when it was last looked at."""
        self.connecting = 0
        """Connections that are being opened: the server does not know of them yet."""
        self._witness = witness
        self._moved = asyncio.Event()

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> Actor:
        """A new actor."""
        actor = self.actors[name] = Actor(name, self._moved)
        actor.begin(work)
        return actor

    def waiting(self) -> list[Actor]:
        """Who can be let go, in an order that does not depend on time."""
        return [self.actors[name] for name in sorted(self.actors) if self.actors[name].waits]

    async def end(self, names: Collection[str]) -> None:
        """Nothing is left of these actors; they are cancelled as often as it takes."""
        ending = [self.actors.pop(name) for name in sorted(names)]
        while left := set().union(*(actor.cancel() for actor in ending)):
            await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)

    async def settle(self) -> None:
        """Return when nothing moves any more.  Raises: Stuck, or what an actor died of."""
        loop = asyncio.get_running_loop()
        asked, quiet = loop.time(), 0
        while True:
            self._moved.clear()
            await asyncio.sleep(0)
            # Until nobody in here can go on: what is left waits for the server, or for a step.
            # Only asyncio's own list tells that; the torture runs on asyncio's loop, not on uvloop.
            while loop._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0)
            moving = self._moving()
            if not moving and not self.ghosts:
                break
            if any(actor.name not in self._locked for actor in moving):
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._moved.wait()
                    continue
                except TimeoutError:
                    pass
            locked, working, there = await self._witness.see_backends()
            self.ghosts &= there
            moving, leaving = self._moving(), self.ghosts - locked
            still = not (working or leaving or self.connecting)
            waiting_for_locks = len(locked - self.ghosts)
            self._locked.clear()
            if still and waiting_for_locks >= len(moving):
                self._locked = {actor.name for actor in moving}
                break
            # Some wait, in here, for one that waits there: for his connection.
            quiet = quiet + 1 if locked and still else 0
            if quiet > QUIET_LOOKS:
                break
            if loop.time() - asked > STUCK_SECONDS:
                raise Stuck(f"{', '.join(actor.name for actor in moving)} did not get on")
        for actor in self.actors.values():
            actor.raise_mistake()

    def _moving(self) -> list[Actor]:
        return [one for one in self.actors.values() if not one.waits and not one.ended]
