"""`harvestd tenant set`, `pause` and `resume`: how much of a tenant runs at once, or nothing."""

from __future__ import annotations

from harvestd.cli.names import checked_name, refuse_unknown_tenant
from harvestd.cli.output import NOBODY_RUNS, UsageError, note, print_json
from harvestd.cli.reach import changing_database
from harvestd.database.pool import Database
from harvestd.service.acts import Acts, Chosen
from harvestd.service.status import Status, TenantKept
from harvestd.terms import ScriptName

RUNS_MAX = range(1, 1025)
BY_SETTING = "default"


def set_tenant(
    tenant_id: str, name: str | None, runs_max: str | None, *, dry_run: bool, as_json: bool
) -> int:
    """Change a tenant's name or limit; the exit code."""
    if name is None and runs_max is None:
        raise UsageError(
            "nothing is given that tenant set could change",
            why="it changes the name and the limit of attempts at once",
            next_step=f"harvestd tenant set {tenant_id} --runs-max 8, or --name NAME",
        )
    if name:
        checked_name("tenant's name", name)
    limit = _limit(runs_max)

    async def act(database: Database) -> tuple[str, int | None]:
        before = await _known(Status(database), tenant_id)
        if dry_run:
            kept = before.runs_max if runs_max is None else limit
            return before.name if name is None else name, kept
        return await Acts(database).set_tenant(
            tenant_id, name=name, sets_limit=runs_max is not None, runs_max=limit
        )

    with changing_database(only_look=dry_run) as call:
        new_name, new_limit = call(act)
    if as_json:
        print_json(
            {
                "tenant_id": tenant_id,
                "name": new_name,
                "runs_max": new_limit,
                "dry_run": dry_run,
            }
        )
        return 0
    shown = new_limit or f"{BY_SETTING} (HARVESTD_TENANT_RUNS_MAX)"
    would = "would be" if dry_run else "is"
    note(f"tenant {tenant_id} {would}: name {new_name!r}, runs at once {shown}")
    return 0


def _limit(text: str | None) -> int | None:
    if text is None or text == BY_SETTING:
        return None
    if not text.isascii() or not text.isdigit() or int(text) not in RUNS_MAX:
        raise UsageError(
            f"--runs-max {text[:20]!r} is no limit",
            why=f"it must be {RUNS_MAX[0]} to {RUNS_MAX[-1]}, or '{BY_SETTING}'; a tenant that "
            "shall not run at all is paused",
            next_step="harvestd tenant set TENANT --runs-max 8, or harvestd tenant pause TENANT",
        )
    return int(text)


def pause_tenant(tenant_id: str, *, dry_run: bool, as_json: bool) -> int:
    """Start nothing of a tenant any more; the exit code."""

    async def act(database: Database) -> tuple[TenantKept, list[Chosen]]:
        status = Status(database)
        before = await _known(status, tenant_id)
        if not dry_run:
            return before, await Acts(database).pause(tenant_id)
        runs = await status.runs_of(tenant_id)
        held = [run for run in runs if run.held_by is not None]
        return before, [Chosen(ScriptName(run.data_source, run.script), held=True) for run in held]

    with changing_database(only_look=dry_run) as call:
        before, taken = call(act)
    names = [str(one.name) for one in taken]
    if as_json:
        _print_paused(tenant_id, paused=True, names=names, key="taken_back", dry_run=dry_run)
        return 0
    if before.paused:
        note(f"tenant {tenant_id} is paused already")
    else:
        would = "would be" if dry_run else "is"
        note(f"tenant {tenant_id} {would} paused: nothing of it runs until it is resumed")
    if names:
        note(f"under way, will be given up (what was committed stays): {', '.join(names)}")
    return 0


def resume_tenant(tenant_id: str, *, dry_run: bool, as_json: bool) -> int:
    """Let a paused tenant go on; the exit code."""

    async def act(database: Database) -> tuple[TenantKept, list[Chosen], bool]:
        status = Status(database)
        before = await _known(status, tenant_id)
        alive = bool(await status.replicas())
        if not dry_run:
            return before, await Acts(database).resume(tenant_id), alive
        runs = [run for run in await status.runs_of(tenant_id) if before.paused and not run.retired]
        names = [ScriptName(run.data_source, run.script) for run in runs]
        return before, [Chosen(name, held=False) for name in names], alive

    with changing_database(only_look=dry_run) as call:
        before, due, alive = call(act)
    names = [str(one.name) for one in due]
    if as_json:
        _print_paused(tenant_id, paused=False, names=names, key="due", dry_run=dry_run)
        return 0
    if not before.paused:
        note(f"tenant {tenant_id} is not paused; nothing was changed")
        return 0
    would = "would go on, due" if dry_run else "goes on, due"
    note(f"tenant {tenant_id} {would} now: {', '.join(names) or 'no run yet'}")
    if not alive:
        note(NOBODY_RUNS)
    return 0


def _print_paused(
    tenant_id: str, *, paused: bool, names: list[str], key: str, dry_run: bool
) -> None:
    print_json({"tenant_id": tenant_id, "paused": paused, key: names, "dry_run": dry_run})


async def _known(status: Status, tenant_id: str) -> TenantKept:
    await refuse_unknown_tenant(status, tenant_id)
    found = await status.tenant(tenant_id)
    assert found is not None
    return found
