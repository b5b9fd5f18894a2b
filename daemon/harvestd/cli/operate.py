"""`harvestd migrate`, `status`, `trigger`, `reset` and `sql`."""

from __future__ import annotations

import asyncio
from typing import Any

from harvestd import __version__
from harvestd.catalog.snapshot import EMPTY, reload
from harvestd.cli.configure import print_tenants
from harvestd.cli.names import refuse_unknown_tenant, runs_chosen
from harvestd.cli.output import (
    UsageError,
    cell,
    confirm,
    count,
    lasting,
    minute,
    note,
    print_json,
    print_rows,
    say_error,
    span,
)
from harvestd.cli.reach import (
    ask_database,
    change_database,
    changing_database,
    command_settings,
    reached,
)
from harvestd.database.migrations import migrate
from harvestd.database.pool import Database
from harvestd.database.reading import Answer, read_as_reader
from harvestd.database.roles import Roles, ensure_roles
from harvestd.errors import HarvestdError, Unreachable
from harvestd.loading.schemas import apply_source_schema
from harvestd.observing.logs import configure
from harvestd.runs.heartbeat import RENEWALS_PER_LEASE
from harvestd.service.acts import Acts, Chosen
from harvestd.service.status import Overview, ReplicaSeen, RunSeen, Status, TenantSeen
from harvestd.settings import Settings

TENANTS_SHOWN = 20
ROWS_MAX = 1_000


def migrate_database() -> int:
    """Migrate, also what is only done when asked for; the exit code."""
    settings = command_settings()
    configure(settings)
    with reached(settings, own=False) as at:
        return asyncio.run(_migrate(settings, at.url))


async def _migrate(settings: Settings, url: str) -> int:
    database = Database(url)
    connection = await database.connect("migrate")
    try:
        applied = await migrate(connection, explicit=True, report=print)
        roles = await ensure_roles(connection)
    finally:
        await connection.close(timeout=2)
    refused = 0
    catalog = await asyncio.to_thread(reload, EMPTY, settings.plugin_dirs)
    for source in catalog.sources.values():
        if source.schema_sql is None or source.schema_hash is None:
            continue
        try:
            done = await apply_source_schema(
                database,
                roles,
                source=source.name,
                schema_sql=source.schema_sql,
                schema_hash=source.schema_hash,
            )
        except Unreachable:
            raise
        except HarvestdError as error:
            refused += 1
            say_error(error)
        else:
            if done:
                print(f"applied {source.name}/schema.sql")
    print("the database is up to date" if not applied else f"applied {len(applied)} migration(s)")
    return 1 if refused else 0


def show_status(tenant_id: str | None, *, as_json: bool) -> int:
    """The installation, or a tenant; the exit code."""
    if tenant_id is not None:
        return _show_tenant(tenant_id, as_json=as_json)

    async def ask(database: Database) -> tuple[Overview, list[ReplicaSeen], list[TenantSeen]]:
        status = Status(database)
        overview = await status.overview()
        if overview is None:
            raise HarvestdError(
                "nothing was ever started on this database",
                why="its roles are made by the first command that writes",
                next_step="harvestd tenant add, or harvestd run",
            )
        return overview, await status.replicas(), await status.tenants(TENANTS_SHOWN)

    overview, replicas, tenants = ask_database(ask)
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
    if overview.tenants > len(tenants):
        note(f"{overview.tenants:,} tenants; harvestd tenant list shows more")
    return 0


def _replica_line(replica: ReplicaSeen, lease: float) -> str:
    heard = f"heard of {lasting(replica.silent_seconds)} ago"
    line = (
        f"replica: {replica.host} pid {replica.pid}, {heard}, holds {count(replica.holds, 'run')}"
    )
    return line + _freed_in(replica.silent_seconds, lease)


def _freed_in(silent_seconds: float | None, lease: float) -> str:
    """What becomes of the runs of a holder that missed a heartbeat; nothing said while it is well.

    The lease is this process's setting: replicas share it, or should.
    """
    if silent_seconds is None or silent_seconds <= 1.5 * lease / RENEWALS_PER_LEASE:
        return ""
    left = lease - silent_seconds
    if left > 0:
        return f" (silent; its runs are free in {lasting(left)} unless it comes back)"
    return " (gone; the next replica that runs takes its runs)"


