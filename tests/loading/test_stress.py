"""All calls at once, of one run and of many, on the same rows: none waits in a circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from harvestd.database.pool import Database
from harvestd.loading.facade import Db, rows_written_by
from harvestd.loading.seats import Binding
from tests.loading.dbs import DAY, Shop, a_shop

SCHEMA = """
CREATE TABLE shop.item (
    tenant_id text, kind text COLLATE "C", id bigint, n bigint,
    PRIMARY KEY (tenant_id, kind, id));
CREATE TABLE shop.label (tenant_id text, id bigint, n bigint, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.event (tenant_id text, n bigint);
"""
RUNS, TURNS, ROWS = 4, 5, 300
STEPS = 60
"""Of a window, for checkpoints, which never go back."""
KEY = ("kind", "id")


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    """A replica with a seat less than there are runs."""
    async with a_shop(database, database_url, SCHEMA, seats_max=RUNS - 1) as found:
        yield found


class Stressed:
    """One run that does everything at once, and knows what it must find afterwards."""

    def __init__(self, db: Db, binding: Binding, chance: random.Random) -> None:
        assert binding.covers is not None
        self._db, self._chance = db, chance
        self._start = binding.covers.start
        self.appended = 0
        self.bookmarked = 0
        self.steps = 0

    def _items(self, n: int) -> list[dict[str, object]]:
        found = [{"kind": f"kind {id % 7}", "id": id, "n": n} for id in range(ROWS)]
        return self._chance.sample(found, ROWS)

    async def upsert(self, turn: int) -> None:
        """All rows of both tables, in any order."""
        written = await self._db.upsert("item", self._items(turn), KEY)
        assert written.inserted + written.updated + written.unchanged == ROWS
        labels = [(id, turn) for id in self._chance.sample(range(ROWS), ROWS)]
        await self._db.upsert("label", labels, ["id"], columns=["id", "n"])

    async def sweep(self, turn: int) -> None:
        """Marks every other row, or restores it."""
        seen = [(f"kind {id % 7}", id) for id in range(ROWS) if id % 2 == turn % 2]
        self._chance.shuffle(seen)
        await self._db.sweep("item", {}, seen, force=True)

    async def together(self, turn: int) -> None:
        """Rows, a sweep of one kind, bookmark and checkpoint in one transaction, gathered."""
        async with self._db.transaction() as connection:
            kind = f"kind {turn % 7}"
            rows = [row for row in self._items(turn) if row["kind"] == kind]
            await self._db.upsert("item", rows, KEY)
            seen = [(kind, row["id"]) for row in rows]
            await asyncio.gather(
                self._db.sweep("item", {"kind": kind}, seen),
                self._db.set_bookmark("turn", turn),
                connection.fetchval("SELECT count(*) FROM item"),
            )
            self.bookmarked += 1

    async def copy(self, turn: int) -> None:
        """Appends, and covers a step more; copies of one run come in the order of their dates."""
        self.steps += 1
        until = self._start + self.steps * DAY / STEPS
        self.appended += await self._db.copy("event", ({"n": n} for n in range(turn + 1)), until)

    async def read(self, turn: int) -> None:
        """A stream during which others write, and what is written between its pages."""
        count = 0
        async for row in self._db.stream("SELECT id FROM label ORDER BY random()"):
            count += 1
            if count % 100 == 0:
                await self._db.upsert("label", [{"id": row["id"], "n": -turn}], ["id"])
        assert count in (0, ROWS)

    async def work(self) -> None:
        """All of them at once, turn after turn."""
        for turn in range(TURNS):
            calls = [self.upsert, self.sweep, self.together, self.copy, self.read, self.upsert]
            self._chance.shuffle(calls)
            await asyncio.gather(*(call(turn) for call in calls))


@pytest.mark.parametrize("seed", [1, 2])
async def test_everything_at_once_never_waits_in_a_circle_and_loses_nothing(
    shop: Shop, seed: int
) -> None:
    bindings = [await shop.claims_run_of("acme", script=f"of{n}") for n in range(RUNS)]
    dbs = [shop.db(binding) for binding in bindings]
    runs: Sequence[Stressed] = [
        Stressed(db, binding, random.Random(f"{seed} {number}"))
        for number, (db, binding) in enumerate(zip(dbs, bindings, strict=True))
    ]
    async with asyncio.timeout(120):
        await asyncio.gather(*(run.work() for run in runs))

    appended = sum(run.appended for run in runs)
    assert appended == RUNS * sum(range(1, TURNS + 1))
    assert await shop.rows(
        "SELECT (SELECT count(*) FROM shop.item) AS items,"
        " (SELECT count(*) FROM shop.label) AS labels,"
        " (SELECT count(*) FROM shop.event) AS events"
    ) == [(ROWS, ROWS, appended)]
    for run, db, binding in zip(runs, dbs, bindings, strict=True):
        assert await shop.covered(binding) == run._start + run.steps * DAY / STEPS
        assert await db.bookmark("turn") == TURNS - 1
        assert rows_written_by(db) >= run.appended
    assert await shop.rows("SELECT relname::text FROM pg_class WHERE relpersistence = 't'") == []
