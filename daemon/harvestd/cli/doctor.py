"""`harvestd doctor`: is everything there that harvestd needs, and what to do where it is not."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Sequence

from harvestd.catalog.snapshot import Catalog
from harvestd.cli.output import DONE, FAILED, count, exit_code, note, plain, print_json
from harvestd.cli.plugins import read_catalog
from harvestd.cli.reach import command_settings, reached
from harvestd.database.pool import Database
from harvestd.errors import HarvestdError
from harvestd.service.checkup import Finding, Level, check_database, check_here, own_clock
from harvestd.service.facts import Facts
from harvestd.settings import Settings


def see_doctor(*, as_json: bool) -> int:
    """Check everything; the exit code: 1 if something fails, 3 if the database is not reached."""
    settings = command_settings()
    catalog = read_catalog(settings)
    findings = list(check_here(settings, catalog))
    code = DONE
    try:
        findings += _ask(settings, catalog)
    except HarvestdError as error:
        code = exit_code(error)
        findings.append(_refused(error))
    failed = [one for one in findings if one.level is Level.FAIL]
    warned = [one for one in findings if one.level is Level.WARN]
    if as_json:
        print_json({"failed": len(failed), "warned": len(warned), "findings": findings})
    else:
        _print(findings)
        note(f"{count(len(failed), 'failure')}, {count(len(warned), 'warning')}")
    return code or (FAILED if failed else 0)


def _ask(settings: Settings, catalog: Catalog) -> list[Finding]:
    async def ask(url: str) -> list[Finding]:
        async with Database(url) as database:
            facts = await Facts.read(database, settings, catalog)
        return list(check_database(facts, settings, own_clock()))

    with reached(settings, own=False, makes=False) as at:
        return asyncio.run(ask(at.url))


def _refused(error: HarvestdError) -> Finding:
    what = f"{error.what}; {error.why}" if error.why else error.what
    return Finding("database", Level.FAIL, what, error.next_step)


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(one.check) for one in findings)
    for one in findings:
        print(plain(f"{one.level.value:<4}  {one.check:<{width}}  {one.what}"))
        if one.next_step and one.level is not Level.OK:
            print(textwrap.indent(plain(f"next: {one.next_step}"), " " * (width + 8)))
