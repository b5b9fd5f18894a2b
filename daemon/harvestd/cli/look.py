"""`harvestd status`: what runs, waits and fails, and why."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from harvestd import __version__
from harvestd.cli import explain
from harvestd.cli.configure import print_tenants
from harvestd.cli.names import is_paused, note_paused, overview_of, refuse_unknown_tenant
from harvestd.cli.output import (
    count,
    lasting,
    minute,
    note,
    print_json,
    print_rows,
    print_told,
    span,
)
from harvestd.cli.reach import Work, changing_database, command_settings
from harvestd.cli.watching import check_watch, redraw
from harvestd.database.pool import Database
from harvestd.runs.heartbeat import RENEWALS_PER_LEASE
from harvestd.service.status import KeySet, Overview, ReplicaSeen, RunSeen, Status, TenantSeen

TENANTS_SHOWN = 20
HOUSES_NOBODY = "home of nobody (it drains, runs once, or its cycles fail: its log says which)"


Call = Callable[[Work[Any]], Any]
"""Asks the database; from `changing_database`."""


def show_status(tenant_id: str | None, *, watch: float | None, as_json: bool) -> int:
    """The installation, or a tenant; once, or again every ``watch`` seconds; the exit code."""
    if watch is not None:
        check_watch(watch, as_json=as_json)
    with changing_database(only_look=True) as call:
        if watch is not None:
            return redraw(lambda: _show(call, tenant_id, as_json=False), watch)
        return _show(call, tenant_id, as_json=as_json)


def _show(call: Call, tenant_id: str | None, *, as_json: bool) -> int:
    if tenant_id is not None:
        return _show_tenant(call, tenant_id, as_json=as_json)

    async def ask(database: Database) -> tuple[Overview, list[ReplicaSeen], list[TenantSeen]]:
        status = Status(database)
        return (
            await overview_of(status),
            await status.count_tenants(await status.replicas()),
            await status.tenants(TENANTS_SHOWN),
        )

    overview, replicas, tenants = call(ask)
    if as_json:
        print_json(
            {
                "version": __version__,
                "reader": overview.reader,
                "overview": overview,
                "replicas": replicas,
                "tenants": tenants,
            }
        )
        return 0
    lease = command_settings().lease_seconds
    print(f"harvestd {__version__} on PostgreSQL {overview.server_version}")
    print(f"reader role: {overview.reader}")
    for replica in replicas:
        print(_replica_line(replica, lease))
    if not replicas:
        print("replicas: none is running; harvestd run starts one")
    states = [
        f"{number} {word}"
        for word in ("running", "pending", "waiting", "completed", "failed", "blocked")
        if (number := getattr(overview, word))
    ]
    said = f": {', '.join(states)}" if states else ""
    print(f"runs: {overview.runs:,}{said}; {overview.due:,} due; {overview.retired:,} retired")
    behind = lasting(overview.lag_seconds)
    print(f"rows written: {overview.rows_written:,}" + (f"; {behind} behind" if behind else ""))
    if tenants:
        print()
        print_tenants(tenants)
    for replica in replicas:
        for problem in replica.plugin_problems:
            print()
            print_told(f"{replica.host} pid {replica.pid} cannot use", explain.as_told(problem))
    if troubled := [one.id for one in tenants if one.failed or one.blocked or one.waiting]:
        print()
        print(f"why, and what to do: harvestd status {shlex.quote(troubled[0])}")
    if overview.paused:
        note(f"{count(overview.paused, 'tenant')} paused: nothing of them runs")
    if overview.tenants > len(tenants):
        note(f"{overview.tenants:,} tenants; harvestd tenant list shows more")
    return 0


def _replica_line(replica: ReplicaSeen, lease: float) -> str:
    heard = f"heard of {lasting(replica.silent_seconds)} ago"
    homes = f"home of {count(replica.tenants or 0, 'tenant')}" if replica.houses else HOUSES_NOBODY
    line = (
        f"replica: {replica.host} pid {replica.pid}, {heard}, {homes}, "
        f"holds {count(replica.holds, 'run')}"
    )
    return line + _freed_in(replica.silent_seconds, replica.lease_seconds or lease)


def _freed_in(silent_seconds: float | None, lease: float) -> str:
    """What becomes of the runs of a holder that missed a heartbeat; nothing said while it is well.

    ``lease`` is the holder's own, or of one that does not say it this process's setting.
    """
    if silent_seconds is None or silent_seconds <= 1.5 * lease / RENEWALS_PER_LEASE:
        return ""
    left = lease - silent_seconds
    if left > 0:
        return f" (silent; its runs are free in {lasting(left)} unless it comes back)"
    return " (gone; the next replica that runs takes its runs)"


def _show_tenant(call: Call, tenant_id: str, *, as_json: bool) -> int:
    async def ask(database: Database) -> tuple[bool, list[RunSeen], list[KeySet]]:
        status = Status(database)
        await refuse_unknown_tenant(status, tenant_id)
        return (
            await is_paused(status, tenant_id),
            await status.runs_of(tenant_id),
            await status.keys_set(tenant_id),
        )

    paused, runs, keys = call(ask)
    if as_json:
        seen = [explain.as_json(run) for run in runs]
        print_json({"tenant_id": tenant_id, "paused": paused, "runs": seen})
        return 0
    if paused:
        note_paused(tenant_id)
    if not runs:
        note(_without_runs(tenant_id, sorted({key.data_source for key in keys})))
        return 0
    print_runs(runs, paused=paused)
    return 0


def print_runs(runs: Sequence[RunSeen], *, paused: bool) -> None:
    """The table of a tenant's runs, and below it why each that does not go on does not."""
    lease = command_settings().lease_seconds
    print_rows(
        ("script", "status", "covered", "behind", "rows", "started", "next"),
        [
            (
                f"{run.data_source}/{run.script}",
                explain.word_of(run),
                span(run.covered_from, run.covered_to),
                lasting(run.lag_seconds),
                run.rows_written,
                run.started_at,
                _next(run, lease, paused=paused),
            )
            for run in runs
        ],
        folded=("covered", "started", "next"),
    )
    for run in runs:
        if (reason := explain.reason_of(run)) is not None:
            print()
            print_told(f"{run.data_source}/{run.script} {explain.word_of(run)}", reason)


