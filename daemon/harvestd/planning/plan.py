"""The plan: the immutable difference, at one instant, between the run rows there are and
those there should be.  It is arithmetic on values; `runs/enrolment.py` reads and applies it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from harvestd.catalog.script import Script
from harvestd.planning.window import EARLIEST, backwards, whole_milliseconds
from harvestd.terms import RunKey, ScriptName, Window


@dataclass(frozen=True, slots=True)
class RunRow:
    """What planning needs to know of a row of ``data_source_run``.

    ``origin`` is None where another program inserted the row; ``watermark`` is
    the column ``last_fetched_data_date``.
    """

    key: RunKey
    run_no: int
    retired: bool
    origin: datetime | None
    watermark: datetime | None


@dataclass(frozen=True, slots=True)
class GoingOn:
    """A row to take (back) into use: no longer retired, with this origin, due now.

    ``covered`` is the progress to take over from another program's date, None
    where the row's ledger stays as it is.
    """

    run_no: int
    origin: datetime
    covered: Window | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change so that the rows fit the configurations; empty when they do."""

    enrol: Mapping[RunKey, datetime]
    """The rows to add, each with its origin."""
    go_on: tuple[GoingOn, ...]


def make_plan(
    wanted: Collection[RunKey],
    scripts: Mapping[ScriptName, Script],
    rows: Iterable[RunRow],
    *,
    now: datetime,
    first_import: timedelta,
) -> Plan:
    """Compare the configured runs that are ``wanted`` with the ``rows`` there are of them.

    Retiring is no part of it: it takes a fact of the database (no configuration any
    more) and is one statement there, never a replica's lack of a script.
    The enrolments come in the order of ``wanted``, the rest in that of ``rows``.
    """
    missing = dict.fromkeys(wanted)
    go_on: list[GoingOn] = []
    for row in rows:
        missing.pop(row.key, None)
        script = scripts.get(row.key.name)
        if row.origin is None:
            # Without the script its origin is unknown; a replica that has it will adopt the row.
            if script is not None:
                origin = origin_of(script, now=now, first_import=first_import)
                go_on.append(_adopt(row, origin, now))
        elif row.retired:
            go_on.append(GoingOn(row.run_no, row.origin, covered=None))
    enrol = {
        key: origin_of(scripts[key.name], now=now, first_import=first_import)
        for key in missing
        if key.name in scripts
    }
    return Plan(enrol, go_on=tuple(go_on))


def _adopt(row: RunRow, origin: datetime, now: datetime) -> GoingOn:
    """Count another program's progress as covered, from the origin up to its date."""
    if row.watermark is None:
        return GoingOn(row.run_no, origin, covered=None)
    # A date in the future would cover days that nobody can have read yet.
    watermark = min(row.watermark, whole_milliseconds(now))
    if watermark <= origin:
        return GoingOn(row.run_no, watermark, covered=None)
    return GoingOn(row.run_no, origin, covered=Window(origin, watermark))


def origin_of(script: Script, *, now: datetime, first_import: timedelta) -> datetime:
    """Where the source time of a new run of ``script`` begins: whole milliseconds, never after now.

    The script's own date, or its own age before now, or else ``first_import`` before now.
    """
    if script.origin is not None:
        origin = max(script.origin, EARLIEST)
    elif script.origin_age is not None:
        origin = backwards(now, script.origin_age)
    else:
        origin = backwards(now, first_import)
    return whole_milliseconds(min(origin, now))
