"""Slots: the right to run one attempt now, the tenant's first and then the global one.

Counters and queues instead of semaphores: a tenant costs nothing once it is idle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harvestd.observing import metrics


class Slots:
    """``runs_max`` slots, handed out in the order in which they are asked for."""

    def __init__(self, runs_max: int) -> None:
        self.runs_max = runs_max
        self._free = runs_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self.runs_max - self._free

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One slot until the block ends; waits for a free one."""
        await self._take()
        metrics.RUNS_IN_PROGRESS.inc()
        try:
            yield
        finally:
            metrics.RUNS_IN_PROGRESS.dec()
            self._give_back()

    async def _take(self) -> None:
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back()  # the slot was handed over in the moment of the cancellation
            elif future in self._waiting:  # else `_give_back` passed it over already
                self._waiting.remove(future)
            raise

    def _give_back(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
