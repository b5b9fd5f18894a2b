"""THE MAIN PATH: one attempt, from claim to record.

    claim → next window → executor → ledger → next window ... → record

An attempt ends in exactly one outcome, and is recorded only after its database
connection was released or ended, and always: whatever happened before.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from harvestd.catalog.script import Script
from harvestd.errors import (
    DatabaseError,
    HarvestdError,
    LeaseLost,
    ScriptTimedOut,
    Waits,
)
from harvestd.execution.executor import Call, Executor
from harvestd.execution.hands import Hand, Hands
from harvestd.execution.limits import Taken
from harvestd.loading.facade import Db, rows_written_by
from harvestd.loading.fenced import Fenced
from harvestd.loading.seats import Binding, Seats
from harvestd.loading.shapes import Shapes
from harvestd.observing import metrics
from harvestd.observing.lines import escape
from harvestd.observing.logs import current_fields, get_logger, report_database_error, shows
from harvestd.observing.redaction import Redactor, current_redactor
from harvestd.observing.tracebacks import summary
from harvestd.planning.state import after_attempt
from harvestd.planning.window import DueWindow, due_windows, joined, window_end
from harvestd.plugin import Surroundings
from harvestd.runs.claims import Claim, Claims, Ending, Listed, Refusal, matters
from harvestd.tenants.config import Env
from harvestd.terms import Outcome, Window

log = get_logger()

ERROR_CHARS_MAX = 2_000
COVER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What an attempt needs; built once, in service/app.py."""

    claims: Claims
    seats: Seats
    shapes: Shapes
    hands: Hands
    executors: Mapping[str, Executor]
    tick: timedelta
    timeout: timedelta
    slice: timedelta
    """How long an attempt may go on while others wait."""
    tenant_runs_max: int
    cache_root: Path
    allowed: frozenset[str]
    draining: asyncio.Event
    """Set once no new claims are to be made."""
    ask_cycle: Callable[[str], None]
    """Asks for a cycle soon, saying why."""
    say_recorded: Callable[[str | None], None]
    """Says whether the end of an attempt could be recorded, or why not."""


@dataclass(slots=True)
class Attempt:
    """What one attempt knows of itself while it goes on."""

    claim: Claim
    script: Script
    env: Env
    surroundings: Surroundings
    hand: Hand
    others_wait: Callable[[], bool]
    began: float = field(default_factory=time.perf_counter)
    windows: int = 0
    rows: int = 0
    covered: tuple[Window, ...] = ()
    """All finished windows, touching ones as one; the end is recorded with them."""
    uncovered: tuple[Window, ...] = ()
    """Those of them that are not in the ledger yet."""
    covered_at: float = 0.0
    """When the ledger last had them all."""

    def note_finished(self, window: Window) -> None:
        """A window was worked through."""
        self.covered = joined(self.covered, window)
        self.uncovered = joined(self.uncovered, window)


async def attempt_run(
    parts: Parts,
    listed: Listed,
    script: Script,
    env: Env,
    *,
    redactor: Redactor,
    slot: Taken,
    others_wait: Callable[[], bool],
) -> Outcome | Refusal:
    """Claim a listed run, work on it until it is covered or cannot go on, and record the end.

    While ``others_wait`` it gives its place back after a slice.

    Raises: Unreachable, when the claim could not be asked for.
    """
    claim = await parts.claims.claim(listed, script.content_hash)
    if isinstance(claim, Refusal):
        return claim
    task = asyncio.current_task()
    assert task is not None
    hand = parts.hands.take(claim, task)
    surroundings = Surroundings(
        partial(cache_folder, parts.cache_root, claim.key.tenant_id, claim.key.source),
        parts.allowed,
        hand.report_progress,
    )
    attempt = Attempt(claim, script, env, surroundings, hand, others_wait)
    redacting = current_redactor.set(redactor)
    tenant_id, source, script_name = claim.key
    logging = current_fields.set(
        {"tenant_id": tenant_id, "source": source, "script": script_name, "fence": claim.fence}
    )
    try:
        ending = await _work(parts, attempt)
        hand.recording = True
        slot.give_back()  # nothing of the script goes on; while this is recorded others may
        await _record(parts, attempt, ending)
        _report(attempt, ending, time.perf_counter() - attempt.began)
        return ending.outcome
    finally:
        current_fields.reset(logging)
        current_redactor.reset(redacting)
        parts.hands.drop(hand)


async def _work(parts: Parts, attempt: Attempt) -> Ending:
    """Every window, and the ending that follows from how it went.  Raises nothing."""
    reason: str | None = None
    error: BaseException | None = None
    until = None
    try:
        covered = await _cover_windows(parts, attempt)
        outcome = Outcome.COMPLETED if covered else Outcome.YIELDED
    except asyncio.CancelledError:
        # Asked for by the heartbeat or the drain; from here on the record must go through.
        outcome = attempt.hand.cancelled_as or Outcome.CANCELLED
        attempt.hand.task.uncancel()
    except Waits as wait:
        outcome, reason, until = Outcome.WAITING, wait.reason, wait.until
    except LeaseLost as lost:
        outcome, reason = Outcome.LOST, lost.why
    except ScriptTimedOut as late:
        outcome, error = Outcome.TIMED_OUT, late
    except Exception as failure:
        outcome, error = Outcome.FAILED, failure
    follows = after_attempt(
        outcome,
        failures=attempt.claim.failures,
        interval=attempt.script.interval,
        tick=parts.tick,
        jitter=random.uniform(-1, 1) if error else 0.0,  # noqa: S311 - spreads retries, no secret
        wait_until=until,
    )
    said = None
    if error is not None:
        reason = error.code if isinstance(error, HarvestdError) else type(error).__name__
        try:
            said = summary(error)
            log.warning("script_failed", code=reason, reason=said, exc_info=error)
        except BaseException as second:  # a script's exception may raise when it is looked at
            log.warning("script_failed", code=reason, reason=type(second).__name__)
    return Ending(
        outcome=outcome,
        follows=follows,
        covered=attempt.covered,
        windows=attempt.windows,
        rows=attempt.rows,
        reason=_stored(reason),
        error=_stored(said),
        plugin_hash=attempt.script.content_hash,
    )


