"""Claim, cover, record and give back: what one replica does to run rows.

Every statement that writes for a run compares its fence, or raises it, or is
`give_back_runs`, which goes by the holder.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from harvestd.database.pool import Database
from harvestd.database.step import step
from harvestd.errors import DatabaseError, LeaseLost, Unreachable
from harvestd.planning.state import NextState
from harvestd.planning.window import Ledger
from harvestd.runs.coalescing import Coalescer
from harvestd.terms import Outcome, RunKey, Window


class Listed(NamedTuple):
    """A run as the due list or the tenant's page showed it: claimable while its fence is this."""

    key: RunKey
    run_no: int
    fence: int


class Claim(NamedTuple):
    """The value that proves who holds a run: its key and fence, and what it had at that moment."""

    key: RunKey
    run_no: int
    fence: int
    ledger: Ledger
    started_at: datetime
    failures: int
    was_completed: bool
    """Whether the attempt before it had completed."""


CLAIM_STAGES = 2
"""So many batches of claims make up all slots: while one is claimed the other works.  As one batch
they would wait for each statement together (docs/bench.md).  What is recorded holds no slot."""


class Refusal(Enum):
    """Why a claim was not given."""

    HELD = "held"
    GONE = "no longer due"


class Ending(NamedTuple):
    """The end of an attempt, as it goes into the run row and the history.

    ``covered`` is all that it covered: what is in the ledger already is no other by being added
    again, and the history vouches for it.
    """

    outcome: Outcome
    follows: NextState
    covered: tuple[Window, ...] = ()
    windows: int = 0
    rows: int = 0
    reason: str | None = None
    error: str | None = None
    plugin_hash: str | None = None


def matters(claim: Claim, ending: Ending) -> bool:
    """Whether an attempt belongs into the history: an idle success after another does not."""
    idle = ending.outcome is Outcome.COMPLETED and ending.rows == 0 and ending.windows <= 1
    return not (idle and claim.was_completed)


def multirange(windows: Iterable[Window]) -> str:
    """PostgreSQL's text of a tstzmultirange."""
    spans = (f'["{w.start.isoformat()}","{w.end.isoformat()}")' for w in windows)
    return "{" + ",".join(spans) + "}"


def windows_of(covered: Iterable[Any]) -> tuple[Window, ...]:
    """Windows of a tstzmultirange as the driver hands it out.

    Another program's pieces may end where the next begins, or be one moment: half-open, the
    former are one window and the latter none.
    """
    found: list[Window] = []
    for span in covered:
        if found and found[-1].end == span.lower:
            found[-1] = Window(found[-1].start, span.upper)
        elif span.lower < span.upper:
            found.append(Window(span.lower, span.upper))
    return tuple(found)


