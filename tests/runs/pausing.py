"""One actor waits at a step of the engine while others act."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harvestd.database import step as steps


@asynccontextmanager
async def paused_at(name: str) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """The first actor that reaches the step waits there: (reached, go on)."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hook(step: str) -> None:
        if step == name and not reached.is_set():
            reached.set()
            await go_on.wait()

    steps.hook = hook
    try:
        yield reached, go_on
    finally:
        steps.hook = None
        go_on.set()