def _without_runs(tenant_id: str, sources: list[str]) -> str:
    if not sources:
        return (
            f"tenant {tenant_id} has no configuration; harvestd config set "
            f"{shlex.quote(tenant_id)} SOURCE KEY"
        )
    return (
        f"tenant {tenant_id} has no runs yet; the next cycle makes them, where a plugin provides "
        f"its data sources: {', '.join(sources)}"
    )


def _holder(run: RunSeen, lease: float) -> str:
    if run.silent_seconds is None:
        return ", which nobody knows; any replica's next cycle frees it"
    heard = f", heard of {lasting(run.silent_seconds)} ago"
    return heard + _freed_in(run.silent_seconds, run.lease_seconds or lease)


def _next(run: RunSeen, lease: float, *, paused: bool) -> str:
    """What happens next to a run, and when."""
    if run.retired:
        return "its configuration is gone; progress is kept"
    if run.held_by:
        return f"held by {run.held_by}{_holder(run, lease)}"
    if paused or run.blocked_by or run.stopped:
        return "paused" if paused else "see below"
    again = "now" if run.due_seconds <= 0 else f"in {lasting(run.due_seconds)}"
    match run.status:
        case "WAITING":
            return f"until {minute(run.waits_until)}" if run.waits_until else f"again {again}"
        case "FAILED":
            return f"again {again}"
        case _:
            due = "" if run.due_seconds <= 0 else f"due {again}"
            return due
