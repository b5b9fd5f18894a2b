"""What the tests of migrations and of an adoption begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """To a new, empty database."""
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()
