"""What `harvestd verify` finds: where ledger, history, holders and bindings contradict each other.

Everything is asked of one snapshot of the database, and changes nothing.  The server looks and
answers only what is wrong, so memory stays flat whatever there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from harvestd.database.pool import Database

TOLD_MAX = 100
"""Faults of one kind that are told in full; the rest are counted."""
QUERY_SECONDS = 3600.0
"""The history of a large installation is sorted on the server before the first answer comes."""

NOT_PROVED = (
    "that a window's rows are complete: the ledger says that the script was done with it, and "
    "only the script knows what its upstream had",
    "that an attempt vouches for all that is covered: one that found nothing new, was given back "
    "or lost its process leaves no window in the history, and what was done before the ledger was "
    "last cut no longer counts",
    "that scripts never overlapped by less than a second, or outside of what the history kept: "
    "harvestd torture and make torture try that out",
)
"""What nothing that is stored can show."""


class Words(NamedTuple):
    """What is said of one kind of fault; the texts take the columns of its statement."""

    what: str
    why: str
    next_step: str


ASK_WHO = "find out who writes harvestd's columns or restored a part of the database"
WORDS: Mapping[str, Words] = {
    "date_apart": Words(
        "last_fetched_data_date is {dated}, but the ledger is {covered}",
        "both move in one statement; whoever reads the date believes something else than harvestd",
        f"{ASK_WHO}; the next window sets the date anew from the ledger",
    ),
    "covered_before_origin": Words(
        "source time is covered before the origin {origin}: {covered}",
        "windows begin at the origin, so no attempt read that",
        f"{ASK_WHO}; harvestd backfill from the right origin reads it",
    ),
    "covered_in_the_future": Words(
        "source time is covered that has not come yet: {covered}",
        "what happens until then is never read; the server's clock was ahead, or somebody wrote it",
        "if a clock was set back, harvestd run, which takes it out within two ticks "
        "(clock_set_back); else set last_fetched_data_date to the last moment that was really read",
    ),
    "held_by_nobody": Words(
        "it is RUNNING for {held_by}, which is not known",
        "that replica's row was deleted, or somebody wrote an id of his own",
        "harvestd run, which frees it within a tick and a third of a lease",
    ),
    "held_by_the_dead": Words(
        "it is RUNNING for {held_by}, last heard of {since}",
        "longer than a lease and a tick: a living replica would have taken it over",
        "harvestd run, which frees it; if one runs, its log has reaping_failed",
    ),
    "retired_but_held": Words(
        "its configuration is gone since {retired_at}, and it is still RUNNING for {held_by}",
        "its holder learns of that with its next heartbeat, and gives it back",
        "see what that process does, and end it if it does not answer",
    ),
    "recorded_twice": Words(
        "the attempt with fence {fence} was recorded twice, ended {other_at} and {ended_at}",
        "a fence is given once: rows that were appended may be doubled",
        ASK_WHO,
    ),
    "fence_went_back": Words(
        "the attempt that ended {ended_at} has fence {fence}, and one before it {other_fence}",
        "a fence only grows: the run's row went back in time, or the server's clock did",
        ASK_WHO,
    ),
    "attempts_overlap": Words(
        "the attempt with fence {fence}, {started_at} to {ended_at}, overlaps the one with fence "
        "{other_fence} at {other_at}",
        "one script of a tenant must never run twice at once; or the server's clock stepped back",
        "see the server's log for its clock, and tell us: this is what fences are for",
    ),
    "row_behind_history": Words(
        "the run's row has fence {run_fence}, but the attempt with fence {fence} has ended",
        "the row went back in time: a late writer with an old fence would be let in",
        "keep late writers out: UPDATE public.data_source_run SET fence = {fence} + 1 WHERE "
        "run_no = {run_no}; then find out who restored a part of the database",
    ),
    "ledger_lacks": Words(
        "the ledger lacks {lacks}, which the attempt with fence {fence} covered until {ended_at}",
        "no reset, backfill or hand-set date took it out; it will be read again, and what a "
        "script only appends is then there twice",
        f"{ASK_WHO}; an operator's command of a version before this one is not noted either",
    ),
    "bound_ahead_of_its_run": Words(
        "the backend {pid} of {seat} is bound with fence {fence}, its run has {run_fence}",
        "the run's row went back in time",
        f"{ASK_WHO}; SELECT pg_terminate_backend({{pid}}) ends the backend",
    ),
    "bound_without_its_run": Words(
        "the backend {pid} of {seat} is in a transaction since {since} for fence {fence}, which "
        "no longer holds the run",
        "it can read its own tenant and write nothing, but its script calls its upstream twice",
        "SELECT pg_terminate_backend({pid}), and see what its replica does",
    ),
    "seat_of_the_dead": Words(
        "{seat} is connected (backend {pid}) for {held_by}, last heard of {since}",
        "a process that is paused or cut off; its login stays out of use as long",
        "end that process, or SELECT pg_terminate_backend({pid})",
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One contradiction.  The names are None where it is of no run."""

    kind: str
    tenant_id: str | None
    data_source: str | None
    script: str | None
    what: str
    why: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, at one moment, and what is wrong.

    ``holes`` are no fault: source time that is known to be missing, and will be read.
    """

    now: datetime
    runs: int
    attempts: int
    bindings: int
    holes: int
    hole_seconds: float
    gapped: int
    faults: list[Fault]
    counts: dict[str, int]
    """How many faults there are of each kind, also of those that are not told in full."""
    not_proved: tuple[str, ...] = NOT_PROVED


async def verify(database: Database, tenant_id: str | None, *, grace: timedelta) -> Verified:
    """Look at all runs, or a tenant's; ``grace`` is a lease and a tick.

    Raises: Unreachable, DatabaseError.
    """
    line = database.line("verify")
    looks: tuple[tuple[str, tuple[object, ...]], ...] = (
        (line.sql("find_wrong_runs"), (tenant_id, grace)),
        (line.sql("find_wrong_attempts"), (tenant_id,)),
        (line.sql("find_wrong_bindings"), (tenant_id, grace)),
        # Seats are of no tenant.
        *([(line.sql("find_seats_of_the_dead"), (grace,))] if tenant_id is None else []),
    )
    faults: list[Fault] = []
    counts: Counter[str] = Counter()
    async with (
        line.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        summary = await connection.fetchrow(
            line.sql("sum_up_runs"), tenant_id, timeout=QUERY_SECONDS
        )
        assert summary is not None
        for statement, arguments in looks:
            async for row in connection.cursor(statement, *arguments, timeout=QUERY_SECONDS):
                counts[row["kind"]] += 1
                if counts[row["kind"]] <= TOLD_MAX:
                    faults.append(fault_of(row))
    return Verified(**summary, faults=faults, counts=dict(counts))


def fault_of(row: Mapping[str, Any]) -> Fault:
    """What is said of one row of a find_ statement."""
    words = WORDS[row["kind"]]
    tenant_id, source, script = (row.get(name) for name in ("tenant_id", "data_source", "script"))
    what, why, next_step = (text.format(**row) for text in words)
    return Fault(row["kind"], tenant_id, source, script, what, why, next_step)
