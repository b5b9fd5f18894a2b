"""Time limits of what is under way, looked at a few times a second.

A timer for each call of run() cost a twelfth of a run that does nothing (docs/bench.md).
"""

from __future__ import annotations

import asyncio

LOOK_SECONDS = 0.25


class Deadlines:
    """Ends the waiting on futures whose time is over, at most LOOK_SECONDS late."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Future[None], float] = {}
        self._looking = False

    def add(self, future: asyncio.Future[None], seconds_max: float) -> None:
        """From now on it may take so long; then it gets a result."""
        loop = future.get_loop()
        self._ends[future] = loop.time() + seconds_max
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_SECONDS, self._look, loop)

    def remove(self, future: asyncio.Future[None]) -> None:
        """Nobody waits on it any more."""
        self._ends.pop(future, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for future, end in self._ends.items():
            if now >= end and not future.done():
                future.set_result(None)
        self._looking = bool(self._ends)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look, loop)
