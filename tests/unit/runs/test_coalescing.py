"""Questions of one moment share a statement; each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from harvestd.runs import coalescing
from harvestd.runs.coalescing import Coalescer


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "REST_SECONDS_MAX", 0.0)


@pytest.fixture
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "RESTS_PER_STATEMENT", 1e9)
    monkeypatch.setattr(coalescing, "REST_SECONDS_MAX", 60.0)


class Doubling:
    """Answers twice the number, batch by batch, each when it is let through."""

    def __init__(self, batch_max: int = 3) -> None:
        self.batches: list[list[int]] = []
        self.let_through = asyncio.Semaphore(0)
        self.coalescer = Coalescer(self.send, batch_max)

    async def send(self, batch: Sequence[int]) -> list[int]:
        self.batches.append([*batch])
        await self.let_through.acquire()
        if 0 in batch:
            raise ValueError("zero")
        return [2 * number for number in batch]

    def ask(self, *numbers: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.coalescer.ask(number)) for number in numbers]

    async def settle(self, batches: int) -> None:
        """Let so many batches through, and everybody else as far as they get."""
        for _ in range(batches):
            self.let_through.release()
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.mark.usefixtures("no_rest")
async def test_who_asks_in_one_moment_shares_a_batch_and_gets_his_own_answer() -> None:
    doubling = Doubling()
    asked = doubling.ask(1, 2, 3)
    await doubling.settle(1)

    assert (doubling.batches, [task.result() for task in asked]) == ([[1, 2, 3]], [2, 4, 6])


@pytest.mark.usefixtures("no_rest")
async def test_no_batch_is_larger_than_its_bound_and_none_begins_before_the_last_ended() -> None:
    doubling = Doubling()
    asked = doubling.ask(1, 2, 3, 4, 5)
    await doubling.settle(0)
    asked += doubling.ask(6)
    await doubling.settle(0)
    assert doubling.batches == [[1, 2, 3]]
    await doubling.settle(1)
    assert doubling.batches == [[1, 2, 3], [4, 5, 6]]
    await doubling.settle(1)

    assert [task.result() for task in asked] == [2, 4, 6, 8, 10, 12]


@pytest.mark.usefixtures("no_rest")
async def test_an_error_reaches_all_of_its_batch_and_none_of_the_next() -> None:
    doubling = Doubling()
    asked = doubling.ask(1, 0, 2, 3)
    await doubling.settle(2)

    for task in asked[:3]:
        with pytest.raises(ValueError, match="zero"):
            task.result()
    assert asked[3].result() == 6


@pytest.mark.usefixtures("no_rest")
async def test_an_asker_that_is_cancelled_takes_nothing_from_the_others() -> None:
    doubling = Doubling()
    asked = doubling.ask(1, 2)
    await doubling.settle(0)
    asked[0].cancel()
    await doubling.settle(1)

    assert asked[0].cancelled()
    assert asked[1].result() == 4


@pytest.mark.usefixtures("long_rest")
async def test_after_a_statement_the_next_waits_for_others_until_its_batch_is_full() -> None:
    doubling = Doubling(batch_max=2)
    asked = doubling.ask(1)
    await doubling.settle(1)
    assert asked[0].result() == 2
    asked += doubling.ask(2)
    await doubling.settle(1)
    assert doubling.batches == [[1]]
    asked += doubling.ask(3)
    await doubling.settle(0)

    assert doubling.batches == [[1], [2, 3]]
    assert [await task for task in asked] == [2, 4, 6]


async def test_who_is_alone_is_answered_after_a_rest_that_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coalescing, "RESTS_PER_STATEMENT", 1e9)
    doubling = Doubling()
    await doubling.settle(0)
    for number in (1, 2):
        [asked] = doubling.ask(number)
        doubling.let_through.release()
        async with asyncio.timeout(10):
            assert await asked == 2 * number
