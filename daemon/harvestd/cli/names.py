"""Names given on the command line, checked against what there is, with the nearest one named."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence

from harvestd.cli.output import Unknown, UsageError, count, note
from harvestd.errors import HarvestdError
from harvestd.service.status import Overview, RunSeen, Status

LISTED_MAX = 10
NAME_CHARS_MAX = 200


async def refuse_unknown_tenant(status: Status, tenant_id: str) -> None:
    """Raise Unknown, with the nearest id, for a tenant that is not there."""
    if await status.tenant(tenant_id) is None:
        there = await status.tenant_ids_like(tenant_id)
        raise unknown(
            "tenant", tenant_id, there, add=f"harvestd tenant add {shlex.quote(tenant_id)}"
        )


async def is_paused(status: Status, tenant_id: str) -> bool:
    """Whether somebody paused that tenant."""
    tenant = await status.tenant(tenant_id)
    return tenant is not None and tenant.paused


def note_keyless(tables: Sequence[str]) -> None:
    """What reading again does to tables that scripts can only append to."""
    if tables:
        note(
            f"of tables without a key ({', '.join(tables)}) no row is found again: what is read "
            "again is there twice, unless the rows that are there are deleted first"
        )


def note_paused(tenant_id: str) -> None:
    """Say that a tenant is paused, and what ends that."""
    note(f"tenant {tenant_id} is paused: nothing of it runs until harvestd tenant resume")


async def overview_of(status: Status) -> Overview:
    """The installation in numbers.  Raises: HarvestdError, before the first start."""
    overview = await status.overview()
    if overview is None:
        raise HarvestdError(
            "nothing was ever started on this database",
            why="its roles and tables are made by the first command that writes",
            next_step="harvestd tenant add, harvestd migrate, or harvestd run",
        )
    return overview


async def runs_chosen(
    status: Status, tenant_id: str, source: str | None, script: str | None
) -> list[RunSeen]:
    """The runs of a tenant that are meant.

    Raises: Unknown, for a tenant, a data source or a script that has none.
    """
    await refuse_unknown_tenant(status, tenant_id)
    runs = await status.runs_of(tenant_id)
    if source is not None:
        sources = {run.data_source for run in runs}
        if source not in sources:
            raise unknown("data source", source, sources, of=tenant_id)
        runs = [run for run in runs if run.data_source == source]
    if script is not None:
        scripts = {run.script for run in runs}
        if script not in scripts:
            raise unknown("script", script, scripts, of=source or tenant_id)
        runs = [run for run in runs if run.script == script]
    if not runs:
        raise Unknown(
            f"the tenant {tenant_id!r} has no runs yet",
            why="runs are made by the first cycle after a data source is configured",
            next_step="harvestd config list, then harvestd run",
        )
    return runs


async def refuse_unknown_names(status: Status, source: str | None, script: str | None) -> None:
    """Raise Unknown for a data source or a script of which no tenant has a run."""
    names = await status.run_names() if source or script else []
    if source is not None:
        sources = {name.source for name in names}
        if source not in sources:
            raise unknown("data source", source, sources)
        names = [name for name in names if name.source == source]
    if script is not None and script not in {name.script for name in names}:
        raise unknown("script", script, {name.script for name in names}, of=source)


def unknown(
    kind: str, name: str, there: Iterable[str], *, of: str | None = None, add: str = ""
) -> Unknown:
    """The error for a name that is not there: what is near it, else what there is."""
    known = sorted(there)
    near = nearest(name, known)
    if near is not None:
        steps = [f"did you mean {near!r}?"]
    elif known:
        more = f" and {len(known) - LISTED_MAX} more" if len(known) > LISTED_MAX else ""
        steps = [f"there are: {', '.join(known[:LISTED_MAX])}{more}."]
    else:
        steps = []
    if add:
        steps.append(f"Otherwise: {add}" if steps else add)
    return Unknown(
        f"there is no {kind} {name!r}" + (f" of {of!r}" if of else ""),
        why=f"{count(len(known), kind)} known here" if known else f"there is no {kind} at all yet",
        next_step=" ".join(steps) or "harvestd status shows what there is",
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; capitals do not matter."""
    by_small = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(name.casefold(), by_small, n=1)
    return by_small[found[0]] if found else None


def check_limit(limit: int, admitted: range, example: str) -> None:
    """Raise UsageError for a --limit that is not ``admitted``."""
    if limit not in admitted:
        raise UsageError(
            f"--limit {limit} is out of range",
            why=f"it may be {admitted[0]} to {admitted[-1]:,}",
            next_step=example,
        )


def checked_name(what: str, name: str) -> str:
    """The name itself; raises UsageError when it cannot be one."""
    if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise UsageError(
            f"{name[:40]!r} cannot be a {what}",
            why=f"it must have 1 to {NAME_CHARS_MAX} printable characters",
            next_step="give another one",
        )
    return name