def _show_tenant(tenant_id: str, *, as_json: bool) -> int:
    async def ask(database: Database) -> tuple[bool, list[RunSeen]]:
        status = Status(database)
        await refuse_unknown_tenant(status, tenant_id)
        return await status.is_paused(tenant_id), await status.runs_of(tenant_id)

    paused, runs = ask_database(ask)
    if as_json:
        print_json({"tenant_id": tenant_id, "paused": paused, "runs": runs})
        return 0
    lease = command_settings().lease_seconds
    if paused:
        note(f"tenant {tenant_id} is paused: nothing of it runs")
    if not runs:
        note(f"tenant {tenant_id} has no runs yet; the next cycle makes them from its config")
        return 0
    print_rows(
        ("script", "status", "covered", "behind", "rows", "last started", "seconds", "why"),
        [
            (
                f"{run.data_source}/{run.script}",
                _state_of(run),
                span(run.covered_from, run.covered_to),
                lasting(run.lag_seconds),
                run.rows_written,
                run.started_at,
                run.seconds,
                _why(run, lease),
            )
            for run in runs
        ],
        folded=("covered", "last started", "why"),
    )
    return 0


def _state_of(run: RunSeen) -> str:
    if run.retired:
        return "retired"
    return "BLOCKED" if run.blocked_by else run.status


def _why(run: RunSeen, lease: float) -> str:
    """What a person wants to know next about a run."""
    if run.retired:
        return "its configuration is gone; progress is kept"
    if run.held_by:
        heard = f", heard of {lasting(run.silent_seconds)} ago"
        return f"held by {run.held_by}{heard}{_freed_in(run.silent_seconds, lease)}"
    if run.blocked_by:
        return f"needs {run.blocked_by}"
    again = "now" if run.due_seconds <= 0 else f"in {lasting(run.due_seconds)}"
    match run.status:
        case "WAITING":
            until = f"until {minute(run.waits_until)}" if run.waits_until else f"again {again}"
            return f"{run.reason or 'no reason was given'} ({until})"
        case "FAILED":
            return f"{run.error or run.reason or 'failed'} (again {again})"
        case _:
            due = "" if run.due_seconds <= 0 else f"due {again}"
            return (run.reason if run.status == "PENDING" else None) or due


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

    async def act(database: Database) -> tuple[list[Chosen], bool, bool]:
        status, acts = Status(database), Acts(database)
        chosen: list[Chosen] = []
        paused = False
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

    async def look(database: Database) -> list[RunSeen]:
        return await runs_chosen(Status(database), tenant_id, source, script)

    async def act(database: Database) -> list[Chosen]:
        return await Acts(database).reset(tenant_id, source, script)

    with changing_database() as call:
        runs: list[RunSeen] = call(look)
        names = ", ".join(f"{run.data_source}/{run.script}" for run in runs)
        question = (
            f"This forgets how far {count(len(runs), 'run')} of {tenant_id} came ({names}): "
            "everything is read again. Loaded rows stay."
        )
        confirm(question, yes=yes, needed_elsewhere=True, what="reset")
        reset: list[Chosen] = call(act)
    if as_json:
        print_json({"tenant_id": tenant_id, "reset": [str(one.name) for one in reset]})
        return 0
    note(f"reset: {', '.join(str(one.name) for one in reset)}")
    if held := [str(one.name) for one in reset if one.held]:
        note(f"under way, will be given up and begun again: {', '.join(held)}")
    return 0


def ask_query(query: str, *, as_json: bool) -> int:
    """One query over the data; the exit code."""

    async def ask(database: Database) -> Answer:
        overview = await Status(database).overview()
        if overview is None:
            raise HarvestdError(
                "nothing was ever started on this database", next_step="harvestd run"
            )
        connection = await database.connect("sql")
        try:
            return await read_as_reader(connection, Roles(overview.hex), query, rows_max=ROWS_MAX)
        finally:
            await connection.close(timeout=2)

    answer = ask_database(ask)
    if as_json:
        rows: list[Any] = [list(row) for row in answer.rows]
        print_json({"columns": answer.columns, "rows": rows, "cut": answer.cut})
    else:
        print_rows(answer.columns, [[_datum(value) for value in row] for row in answer.rows])
    if answer.cut:
        note(f"only the first {ROWS_MAX:,} rows are shown")
    return 0


def _datum(value: object) -> object:
    """A value of a query as the table's cells know it; null is empty."""
    return value if isinstance(value, (int, float)) or value is None else cell(value)