def _stored(text: str | None) -> str | None:
    """``text`` redacted and escaped.

    PostgreSQL stores no NUL and no lone surrogate, and one such text would cost every attempt
    that is recorded by the same statement.
    """
    return escape(current_redactor.get().clean(text, ERROR_CHARS_MAX)) if text else None


async def _cover_windows(parts: Parts, attempt: Attempt) -> bool:
    """Call run() for window after window until the ledger reaches what was due at the claim.

    False when the slice was over before, and others wait.
    """
    claim, script = attempt.claim, attempt.script
    used_db = False
    for due in due_windows(
        claim.ledger,
        until=window_end(claim.started_at, script.visibility_lag),
        width=script.width,
        lookback=script.lookback,
        catch_up=script.catch_up,
    ):
        if attempt.windows and _slice_is_over(parts, attempt):
            return False
        # Windows in which nothing was asked of the database may as well be read again: they are
        # covered a second's worth at once, the others before the next one begins.
        if attempt.uncovered and (used_db or _covered_long_ago(attempt)):
            await parts.claims.cover(claim, attempt.uncovered)
            attempt.uncovered = ()
            attempt.covered_at = time.perf_counter()
        if parts.hands.in_doubt():  # since the claim, or the last window
            raise LeaseLost(str(claim.key))
        used_db = await _call(parts, attempt, due)
        attempt.windows += 1
        attempt.note_finished(due.covers)
    return True


def _slice_is_over(parts: Parts, attempt: Attempt) -> bool:
    used = time.perf_counter() - attempt.began
    return used >= parts.slice.total_seconds() and attempt.others_wait()


def _covered_long_ago(attempt: Attempt) -> bool:
    return time.perf_counter() - (attempt.covered_at or attempt.began) >= COVER_SECONDS


async def _call(parts: Parts, attempt: Attempt, due: DueWindow) -> bool:
    """One call of run(), within its time limit: whether it asked anything of the database.

    What it wrote counts even if it fails.
    """
    claim, script = attempt.claim, attempt.script
    binding = Binding(
        key=claim.key,
        run_no=claim.run_no,
        fence=claim.fence,
        handed_from=due.handed.start if script.catch_up else None,
        covers=due.covers if script.catch_up else None,
    )
    fenced = Fenced(parts.seats, binding)
    db = Db(fenced, parts.shapes)
    rows_before = attempt.rows
    attempt.hand.count_rows = lambda: rows_before + rows_written_by(db)
    call = Call(
        script=script,
        key=claim.key,
        window=due.handed,
        env=attempt.env,
        db=db,
        surroundings=attempt.surroundings,
        seconds_max=(script.timeout or parts.timeout).total_seconds(),
    )
    executor = parts.executors[script.isolation or "inline"]
    began = time.perf_counter()
    try:
        await executor.run(call)
    finally:
        seconds = time.perf_counter() - began
        metrics.of_script(claim.key.source, claim.key.script).window_seconds.observe(seconds)
        await fenced.end()
        attempt.rows += rows_written_by(db)
    return fenced.used


async def _record(parts: Parts, attempt: Attempt, ending: Ending) -> None:
    claim = attempt.claim
    try:
        if ending.outcome is not Outcome.LOST and await parts.claims.record(claim, ending):
            parts.say_recorded(None)
            return
        # Somebody raised the fence: what was loaded stays, the run is due again for its holder.
        metrics.CLAIMS_LOST.inc()
        log.warning("run_lost", reason=ending.reason or "the fence has grown")
        await parts.claims.give_back([claim.run_no])
        # The change that took it from us may have woken a cycle before this moment.
        parts.ask_cycle("a run was given back")
    except DatabaseError as error:
        # The row stays ours and RUNNING; the next cycle finds it not in hand and gives it back.
        report_database_error(error, "an attempt was not recorded")
        parts.say_recorded(f"the end of an attempt was not recorded: {error}")


def _report(attempt: Attempt, ending: Ending, seconds: float) -> None:
    key = attempt.claim.key
    of_script = metrics.of_script(key.source, key.script)
    of_script.runs[ending.outcome].inc()
    of_script.seconds.observe(seconds)
    if attempt.rows:
        of_script.rows.inc(attempt.rows)
    of_script.windows.inc(attempt.windows)
    failed = ending.outcome in {Outcome.FAILED, Outcome.TIMED_OUT}
    kept = matters(attempt.claim, ending)
    if not (failed or kept or shows("debug")):
        return
    write = log.warning if failed else log.info if kept else log.debug
    write(
        "run_finished",
        outcome=ending.outcome.value,
        rows_written=attempt.rows,
        windows=attempt.windows,
        duration_seconds=round(seconds, 3),
        reason=ending.reason,
    )


def cache_folder(root: Path, tenant_id: str, source: str) -> Path:
    """Where a tenant's data source may keep files; named by a hash, since ids are any text."""
    name = hashlib.sha256(f"{len(tenant_id)}:{tenant_id}/{source}".encode()).hexdigest()[:32]
    return root / source / name
