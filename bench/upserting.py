"""What the script of `make bench-load` does, within the daemon's process.

A module of its own: `bench.load` is `__main__` in the process that measures, and the script would
import it a second time.
"""

from __future__ import annotations

import copy
import gc
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import asyncpg
import psutil

from bench.items import COLUMNS, PASSES, rows_of
from bench.scratch import Meter, Rate, Server, forget_peak, peak_bytes
from harvestd.database.pool import Database
from harvestd.loading.facade import Db, Written
from harvestd.loading.fenced import Fenced
from harvestd.loading.seats import Binding, Seat
from harvestd.loading.shapes import Shapes
from harvestd.loading.writes import TableShape

SCHEMA = f"""\
CREATE TABLE IF NOT EXISTS noop.item ({COLUMNS});
CREATE TABLE IF NOT EXISTS noop.tenth ({COLUMNS});
"""
BARE = "unwalled"
"""The schema of the table that the wall has nothing to do with."""
BARE_SCHEMA = (
    f"CREATE SCHEMA {BARE}",
    f"CREATE TABLE {BARE}.item ({COLUMNS})",
    # As the framework adds them to each of its tables.
    f"ALTER TABLE {BARE}.item ADD COLUMN deleted_at timestamptz,"
    " ADD COLUMN written_at timestamptz NOT NULL DEFAULT statement_timestamp()",
)
SCRIPT = """\
from datetime import timedelta
from bench.upserting import upserting
resources = ["item"]
catch_up = False
visibility_lag = timedelta(0)
async def run(env, db, tenant_id, start_date, end_date):
    await upserting.measure(db)
"""
VERSIONS = """
SELECT n_tup_upd + n_tup_del AS ended, n_dead_tup AS dead
FROM pg_stat_user_tables WHERE relid = 'noop.item'::regclass
"""


@dataclass(slots=True)
class Loaded:
    """What the passes of one round cost."""

    walled: dict[str, Rate] = field(default_factory=dict)
    """By pass: fresh, again, unchanged, rewritten."""
    bare: dict[str, Rate] = field(default_factory=dict)
    """Fresh and again without the wall: the table's owner, no policy, no trigger."""
    added_mb: dict[str, float] = field(default_factory=dict)
    """Peak memory over what was there before any row, of a tenth of the rows and of all."""
    dead_tuples: dict[str, int] = field(default_factory=dict)
    """Row versions that a pass left behind."""


@dataclass(slots=True)
class Upserting:
    """What the script of the daemon's process does, and what came of it."""

    rows: int = 0
    postmaster: int = 0
    bare_first: bool = False
    """Which side of a pair begins: the second finds the machine as the first leaves it."""
    server: Server | None = None
    loaded: Loaded = field(default_factory=Loaded)

    async def measure(self, db: Db) -> None:
        """All passes.  The first call binds the seat, as in any run."""
        assert self.server is not None
        admin = await asyncpg.connect(self.server.admin_url)
        owner = await Database(self.server.url).connect("no wall", statement_seconds=None)
        try:
            await self._passes(db, without_wall(db, owner), admin)
        finally:
            await owner.close()
            await admin.close()

    async def _passes(self, db: Db, bare: Db, admin: asyncpg.Connection[Any]) -> None:
        loaded = self.loaded
        gc.collect()
        before = psutil.Process().memory_info().rss

        async def load(one: str, target: Db, *, table: str = "item", score: int = 0) -> Rate:
            await admin.execute("CHECKPOINT")
            rows = self.rows if table == "item" else max(1, self.rows // 10)
            versions = await _versions(db, admin)
            forget_peak()
            meter = Meter(self.postmaster)
            written = await target.upsert(table, rows_of(rows, score=score), ["id"])
            rate = meter.rate(rows)
            _check(one, written, rows)
            if target is not bare:
                loaded.added_mb[one] = max(0.0, (peak_bytes() - before) / 1e6)
                after = await _versions(db, admin)
                # Versions that were cleaned up meanwhile are not dead any more, but were.
                loaded.dead_tuples[one] = max(b - a for a, b in zip(versions, after, strict=True))
            return rate

        await load("tenth", db, table="tenth")
        for score, one in enumerate(PASSES):
            sides = [(db, loaded.walled), (bare, loaded.bare)]
            for target, rates in reversed(sides) if self.bare_first else sides:
                rates[one] = await load(one, target, score=score)
        again = [("unchanged", db), ("rewritten", rewriting(db))]
        for one, target in reversed(again) if self.bare_first else again:
            loaded.walled[one] = await load(one, target, score=1)


upserting = Upserting()


def without_wall(db: Db, owner: asyncpg.Connection[Any]) -> Db:
    """The same ``db`` for the same table made by ``owner``: no policy, no trigger, no seat."""
    fenced = db._fenced
    binding = fenced.binding._replace(key=fenced.binding.key._replace(source=BARE))
    bare = copy.copy(db)
    bare._fenced = Fenced(_Owner(owner), binding)
    return bare


class _Owner:
    """What `Seats` is to a run, for a session that needs no binding."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._seat = Seat("owner", connection, 0, uuid4())

    @asynccontextmanager
    async def bound(self, binding: Binding) -> AsyncIterator[Seat]:
        yield self._seat

    async def take_away(self, seat: Seat, *, reason: str) -> None:
        seat.connection.terminate()


def rewriting(db: Db) -> Db:
    """The same ``db``, whose upserts write each row, changed or not."""
    plain = copy.copy(db)
    plain._shapes = cast("Shapes", _Rewriting(db._shapes))
    return plain


class _Rewriting:
    """`Shapes`, without the comparison in the upsert."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    async def of(self, schema: str, table: str) -> TableShape:
        return await self._shapes.of(schema, table)

    def upsert(self, shape: TableShape, columns: tuple[str, ...], key: Sequence[str]) -> str:
        statement = self._shapes.upsert(shape, columns, key)
        plain, found = re.subn(r"\n +WHERE .*\*<>.*", "", statement)
        if found != 1:
            raise RuntimeError(f"no single comparison of rows in:\n{statement}")
        return plain


async def _versions(db: Db, admin: asyncpg.Connection[Any]) -> tuple[int, int]:
    """Row versions ended so far, and those not cleaned up yet."""
    async with db._fenced.seat() as seat:
        # Else the seat's backend tells what it did a second later, or ten.
        await seat.connection.execute("SELECT pg_catalog.pg_stat_force_next_flush()")
    row = await admin.fetchrow(VERSIONS)
    assert row is not None
    return row["ended"], row["dead"]


def _check(one: str, written: Written, rows: int) -> None:
    expected = {
        "again": Written(updated=rows),
        "rewritten": Written(updated=rows),
        "unchanged": Written(unchanged=rows),
    }
    if written != expected.get(one, Written(inserted=rows)):
        raise RuntimeError(f"{one}: {written}")
