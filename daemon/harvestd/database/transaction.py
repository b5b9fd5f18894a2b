"""A transaction that a cancelled task cannot leave open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg


@asynccontextmanager
async def whole_transaction(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """BEGIN and COMMIT, or ROLLBACK after an error; a cancellation ends the connection.

    asyncpg's own block, when cancelled while BEGIN is under way, never reaches its exit: the
    transaction stays open with all its locks (seen with asyncpg 0.32).
    """
    try:
        async with connection.transaction():
            yield
    except asyncio.CancelledError:
        connection.terminate()
        raise
