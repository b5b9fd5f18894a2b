"""`harvestd verify`: OK, or the exact place where what is stored contradicts itself."""

from __future__ import annotations

from datetime import timedelta

from harvestd.cli.names import refuse_unknown_tenant
from harvestd.cli.output import (
    DONE,
    FAILED,
    count,
    lasting,
    minute,
    note,
    plain,
    print_json,
    print_told,
)
from harvestd.cli.reach import ask_database, command_settings
from harvestd.database.pool import Database
from harvestd.errors import HarvestdError
from harvestd.service.status import Status
from harvestd.service.verifying import Fault, Verified, verify


def see_verified(tenant_id: str | None, *, as_json: bool) -> int:
    """Verify all runs, or a tenant's; the exit code: 1 if something is wrong."""
    settings = command_settings()
    grace = timedelta(seconds=settings.lease_seconds + settings.interval_seconds)

    async def ask(database: Database) -> Verified:
        if tenant_id is not None:
            await refuse_unknown_tenant(Status(database), tenant_id)
        return await verify(database, tenant_id, grace=grace)

    seen = ask_database(ask)
    if as_json:
        print_json(seen)
    else:
        _print(seen)
    return FAILED if seen.faults else DONE


def _print(seen: Verified) -> None:
    for fault in seen.faults:
        told = HarvestdError(fault.what, why=fault.why, next_step=fault.next_step)
        print_told(f"{_place(fault)} {fault.kind}".lstrip(), told)
    told_of = {kind: sum(fault.kind == kind for fault in seen.faults) for kind in seen.counts}
    for kind, number in seen.counts.items():
        if number > told_of[kind]:
            print(plain(f"and {number - told_of[kind]:,} more {kind}"))
    print(
        f"looked at {count(seen.runs, 'run')}, {count(seen.attempts, 'attempt')} and "
        f"{count(seen.bindings, 'binding')}, as of {minute(seen.now)}"
    )
    if seen.holes:
        print(
            f"known to be missing, no fault: {count(seen.holes, 'hole')} in "
            f"{count(seen.gapped, 'run')}, {lasting(seen.hole_seconds)} of source time together; "
            "harvestd gaps lists them, and they are read by themselves"
        )
    print(f"{count(sum(seen.counts.values()), 'fault')} found" if seen.faults else "OK")
    for text in seen.not_proved:
        note(f"not shown by this: {text}")


def _place(fault: Fault) -> str:
    if fault.tenant_id is None:
        return ""
    return f"{fault.tenant_id} {fault.data_source}/{fault.script}"
