"""Rows that are given as something else: the call or the await that is missing is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from harvestd.errors import WriteRefused
from harvestd.loading.rows import batches


async def listed() -> list[dict[str, int]]:
    return [{"id": 1}]


async def produced() -> AsyncIterator[dict[str, int]]:
    yield {"id": 1}


@pytest.mark.parametrize(
    ("given", "kind", "mend"),
    [
        (listed, "coroutine", "await it first"),
        (lambda: asyncio.ensure_future(listed()), "Task", "await it first"),
        (lambda: listed, "function", "call it, and await"),
        (lambda: produced, "function", "call it, and await"),
        (lambda: {"id": 1}, "dict", "put a single row into a list"),
    ],
)
async def test_what_is_to_be_awaited_or_called_is_told(
    given: Callable[[], Any], kind: str, mend: str
) -> None:
    rows = given()

    with pytest.raises(WriteRefused) as refused:
        [batch async for batch in batches(rows)]

    assert refused.value.what == f"rows are given as {kind}"
    assert refused.value.next_step.startswith(mend)
    if isinstance(rows, asyncio.Task):
        assert await rows == [{"id": 1}]
