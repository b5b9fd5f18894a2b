"""`harvestd backfill`: a stretch of source time is read again."""

from __future__ import annotations

from collections.abc import Sequence

from harvestd.catalog.script import Script
from harvestd.cli.moments import stretch
from harvestd.cli.names import (
    is_paused,
    note_keyless,
    note_paused,
    refuse_unknown_names,
    runs_chosen,
)
from harvestd.cli.output import (
    NOBODY_RUNS,
    UsageError,
    confirm,
    count,
    lasting,
    minute,
    note,
    print_json,
    print_rows,
)
from harvestd.cli.plugins import read_catalog
from harvestd.cli.reach import changing_database, command_settings
from harvestd.database.pool import Database
from harvestd.service.acts import Acts, Backfilled, Rereading, RunsChosen
from harvestd.service.status import Status
from harvestd.terms import Window


def backfill_runs(
    asked: RunsChosen,
    since: str | None,
    until: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Take a stretch out of the ledgers; the exit code."""
    if since is None:
        raise UsageError(
            "backfill needs --from",
            why="it reads a stretch of source time again, and that begins somewhere",
            next_step="harvestd backfill --from 14d --tenant TENANT --dry-run",
        )
    catalog = read_catalog(command_settings())
    scripts = catalog.scripts_of(catalog.sources)

    async def look(database: Database) -> tuple[Window, list[Rereading], list[str], bool, bool]:
        status, acts = Status(database), Acts(database)
        window = stretch(since, until, await status.now())
        if asked.tenant_id is None:
            await refuse_unknown_names(status, asked.source, asked.script)
            paused = False
        else:
            await runs_chosen(status, asked.tenant_id, asked.source, asked.script)
            paused = await is_paused(status, asked.tenant_id)
        rereading = await acts.preview_backfill(asked, window, scripts)
        keyless = await acts.keyless_tables(one.data_source for one in rereading)
        return window, rereading, keyless, paused, bool(await status.replicas())

    with changing_database(only_look=dry_run) as call:
        window, rereading, keyless, paused, alive = call(look)

        async def act(database: Database) -> list[Backfilled]:
            return await Acts(database).backfill(asked, window)

        if not as_json:
            _print(rereading, window, scripts)
        note_keyless(keyless)
        done: list[Backfilled] = []
        if rereading and not dry_run:
            confirm(
                _question(asked, window, rereading),
                yes=yes,
                needed_elsewhere=asked.tenant_id is None,
                what="backfill",
            )
            done = call(act)
    if as_json:
        print_json(_document(asked, window, rereading, dry_run=dry_run))
    elif dry_run:
        note("nothing was changed (--dry-run)")
    elif done:
        note(f"due now: {count(sum(one.runs for one in done), 'run')}")
        if held := sum(one.held for one in done):
            note(f"under way, will be given up and begun again: {count(held, 'run')}")
    if asked.tenant_id is not None and paused:
        note_paused(asked.tenant_id)
    if rereading and not alive:
        note(NOBODY_RUNS)
    return 0


def _print(rereading: Sequence[Rereading], window: Window, scripts: Sequence[Script]) -> None:
    if not rereading:
        note(
            f"nothing of {minute(window.start)} – {minute(window.end)} was read yet by these runs, "
            "so there is nothing to read again"
        )
        return
    print_rows(
        ("script", "tenants", "runs", "under way", "source time again", "windows"),
        [
            (
                f"{one.data_source}/{one.script}",
                one.tenants,
                one.runs,
                one.held,
                lasting(one.seconds),
                one.windows,
            )
            for one in rereading
        ],
    )
    if any(one.windows is None for one in rereading):
        note("windows are counted only for scripts that a plugin folder here has")
    snapshots = {f"{script.name}" for script in scripts if not script.catch_up}
    again = [name for one in rereading if (name := f"{one.data_source}/{one.script}") in snapshots]
    if again:
        note(
            f"snapshots ({', '.join(again)}) list everything in one window, whatever the stretch: "
            "each is run once more, and goes by its own bookmarks, which stay"
        )
    if earlier := sum(one.before_origin for one in rereading):
        note(
            f"the origin of {count(earlier, 'run')} moves back to {minute(window.start)}: all "
            "source time from there on is read"
        )
    if rewound := sum(one.rewound for one in rereading):
        note(
            f"{count(rewound, 'run')}: the newest data too is read again, before anything new; "
            "with an earlier --to new data would come first"
        )


def _question(asked: RunsChosen, window: Window, rereading: Sequence[Rereading]) -> str:
    runs = sum(one.runs for one in rereading)
    tenants = max(one.tenants for one in rereading)
    whose = f"of {asked.tenant_id}" if asked.tenant_id else f"of EVERY tenant (up to {tenants:,})"
    known = [one.windows for one in rereading if one.windows is not None]
    return (
        f"This reads {minute(window.start)} – {minute(window.end)} again for {count(runs, 'run')} "
        f"{whose}: {lasting(sum(one.seconds for one in rereading))} of source time in about "
        f"{count(sum(known), 'window')}. Loaded rows stay."
    )


def _document(
    asked: RunsChosen, window: Window, rereading: Sequence[Rereading], *, dry_run: bool
) -> dict[str, object]:
    return {
        "tenant_id": asked.tenant_id,
        "data_source": asked.source,
        "script": asked.script,
        "from": window.start,
        "to": window.end,
        "dry_run": dry_run,
        "runs": rereading,
    }
