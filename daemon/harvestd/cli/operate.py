"""`harvestd trigger` and `reset`: what an operator changes about runs."""

from __future__ import annotations

from harvestd.cli.names import runs_chosen
from harvestd.cli.output import UsageError, confirm, count, note, print_json
from harvestd.cli.reach import change_database, changing_database
from harvestd.database.pool import Database
from harvestd.service.acts import Acts, Chosen
from harvestd.service.status import RunSeen, Status


def trigger_runs(
    tenant_id: str | None, source: str | None, script: str | None, *, as_json: bool
) -> int:
    """Run now; the exit code."""
    if tenant_id is None and (source or script):
        raise UsageError(
            "--source and --script need a TENANT",
            why="without a tenant every run of every tenant is meant",
            next_step="harvestd trigger TENANT --source SOURCE, or harvestd trigger",
        )

    async def act(database: Database) -> tuple[list[Chosen], bool | None, bool]:
        status, acts = Status(database), Acts(database)
        chosen: list[Chosen] = []
        paused: bool | None = False
        if tenant_id is None:
            await acts.trigger_all()
        else:
            await runs_chosen(status, tenant_id, source, script)
            chosen = await acts.trigger(tenant_id, source, script)
            paused = await status.is_paused(tenant_id)
        return chosen, paused, bool(await status.replicas())

    chosen, paused, alive = change_database(act)
    due = [str(one.name) for one in chosen if not one.held]
    under_way = [str(one.name) for one in chosen if one.held]
    if as_json:
        print_json({"tenant_id": tenant_id, "due": due, "under_way": under_way})
    elif tenant_id is None:
        note("a cycle over every run was asked for")
    else:
        note(f"due now: {', '.join(due) or 'none'}")
        if under_way:
            note(f"under way already: {', '.join(under_way)}")
    if paused:
        note(f"tenant {tenant_id} is paused: nothing of it runs until it is resumed")
    if not alive:
        note("no replica is running: harvestd run takes them up")
    return 0


def reset_runs(
    tenant_id: str, source: str | None, script: str | None, *, yes: bool, as_json: bool
) -> int:
    """Forget progress; the exit code."""

    chosen = (tenant_id, source, script)
    with changing_database() as call:
        runs: list[RunSeen] = call(lambda database: runs_chosen(Status(database), *chosen))
        names = ", ".join(f"{run.data_source}/{run.script}" for run in runs)
        question = (
            f"This forgets how far {count(len(runs), 'run')} of {tenant_id} came ({names}): "
            "everything is read again. Loaded rows stay."
        )
        confirm(question, yes=yes, needed_elsewhere=True, what="reset")
        reset: list[Chosen] = call(lambda database: Acts(database).reset(*chosen))
    if as_json:
        print_json({"tenant_id": tenant_id, "reset": [str(one.name) for one in reset]})
        return 0
    note(f"reset: {', '.join(str(one.name) for one in reset)}")
    if held := [str(one.name) for one in reset if one.held]:
        note(f"under way, will be given up and begun again: {', '.join(held)}")
    return 0
