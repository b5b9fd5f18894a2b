"""The protocol with one mistake: what the torture must find, or it proves nothing.

Each is a change of one text, of a statement or of a function in the scratch database, or a script
that does what `db` keeps authors from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harvestd.database.statements import load_statements
from harvestd.database.step import step

HOLD = "harvestd.hold()"
Append = Callable[[Any, list[dict[str, object]], datetime, datetime], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Change:
    """A text, and what stands there instead."""

    before: str
    after: str = ""

    def made_in(self, text: str) -> str:
        """Raises: LookupError, when the text has changed and this would change nothing."""
        if self.before not in text:
            raise LookupError(f"a mutant does not fit any more: {self.before!r}")
        return text.replace(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake."""

    name: str
    what: str
    statements: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    hold: tuple[Change, ...] = ()
    """Of the function that the tables' guard and the checkpoint call."""
    append: Append | None = None

    def mutated_statements(self) -> Mapping[str, str]:
        """All statements, with its own."""
        texts = dict(load_statements())
        for name, changes in self.statements.items():
            for change in changes:
                texts[name] = change.made_in(texts[name])
        return texts


async def append_in_two(
    db: Any, rows: list[dict[str, object]], start: datetime, end: datetime
) -> None:
    """Rows first, progress later: what is usual where the two cannot commit together."""
    async with db.transaction() as connection:
        for row in rows:
            await step("write")
            await connection.execute("INSERT INTO event (at) VALUES ($1)", row["at"])
    await db.checkpoint(end)


FENCE = Change("\n     AND run.fence = binding.fence")
NO_KEY_UPDATE = "\n    FOR NO KEY UPDATE OF run;"

MUTANTS = (
    Mutant("no-fence", "the guard compares no fence", hold=(FENCE,)),
    Mutant(
        "weak-lock",
        "the guard locks the run too weakly to hold a takeover off",
        hold=(Change(NO_KEY_UPDATE, "\n    FOR KEY SHARE OF run;"),),
    ),
    Mutant(
        "unlocked-check",
        "the guard compares the fence and locks nothing",
        hold=(Change(NO_KEY_UPDATE, ";"),),
    ),
    Mutant(
        "check-outside",
        "the fence is compared when the seat is bound, before the transaction",
        hold=(FENCE, Change(NO_KEY_UPDATE, ";")),
    ),
    Mutant(
        "two-transactions", "rows and progress commit one after the other", append=append_in_two
    ),
    Mutant(
        "claim-ignores-fence",
        "a claim takes a run that somebody started since it was listed",
        {"claim_runs": (Change(" AND run.fence = asked.fence\n    WHERE", "\n    WHERE"),)},
    ),
    Mutant(
        "claim-by-the-dead",
        "a replica that was declared dead claims",
        {"claim_runs": (Change("EXISTS (SELECT FROM me)", "true"),)},
    ),
    Mutant(
        "claim-keeps-fence",
        "a claim does not raise the fence",
        {"claim_runs": (Change("run.fence + 1,", "run.fence,"),)},
    ),
    Mutant(
        "bind-ignores-fence",
        "a seat is bound to a run that is no longer its replica's",
        {
            "bind_seats": (
                Change(" AND run.fence = asked.fence\nCROSS", "\nCROSS"),
                Change("WHERE run.replica_id = $1::uuid\n", "WHERE $1::uuid IS NOT NULL\n"),
            )
        },
    ),
    Mutant(
        "cover-ignores-fence",
        "a window is added to the ledger whatever the fence",
        {
            "cover_windows": (
                Change(" AND run.fence = asked.fence\n    ORDER", "\n    ORDER"),
                Change("\n  AND run.fence = asked.fence"),
            )
        },
    ),
    Mutant(
        "record-ignores-fence",
        "an end is recorded whatever the fence",
        {
            "record_attempts": (
                Change(" AND run.fence = asked.fence\n    WHERE", "\n    WHERE"),
                Change("\n      AND run.fence = asked.fence"),
            )
        },
    ),
    Mutant(
        "reap-too-early",
        "the runs of the dead are freed before their backends are gone",
        {
            "end_dead_backends": (Change("WHERE pg_catalog", "WHERE false AND pg_catalog"),),
            "free_runs_of_the_dead": (
                Change("AND activity.backend_start = binding.backend_start", "AND false"),
            ),
        },
    ),
    Mutant(
        "death-is-not-final",
        "a replica that was declared dead lives again with its next heartbeat",
        {
            "beat": (
                Change("clock_timestamp(),\n", "clock_timestamp(), dead_at = NULL,\n"),
                Change("\n      AND replica.dead_at IS NULL\n    RETURNING", "\n    RETURNING"),
            )
        },
    ),
)
