"""What this replica has in hand: the attempts under way, by run.

The heartbeat carries the pairs (run_no, fence) and tells which are lost; the
drain cancels what is left.  Both go through `cancel`, so that the attempt knows why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harvestd.runs.claims import Claim
from harvestd.terms import Outcome, RunKey


@dataclass(slots=True)
class Hand:
    """One attempt under way."""

    claim: Claim
    task: asyncio.Task[object]
    done: int = 0
    total: int | None = None
    count_rows: Callable[[], int] = int
    """How many rows the attempt has written so far."""
    cancelled_as: Outcome | None = None
    """LOST or CANCELLED once somebody cancelled it on purpose."""
    recording: bool = False
    """Its work has ended and is being recorded: too late to cancel it."""

    def report_progress(self, done: int, total: int | None) -> None:
        """How far the script says it is."""
        self.done, self.total = done, total


@dataclass(slots=True)
class Hands:
    """All attempts under way in this process."""

    by_run: dict[int, Hand] = field(default_factory=dict)
    keys: set[RunKey] = field(default_factory=set)
    in_doubt: Callable[[], bool] = bool
    """Whether others may hold our runs by now: nothing more is begun, and no other window."""

    def take(self, claim: Claim, task: asyncio.Task[object]) -> Hand:
        """An attempt begins."""
        hand = Hand(claim, task)
        self.by_run[claim.run_no] = hand
        self.keys.add(claim.key)
        return hand

    def drop(self, hand: Hand) -> None:
        """An attempt was recorded, or its record failed."""
        self.by_run.pop(hand.claim.run_no, None)
        self.keys.discard(hand.claim.key)

    def fences(self) -> dict[int, int]:
        """run_no → fence of what is in hand, for the heartbeat."""
        return {run_no: hand.claim.fence for run_no, hand in self.by_run.items()}

    def cancel(self, outcome: Outcome, run_nos: Iterable[int] | None = None) -> int:
        """Cancel these attempts, or all; each ends with ``outcome``.  How many."""
        wanted = self.by_run if run_nos is None else set(run_nos)
        chosen = [
            hand for run_no, hand in self.by_run.items() if run_no in wanted and not hand.recording
        ]
        for hand in chosen:
            if hand.cancelled_as is None:
                hand.cancelled_as = outcome
                hand.task.cancel()
        return len(chosen)
