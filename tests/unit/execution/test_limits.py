"""Slots: tenants take turns; under cancellation each is given back once."""

from __future__ import annotations

import asyncio

import pytest

from harvestd.execution.limits import Limits, Slots


async def use(slots: Slots) -> None:
    await slots.take("acme")
    slots.give_back()


async def test_a_slot_given_back_to_somebody_cancelled_in_that_moment_stays_free() -> None:
    slots = Slots(1)
    await slots.take("acme")
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
    await slots.take("acme")
    first, second = asyncio.create_task(use(slots)), asyncio.create_task(use(slots))
    await asyncio.sleep(0)
    slots.give_back()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    await asyncio.wait_for(second, 1)
    assert slots.taken == 0


async def test_tenants_that_wait_take_turns_however_many_runs_each_has() -> None:
    slots, order = Slots(1), list[str]()

    async def attempt(tenant_id: str) -> None:
        await slots.take(tenant_id)
        order.append(tenant_id)
        await asyncio.sleep(0)
        slots.give_back()

    await slots.take("first")
    attempts = [asyncio.create_task(attempt("many")) for _ in range(4)]
    await asyncio.sleep(0)
    attempts += [asyncio.create_task(attempt(name)) for name in ("few", "few", "one")]
    await asyncio.sleep(0)
    slots.give_back()
    await asyncio.gather(*attempts)

    assert order == ["many", "few", "one", "many", "few", "many", "many"]
    assert (slots.taken, slots.wanted) == (0, False)


async def test_a_suspect_is_alone_among_suspects_in_its_first_seconds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harvestd.execution.limits.SUSPECT_SECONDS", 0.001)
    limits = Limits(3, {})
    first = await limits.take("probe", "acme", suspect=True)
    second = await asyncio.wait_for(limits.take("probe", "globex", suspect=True), 5)

    first.give_back()
    second.give_back()
    third = await asyncio.wait_for(limits.take("probe", "acme", suspect=True), 5)
    third.give_back()
    for _ in range(3):  # each slot was given back once
        await asyncio.wait_for(limits.take("probe", "acme", suspect=False), 5)


async def test_who_feeds_hears_when_more_may_wait_for_a_narrow_limit() -> None:
    limits = Limits(3, {"probe": 1})
    heard: list[int] = []
    limits.narrow_freed = lambda: heard.append(limits.room("probe"))
    first = await limits.take("probe", "acme", suspect=False)
    waiting = asyncio.create_task(limits.take("probe", "globex", suspect=False))
    await asyncio.sleep(0)
    before = limits.room("probe")
    first.give_back()
    (await waiting).give_back()
    (await limits.take("other", "acme", suspect=False)).give_back()

    assert heard == [before + 1, before + 1]
