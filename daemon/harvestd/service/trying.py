"""`harvestd try`: one call of a script on the real database, of which nothing is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from harvestd.catalog.script import Script
from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError
from harvestd.execution.executor import Call
from harvestd.execution.inline import InlineExecutor
from harvestd.loading.trial import Seen, foreign_tables, trial
from harvestd.observing.logs import current_fields
from harvestd.observing.redaction import Redactor, current_redactor
from harvestd.observing.tracebacks import describe, summary
from harvestd.plugin import Surroundings
from harvestd.settings import Settings
from harvestd.tenants.config import Env
from harvestd.terms import RunKey, Window


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be tried, and for whom."""

    key: RunKey
    script: Script
    window: Window
    env: Env
    plain_keys: frozenset[str]
    rows_max: int
    """Rows of each table to be shown."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How a trial went.  ``error`` is redacted; ``places`` are file:line, the innermost last."""

    seen: Seen
    error: str | None = None
    places: tuple[str, ...] = ()


async def try_script(
    database: Database,
    roles: Roles,
    settings: Settings,
    asked: Asked,
    *,
    cache_folder: Path,
    report_progress: Callable[[int, int | None], None],
) -> Tried:
    """Call run() once and see what it would have left.  Raises: Unreachable, DatabaseError."""
    allowed = {"local_repositories"} if settings.allow_local_repositories else set()
    limit = asked.script.timeout or timedelta(seconds=settings.run_timeout_seconds)
    redacting = current_redactor.set(Redactor(asked.env.secret_values(asked.plain_keys)))
    try:
        async with trial(
            database, roles, asked.key, asked.window, checkpoints=asked.script.catch_up
        ) as going:
            call = Call(
                script=asked.script,
                key=asked.key,
                window=asked.window,
                env=asked.env,
                db=going.db,
                surroundings=Surroundings(
                    lambda: cache_folder, frozenset(allowed), report_progress
                ),
                seconds_max=limit.total_seconds(),
            )
            failure = await _call(call)
            await going.end()
            seen = await going.see(rows_max=asked.rows_max)
            failure = failure or _afterthought(seen, asked.key.source)
        if failure is None:
            return Tried(seen)
        return Tried(seen, _clean(summary(failure)), _places(failure))
    finally:
        current_redactor.reset(redacting)


async def _call(call: Call) -> Exception | None:
    """What run() raised, if it did."""
    logging = current_fields.set(call.key._asdict())
    try:
        await InlineExecutor().run(call)
    except Exception as error:
        return error
    finally:
        current_fields.reset(logging)
    return None


def _afterthought(seen: Seen, source: str) -> HarvestdError | None:
    """What a real run would have refused, or not kept, though the trial went through."""
    if seen.ended:
        return HarvestdError(
            "the script's own SQL ended the transaction",
            why="COMMIT and ROLLBACK are the facade's; what it wrote cannot be shown",
            next_step="leave transactions to db.transaction()",
        )
    if others := foreign_tables(seen.tables, source):
        return HarvestdError(
            f"it writes to {', '.join(others)}",
            why="a real run is refused there: each script writes to its own data source's schema",
            next_step="write to tables of its own; those of others can be read",
        )
    return None


def _clean(text: str) -> str:
    return current_redactor.get().clean(text, 4_000)


def _places(error: BaseException) -> tuple[str, ...]:
    places: list[str] = []
    for described in describe(error):
        at = described.get("at")
        places += at if isinstance(at, list) else []
    return tuple(map(str, places))
