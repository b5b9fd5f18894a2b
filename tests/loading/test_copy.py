"""db.copy: rows without a key reach the table together with the source time they cover."""

from __future__ import annotations

import asyncio
import resource
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from harvestd.database import step
from harvestd.database.pool import Database
from harvestd.errors import LeaseLost, RunError, WindowRefused, WriteRefused
from harvestd.loading.facade import rows_written_by
from harvestd.loading.rows import BATCH_ROWS_MAX
from harvestd.loading.spool import MEMORY_BYTES_MAX
from tests.builders import query
from tests.loading.dbs import DAY, Shop, a_shop

SCHEMA = """
CREATE TABLE shop.event (tenant_id text, n bigint NOT NULL, note text DEFAULT 'none');
CREATE TABLE shop.visit (tenant_id text, n bigint NOT NULL);
CREATE TABLE shop.item (tenant_id text, id bigint, PRIMARY KEY (tenant_id, id));
"""
COUNT = "SELECT count(*)::int AS all, count(DISTINCT n)::int AS different FROM shop.event"


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica, and tables to append to."""
    async with a_shop(database, database_url, SCHEMA) as found:
        yield found


async def events(count: int) -> AsyncIterator[dict[str, object]]:
    """As an upstream would send them."""
    for n in range(count):
        yield {"n": n}


async def test_rows_and_the_time_they_cover_are_there_together(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    db, middle = shop.db(binding), binding.covers.start + DAY / 2

    assert await db.copy("event", [{"n": 1}, {"n": 1, "note": "twice"}], middle) == 2

    assert await shop.covered(binding) == middle
    assert await shop.rows("SELECT tenant_id, n, note FROM shop.event ORDER BY note") == [
        ("acme", 1, "none"),
        ("acme", 1, "twice"),
    ]
    assert await db.copy("event", (), binding.covers.end) == 0
    assert await shop.covered(binding) == binding.covers.end
    assert rows_written_by(db) == 2


async def test_a_copy_cancelled_between_its_batches_leaves_nothing_and_is_repeated_whole(
    shop: Shop,
) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    writes, here = 0, asyncio.Event()

    async def stop_at_the_third(name: str) -> None:
        nonlocal writes
        writes += name == "write"
        if writes == 3:
            here.set()
            await asyncio.Event().wait()

    step.hook = stop_at_the_third
    try:
        copying = asyncio.create_task(
            shop.db(binding).copy("event", events(4 * BATCH_ROWS_MAX), binding.covers.end)
        )
        async with asyncio.timeout(20):
            await here.wait()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
    finally:
        step.hook = None
    assert await shop.rows(COUNT) == [(0, 0)]
    assert await shop.covered(binding) is None

    db = shop.db(binding)
    assert await db.copy("event", events(4 * BATCH_ROWS_MAX), binding.covers.end) == 4_000
    assert await shop.rows(COUNT) == [(4_000, 4_000)]


@pytest.mark.parametrize("until", ["start", "after the end", "the last of all"])
async def test_a_date_outside_the_window_appends_nothing_and_is_told_in_words(
    shop: Shop, until: str
) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    start, end = binding.covers.start, binding.covers.end
    date = {
        "start": start,
        "after the end": end + DAY,
        "the last of all": datetime.max.replace(tzinfo=UTC),  # the driver sends infinity
    }[until]
    db = shop.db(binding)

    with pytest.raises(WindowRefused) as refused:
        await db.copy("event", [{"n": 1}], date)

    assert refused.value.what == f"copy does not take {date}"
    assert f"one after {start} and at most {end}" in refused.value.why
    assert refused.value.next_step.startswith("copy until the newest date")
    assert (await shop.rows(COUNT), rows_written_by(db)) == ([(0, 0)], 0)


async def test_a_date_that_goes_back_is_told_with_its_call_whoever_sends_it(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    early, late = binding.covers.end - DAY / 4, binding.covers.end - DAY / 8
    db = shop.db(binding)
    await db.copy("event", [{"n": 1}], late)

    for call, sending in (
        ("copy", db.copy("event", [{"n": 1}], early)),
        ("checkpoint", db.checkpoint(early)),
    ):
        with pytest.raises(WindowRefused) as refused:
            await sending
        assert refused.value.what == (
            f"{call} does not take {early}: it goes back, behind what this window has covered "
            "already"
        )
    with pytest.raises(WindowRefused) as refused:
        await db.fetch("SELECT harvestd_api.checkpoint($1)", early)
    assert refused.value.what == "checkpoint does not take this date"


async def test_a_run_that_was_taken_over_appends_nothing(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    db = shop.db(binding)
    await db.fetchval("SELECT 1")  # bound while the run was still its own
    await query(shop.url, "UPDATE data_source_run SET fence = fence + 1")

    with pytest.raises(LeaseLost):
        await db.copy("event", [{"n": 1}], binding.covers.end)

    assert await shop.rows(COUNT) == [(0, 0)]


@pytest.mark.parametrize(
    ("table", "change", "what", "next_step"),
    [
        ("item", {}, "has the key ['id']", "await db.upsert('item', rows, key=['id'])"),
        ("event", {"handed_from": None, "covers": None}, "a snapshot script", "catch_up = False"),
        ("event", {"lookback": DAY}, "a script with lookback", "leave lookback out"),
    ],
)
async def test_rows_that_another_window_would_append_again_are_refused_before_they_are_read(
    shop: Shop, table: str, change: dict[str, Any], what: str, next_step: str
) -> None:
    lookback = change.pop("lookback", DAY * 0)
    binding = await shop.claims_run_of("acme", lookback=lookback)
    assert binding.covers is not None
    rows = iter([{"id": 1, "n": 1}])

    with pytest.raises(WriteRefused) as refused:
        await shop.db(binding._replace(**change)).copy(table, rows, binding.covers.end)

    assert what in refused.value.what
    assert next_step in refused.value.next_step
    assert list(rows) == [{"id": 1, "n": 1}]


async def test_tables_that_are_covered_together_are_copied_in_one_transaction(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    db, end = shop.db(binding), binding.covers.end

    async def both(rows: list[dict[str, object]]) -> None:
        async with db.transaction():
            await db.copy("event", [{"n": 1}], end)
            await db.copy("visit", rows, end)

    with pytest.raises(WriteRefused):
        await both([{"m": 1}])
    assert await shop.rows(COUNT) == [(0, 0)]
    assert (await shop.covered(binding), rows_written_by(db)) == (None, 0)
    await both([{"n": 1}, {"n": 2}])

    assert await shop.rows("SELECT count(*) FROM shop.event") == [(1,)]
    assert await shop.rows("SELECT count(*) FROM shop.visit") == [(2,)]
    assert (await shop.covered(binding), rows_written_by(db)) == (end, 3)


async def test_a_producer_may_use_db_and_holds_no_seat_while_it_is_waited_for(shop: Shop) -> None:
    bindings = [await shop.claims_run_of(f"tenant-{n}") for n in range(3)]
    all_wait, waiting = asyncio.Event(), 0

    async def slow(db: Any) -> AsyncIterator[dict[str, object]]:
        nonlocal waiting
        await db.upsert("item", [{"id": 1}], key=["id"])
        waiting += 1
        if waiting == len(bindings):  # one more than there are seats
            all_wait.set()
        await all_wait.wait()
        yield {"n": 1}

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for binding in bindings:
            assert binding.covers is not None
            db = shop.db(binding)
            group.create_task(db.copy("event", slow(db), binding.covers.end))

    assert await shop.rows("SELECT count(*) FROM shop.event") == [(3,)]


async def test_a_copy_of_any_size_takes_a_bounded_memory_and_lets_others_run(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    turns = turns_while_reading = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def rows_at_hand() -> Iterator[dict[str, object]]:
        nonlocal turns_while_reading
        before = turns
        for n in range(60_000):
            yield {"n": n, "note": f"{n:0400}"}  # 24 MB
        turns_while_reading = turns - before

    counting = asyncio.create_task(count_turns())
    tracemalloc.start()
    try:
        assert await shop.db(binding).copy("event", rows_at_hand(), binding.covers.end) == 60_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        counting.cancel()
    assert peak < 4 * MEMORY_BYTES_MAX
    assert turns_while_reading >= 59


async def test_a_full_disk_fails_the_run_and_says_so(shop: Shop) -> None:
    binding = await shop.claims_run_of("acme")
    assert binding.covers is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = ({"n": n, "note": f"{n:0400}"} for n in range(30_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY_BYTES_MAX, hard))
    try:
        with pytest.raises(RunError, match="cannot be kept") as refused:
            await shop.db(binding).copy("event", rows, binding.covers.end)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "TMPDIR" in refused.value.next_step
    assert await shop.rows(COUNT) == [(0, 0)]
