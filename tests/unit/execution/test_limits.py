"""Slots under cancellation: each is given back once, and whoever waits is told the truth."""

from __future__ import annotations

import asyncio

import pytest

from harvestd.execution.limits import Slots


async def use(slots: Slots) -> None:
    await slots.take()
    slots.give_back()


async def test_a_slot_given_back_to_somebody_cancelled_in_that_moment_stays_free() -> None:
    slots = Slots(1)
    await slots.take()
    waiting = asyncio.create_task(use(slots))
    await asyncio.sleep(0)
    waiting.cancel()
    slots.give_back()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert slots.taken == 0
    await asyncio.wait_for(use(slots), 1)


async def test_a_slot_handed_over_before_the_cancellation_goes_to_the_next() -> None:
    slots = Slots(1)
    await slots.take()
    first, second = asyncio.create_task(use(slots)), asyncio.create_task(use(slots))
    await asyncio.sleep(0)
    slots.give_back()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    await asyncio.wait_for(second, 1)
    assert slots.taken == 0