class Claims:
    """The claims of one replica."""

    def __init__(self, database: Database, replica_id: UUID, *, runs_max: int = 64) -> None:
        """``runs_max``: how many attempts may be under way at once."""
        self.replica_id = replica_id
        self._claim_line = database.line("claims")
        self._record_line = database.line("records")
        # For what may wait for a row's lock: it must not hold up the records of all others, nor
        # the ledgers of those that go on.
        self._patient_line = database.line("single records")
        self._ledger_line = database.line("ledger")
        self._claiming_now: set[int] = set()
        self._claiming = Coalescer(self._claim_batch, max(1, runs_max // CLAIM_STAGES))
        self._recording = Coalescer(self._record_batch, runs_max)
        self._covering = Coalescer(self._cover_batch, runs_max)

    async def claim(self, listed: Listed, plugin_hash: str | None = None) -> Claim | Refusal:
        """Take a listed run, unless somebody started or changed it since.

        ``plugin_hash`` is of the content that it will run from.
        Raises: Unreachable; the claim may then have been taken, and `give_back_strays` lets it go.
        """
        await step("claim")
        asked = (listed, plugin_hash)
        self._claiming_now.add(listed.run_no)
        try:
            return await self._claiming.ask(asked)
        except Unreachable:
            raise
        except DatabaseError:
            # Perhaps for another's row in the same batch, such as one that a trigger of the
            # application refuses.
            [answer] = await self._claim_batch([asked])
            return answer
        finally:
            # A claim given at this moment reaches its hand before anybody else gets to look.
            self._claiming_now.discard(listed.run_no)

    async def cover(self, claim: Claim, windows: Sequence[Window]) -> None:
        """Add finished windows to the ledger.  Raises: LeaseLost, Unreachable."""
        await step("cover")
        finished = (claim, multirange(windows))
        try:
            if await self._covering.ask(finished):
                return
        except Unreachable:
            raise
        except DatabaseError:
            pass  # another's of the same batch may have been refused
        async with self._alone(claim) as connection:
            if not await connection.fetch(*self._covering_of([finished])):
                raise LeaseLost(str(claim.key))

    async def record(self, claim: Claim, ending: Ending) -> bool:
        """Write the end of an attempt; False when the run is no longer ours.

        Raises: Unreachable; the outcome is then unknown and must not be written again blindly:
        a second try compares the fence and the holder, and is harmless.
        """
        await step("record")
        try:
            if await self._recording.ask((claim, ending)):
                return True
        except Unreachable:
            raise
        except DatabaseError:
            pass  # another's ending of the same batch may have been refused
        # Skipped because its row was locked, or lost: alone it waits for the lock, and knows.
        async with self._alone(claim) as connection:
            return bool(await connection.fetch(*self._recording_of([(claim, ending)])))

    @asynccontextmanager
    async def _alone(self, claim: Claim) -> AsyncIterator[Any]:
        """A transaction that has waited for the lock of the run's row."""
        async with self._patient_line.connection() as connection, connection.transaction():
            await connection.fetch(self._patient_line.sql("hold_run"), claim.run_no)
            yield connection

    async def give_back(self, run_nos: Sequence[int]) -> None:
        """Let go of runs whose fence somebody else has raised."""
        await step("give_back")
        async with self._patient_line.connection() as connection:
            await self._give_back(connection, run_nos)

    async def leave(self) -> None:
        """Declare this replica dead itself, and let go of all that it holds: others go on at once.

        Dead first: that waits for a claim under way, whose asker may be gone, and none comes
        later.  At once, or others would count a death for what the claim took.
        """
        await step("leave")
        async with self._patient_line.connection() as connection, connection.transaction():
            await connection.fetch(self._patient_line.sql("leave_the_living"), self.replica_id)
            await self._give_back(connection, None)

    async def _give_back(self, connection: Any, run_nos: Sequence[int] | None) -> None:
        sql = self._patient_line.sql("give_back_runs")
        await connection.fetch(sql, self.replica_id, run_nos)

    async def give_back_strays(
        self, held: Mapping[int, int], in_hand: Callable[[], Collection[int]]
    ) -> frozenset[int]:
        """Let go of what the database says is ours and nobody works on: its answer was lost.

        ``held`` is what it says, run_no → fence; ``in_hand`` is looked at after that, and a
        claim under way counts as in hand.  The run_nos that were let go and are due at once;
        one that strays again and again backs off.
        """
        working = {*in_hand(), *self._claiming_now}
        strays = {run_no: fence for run_no, fence in held.items() if run_no not in working}
        if not strays:
            return frozenset()
        # Not the patient line: a cycle waits for this, and it waits for no lock.
        rows = await self._record_line.fetch(
            "give_back_strays", self.replica_id, list(strays), list(strays.values())
        )
        return frozenset(row["run_no"] for row in rows if row["due"])

    async def mark_blocked(
        self, blocked: Sequence[tuple[Listed, str, datetime | None]]
    ) -> frozenset[int]:
        """Say why runs cannot start; the run_nos for which the reason is another than before."""
        rows = await self._patient_line.fetch(
            "mark_blocked_runs",
            [listed.run_no for listed, _, _ in blocked],
            [listed.fence for listed, _, _ in blocked],
            [why for _, why, _ in blocked],
            [due_at for _, _, due_at in blocked],
        )
        return frozenset(row["run_no"] for row in rows if row["news"])

    async def _claim_batch(
        self, batch: Sequence[tuple[Listed, str | None]]
    ) -> list[Claim | Refusal]:
        asked = [(listed.run_no, listed.fence, plugin_hash) for listed, plugin_hash in batch]
        rows = await self._claim_line.fetch("claim_runs", self.replica_id, as_json(asked))
        answers = {row["run_no"]: row for row in rows}
        return [_claim_from(listed, answers[listed.run_no]) for listed, _ in batch]

    async def _record_batch(self, batch: Sequence[tuple[Claim, Ending]]) -> list[bool]:
        async with self._record_line.connection() as connection:
            rows = await connection.fetch(*self._recording_of(batch))
        recorded = {row["run_no"] for row in rows}
        return [claim.run_no in recorded for claim, _ in batch]

    async def _cover_batch(self, batch: Sequence[tuple[Claim, str]]) -> list[bool]:
        async with self._ledger_line.connection() as connection:
            rows = await connection.fetch(*self._covering_of(batch))
        covered = {row["run_no"] for row in rows}
        return [claim.run_no in covered for claim, _ in batch]

    def _covering_of(self, batch: Sequence[tuple[Claim, str]]) -> list[Any]:
        claims = [claim for claim, _ in batch]
        return [
            self._ledger_line.sql("cover_windows"),
            [claim.run_no for claim in claims],
            [claim.fence for claim in claims],
            [covered for _, covered in batch],
        ]

    def _recording_of(self, batch: Sequence[tuple[Claim, Ending]]) -> list[Any]:
        endings = as_json([_values(claim, ending) for claim, ending in batch])
        return [self._record_line.sql("record_attempts"), self.replica_id, endings]


def _claim_from(listed: Listed, row: Any) -> Claim | Refusal:
    if row["answer"] != "taken":
        return Refusal.HELD if row["answer"] == "held" else Refusal.GONE
    return Claim(
        key=listed.key,
        run_no=listed.run_no,
        fence=row["fence"],
        ledger=Ledger(row["origin"], _covered(row)),
        started_at=row["started_at"],
        failures=row["failures"],
        was_completed=row["was_completed"],
    )


def _covered(row: Any) -> tuple[Window, ...]:
    if row["pieces"] is not None:
        return windows_of(row["pieces"])
    start, end = row["covered_from"], row["covered_to"]
    return () if start in (None, end) else (Window(start, end),)


def _values(claim: Claim, ending: Ending) -> tuple[Any, ...]:
    """What record_attempts is told of one attempt."""
    follows = ending.follows
    return (
        claim.run_no,
        claim.fence,
        follows.status,
        ending.outcome,
        ending.reason,
        ending.error,
        follows.delay.total_seconds(),
        follows.from_start,
        follows.not_before,
        follows.failures,
        multirange(ending.covered),
        ending.windows,
        ending.rows,
        ending.plugin_hash,
        matters(claim, ending),
    )


def as_json(rows: Sequence[Sequence[Any]]) -> str:
    """What a statement takes of many runs, as one text: a third of the cost of arrays."""
    return orjson.dumps(rows).decode()
