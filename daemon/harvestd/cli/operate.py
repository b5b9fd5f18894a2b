"""`harvestd trigger` and `reset`: what an operator changes about runs."""

from __future__ import annotations

from harvestd.cli.names import is_paused, note_keyless, note_paused, runs_chosen
from harvestd.cli.output import NOBODY_RUNS, UsageError, confirm, count, note, print_json
from harvestd.cli.reach import changing_database
from harvestd.database.pool import Database
from harvestd.service.acts import Acts, Chosen
from harvestd.service.status import Overview, RunSeen, Status
from harvestd.terms import ScriptName


def trigger_runs(
    tenant_id: str | None, source: str | None, script: str | None, *, dry_run: bool, as_json: bool
) -> int:
    """Run now; the exit code."""
    if tenant_id is None and (source or script):
        raise UsageError(
            "--source and --script need a TENANT",
            why="without a tenant every run of every tenant is meant",
            next_step="harvestd trigger TENANT --source SOURCE, or harvestd trigger",
        )

    async def act(database: Database) -> tuple[list[Chosen], bool, bool, Overview | None]:
        status, acts = Status(database), Acts(database)
        chosen: list[Chosen] = []
        paused, whole = False, None
        if tenant_id is None:
            whole = await status.overview()
        else:
            runs = await runs_chosen(status, tenant_id, source, script)
            chosen = [_chosen(run) for run in runs if not run.retired]
            paused = await is_paused(status, tenant_id)
        if not dry_run:
            if tenant_id is None:
                await acts.trigger_all()
            else:
                chosen = await acts.trigger(tenant_id, source, script)
        return chosen, paused, bool(await status.replicas()), whole

    with changing_database(only_look=dry_run) as call:
        chosen, paused, alive, whole = call(act)
    due = [str(one.name) for one in chosen if not one.held]
    under_way = [str(one.name) for one in chosen if one.held]
    if as_json:
        print_json({"tenant_id": tenant_id, "due": due, "under_way": under_way, "dry_run": dry_run})
    elif tenant_id is None:
        note(f"{_cycle_over(whole)} {'would be' if dry_run else 'was'} asked for")
    else:
        note(f"{'would be due' if dry_run else 'due'} now: {', '.join(due) or 'none'}")
        if under_way:
            note(f"under way already: {', '.join(under_way)}")
    if tenant_id is not None and paused:
        note_paused(tenant_id)
    if not alive:
        note(NOBODY_RUNS)
    return 0


def _cycle_over(whole: Overview | None) -> str:
    """What a forced cycle takes: a run that waits for a date goes on waiting."""
    if whole is None:
        return "a cycle over every run"
    paused = f" ({count(whole.paused, 'tenant')} paused, left out)" if whole.paused else ""
    return f"a cycle over all {count(whole.runs, 'run')}{paused}, but those that wait for a date,"


def reset_runs(
    tenant_id: str,
    source: str | None,
    script: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Forget progress; the exit code."""

    async def look(database: Database) -> tuple[list[RunSeen], list[str], bool]:
        status = Status(database)
        runs = await runs_chosen(status, tenant_id, source, script)
        keyless = await Acts(database).keyless_tables(run.data_source for run in runs)
        return runs, keyless, bool(await status.replicas())

    async def act(database: Database) -> list[Chosen]:
        return await Acts(database).reset(tenant_id, source, script)

    with changing_database(only_look=dry_run) as call:
        runs, keyless, alive = call(look)
        note_keyless(keyless)
        names = ", ".join(f"{run.data_source}/{run.script}" for run in runs)
        question = (
            f"This forgets how far {count(len(runs), 'run')} of {tenant_id} came ({names}): "
            "everything is read again. Loaded rows stay."
        )
        if dry_run:
            reset = [_chosen(run) for run in runs]
        else:
            confirm(question, yes=yes, needed_elsewhere=True, what="reset")
            reset = call(act)
    if as_json:
        names_reset = [str(one.name) for one in reset]
        print_json({"tenant_id": tenant_id, "reset": names_reset, "dry_run": dry_run})
        return 0
    note(f"{'would be ' if dry_run else ''}reset: {', '.join(str(one.name) for one in reset)}")
    if held := [str(one.name) for one in reset if one.held]:
        note(f"under way, will be given up and begun again: {', '.join(held)}")
    if not alive:
        note(NOBODY_RUNS)
    return 0


def _chosen(run: RunSeen) -> Chosen:
    """A run as it is, for what would be done to it."""
    return Chosen(ScriptName(run.data_source, run.script), run.held_by is not None)
