"""`harvestd runs` and `harvestd gaps`: how far runs have come, by attempt and by source time."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta

from harvestd.catalog.script import Script
from harvestd.cli import explain
from harvestd.cli.look import print_runs
from harvestd.cli.names import (
    check_limit,
    is_paused,
    note_paused,
    refuse_unknown_tenant,
    runs_chosen,
)
from harvestd.cli.output import (
    count,
    lasting,
    minute,
    note,
    print_json,
    print_rows,
)
from harvestd.cli.plugins import read_catalog
from harvestd.cli.reach import ask_database, command_settings
from harvestd.database.pool import Database
from harvestd.service.status import AttemptSeen, Gaps, GapSeen, RunSeen, Status
from harvestd.terms import ScriptName

LIMITS = range(1, 100_001)
TENANTS_NAMED_MAX = 5
HELD_UP = ("BLOCKED", "FAILED", "WAITING")
"""What a table of gaps says of a run; the others read their gaps in their turn."""


def show_runs(
    tenant_id: str,
    source: str | None,
    script: str | None,
    *,
    history: bool,
    limit: int,
    as_json: bool,
) -> int:
    """A tenant's runs and, if wanted, their attempts; the exit code."""
    check_limit(limit, LIMITS, "harvestd runs TENANT --limit 20")

    async def ask(database: Database) -> tuple[bool, list[RunSeen], list[AttemptSeen]]:
        status = Status(database)
        runs = await runs_chosen(status, tenant_id, source, script)
        attempts = (
            await status.attempts_of(tenant_id, source, script, limit=limit) if history else []
        )
        return await is_paused(status, tenant_id), runs[:limit], attempts

    paused, runs, attempts = ask_database(ask)
    if as_json:
        document = {
            "tenant_id": tenant_id,
            "paused": paused,
            "runs": [explain.as_json(run) for run in runs],
        }
        print_json(document | ({"history": attempts} if history else {}))
        return 0
    if paused:
        note_paused(tenant_id)
    print_runs(runs, paused=paused)
    if len(runs) == limit:
        note(f"at most {count(limit, 'run')} shown; --limit N shows more")
    if history:
        print()
        _print_attempts(attempts, limit)
    return 0


def _print_attempts(attempts: list[AttemptSeen], limit: int) -> None:
    if not attempts:
        note("no attempt was kept yet; one that found nothing new is counted in its run only")
        return
    print_rows(
        ("script", "outcome", "started", "took", "windows", "rows", "why"),
        [
            (
                f"{one.data_source}/{one.script}",
                one.outcome,
                one.started_at,
                lasting(one.seconds),
                one.windows,
                one.rows_written,
                explain.as_told(one.error or one.reason or "").what,
            )
            for one in attempts
        ],
        folded=("started", "why"),
    )
    if len(attempts) == limit:
        note(f"only the newest {limit} are shown; --limit N shows more")


def show_gaps(tenant_id: str | None, *, limit: int, as_json: bool) -> int:
    """Source time that is not covered; the exit code."""
    check_limit(limit, LIMITS, "harvestd gaps --limit 50")
    settings = command_settings()
    catalog = read_catalog(settings)
    scripts = {script.name: script for script in catalog.scripts_of(catalog.sources)}
    tick = timedelta(seconds=settings.interval_seconds)

    async def ask(database: Database) -> Gaps:
        status = Status(database)
        if tenant_id is not None:
            await refuse_unknown_tenant(status, tenant_id)
        return await status.gaps(tenant_id, limit=limit)

    seen = ask_database(ask)
    kinds = [kind_of(gap, scripts, tick) for gap in seen.gaps]
    if as_json:
        gaps = [
            {
                "tenant_id": gap.tenant_id,
                "data_source": gap.data_source,
                "script": gap.script,
                "from": gap.from_at,
                "to": gap.to_at,
                "seconds": gap.seconds,
                "live": gap.live,
                "paused": gap.paused,
                "status": explain.word_of(gap),
                "kind": kind,
            }
            for gap, kind in zip(seen.gaps, kinds, strict=True)
        ]
        print_json({"holes": seen.holes, "live_gaps": seen.live_gaps, "gaps": gaps})
        return 0
    if not seen.gaps:
        note("no gap: there are no runs, or every run is covered up to this moment")
        return 0
    print_rows(
        ("tenant", "script", "size", "from", "to", "what"),
        [
            (
                gap.tenant_id,
                f"{gap.data_source}/{gap.script}",
                lasting(gap.seconds),
                minute(gap.from_at),
                "now" if gap.live else minute(gap.to_at),
                _what(gap, kind),
            )
            for gap, kind in zip(seen.gaps, kinds, strict=True)
        ],
        folded=("from", "to", "what"),
    )
    _explain_kinds(seen, kinds, limit)
    return 0


def _what(gap: GapSeen, kind: str) -> str:
    """The kind, and what keeps the run from reading it."""
    word = explain.word_of(gap)
    words = [kind, *([word] if word in HELD_UP else []), *(["paused"] if gap.paused else [])]
    return ", ".join(words)


def kind_of(gap: GapSeen, scripts: Mapping[ScriptName, Script], tick: timedelta) -> str:
    """One word or two for a gap; a live one is normal until its script's next run is due.

    That is its interval, then the tick that starts it, and what its upstream may be behind.
    """
    script = scripts.get(ScriptName(gap.data_source, gap.script))
    if not gap.live:
        return "hole"
    if script is None:
        return "live"
    normal = (script.interval or timedelta()) + tick + script.visibility_lag
    late = timedelta(seconds=gap.seconds) > normal
    name = "live" if script.catch_up else "snapshot's age"
    return f"{name}, late" if late else f"{name}, normal"


def _explain_kinds(seen: Gaps, kinds: list[str], limit: int) -> None:
    note(f"in all: {count(seen.holes, 'hole')}, {count(seen.live_gaps, 'live gap')}")
    if len(seen.gaps) == limit:
        note(f"only the biggest {limit} are shown; --limit N shows more")
    if any(kind.startswith("live") for kind in kinds):
        note(
            "live: from the newest data to now. It is never empty: it is normal up to the script's "
            "interval, one tick and its visibility_lag"
        )
    if "hole" in kinds:
        note(
            "hole: source time behind the newest data that is still to be read (a backfill, a "
            "ledger cut by hand); it is read after what is new"
        )
    if any(kind.startswith("snapshot") for kind in kinds):
        note("snapshot's age: its next run lists everything anew, however old the last one is")
    # dict: each tenant once, in the order of the table
    late = {
        gap.tenant_id: None for gap, kind in zip(seen.gaps, kinds, strict=True) if _stuck(gap, kind)
    }
    for tenant_id in list(late)[:TENANTS_NAMED_MAX]:
        note(f"why, and what to do: harvestd status {shlex.quote(tenant_id)}")
    if len(late) > TENANTS_NAMED_MAX:
        note(f"and so for {count(len(late) - TENANTS_NAMED_MAX, 'more tenant')}")


def _stuck(gap: GapSeen, kind: str) -> bool:
    return kind.endswith(", late") or (kind == "hole" and explain.word_of(gap) in HELD_UP)
