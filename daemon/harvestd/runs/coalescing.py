"""Whoever asks within the same moment shares one statement.

While a statement is under way, and for a rest after it, the next askers gather; they all go with
the one after it.  So the cost of a claim falls as load grows, and an idle daemon still answers in
one round trip.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

RESTS_PER_STATEMENT = 4
"""A statement costs the same for one asker as for ten, nearly.  Under load each takes longer, and
so do the rests; where runs come slowly, since each writes, it saved a third of the server's CPU
for a run (docs/bench.md)."""
REST_SECONDS_MAX = 0.010

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Coalescer(Generic[Asked, Answer]):
    """Turns single questions into batches for ``send``, at most one batch under way.

    ``send`` answers in the order of what it was asked.  Its error reaches every
    asker of the batch.  An asker that is cancelled does not cancel the batch.
    A full batch rests for nothing.
    """

    def __init__(
        self, send: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]], batch_max: int
    ) -> None:
        self._send = send
        self._batch_max = batch_max
        self._waiting: deque[tuple[Asked, asyncio.Future[Answer]]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._rested_at = 0.0
        """When the rest after the last statement ends, by the clock of `time.monotonic`."""
        self._full: asyncio.Future[None] | None = None
        """Of the rest that is taken now: a whole batch waits."""

    async def ask(self, question: Asked) -> Answer:
        """The answer to ``question``.  Raises: whatever ``send`` raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="coalescer")
        elif self._full is not None and len(self._waiting) >= self._batch_max:
            _end(self._full)
        return await future

    async def _send_all(self) -> None:
        try:
            # Let everybody who is ready at this moment get on the first statement.
            await asyncio.sleep(0)
            while self._waiting:
                await self._rest()
                size = min(self._batch_max, len(self._waiting))
                await self._send_one([self._waiting.popleft() for _ in range(size)])
        finally:
            self._sending = None

    async def _rest(self) -> None:
        left = self._rested_at - time.monotonic()
        if len(self._waiting) >= self._batch_max or left <= 0:
            return
        loop = asyncio.get_running_loop()
        self._full = loop.create_future()
        timer = loop.call_later(left, _end, self._full)
        try:
            await self._full
        finally:
            timer.cancel()
            self._full = None

    async def _send_one(self, batch: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        began = time.monotonic()  # the loop's own clock may stand still for a millisecond
        try:
            answers = await self._send([question for question, _ in batch])
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            ended = time.monotonic()
            self._rested_at = ended + min(RESTS_PER_STATEMENT * (ended - began), REST_SECONDS_MAX)
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
