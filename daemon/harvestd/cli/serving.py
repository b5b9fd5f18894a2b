"""`harvestd run`: the daemon, for as long as it is wanted or for one forced cycle.

`beside_app` and `forced_cycle` are also what the demo is made of.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from harvestd.catalog.discover import Problem
from harvestd.cli import explain
from harvestd.cli.looping import run_beside_scripts
from harvestd.cli.output import (
    INTERRUPTED,
    UsageError,
    count,
    note,
    print_json,
    print_rows,
    print_told,
    span,
)
from harvestd.cli.reach import Reached, reached
from harvestd.database.embedded import EmbeddedServer
from harvestd.database.embedded_programs import find_package
from harvestd.database.pool import Database
from harvestd.errors import DatabaseError, HarvestdError, Unreachable
from harvestd.observing.logs import configure, get_logger
from harvestd.service.acts import take_over_embedded
from harvestd.service.app import App
from harvestd.service.preparing import prepare_database
from harvestd.service.status import RunReported, Status
from harvestd.service.supervisor import take_supervisor
from harvestd.service.ticker import install_signals
from harvestd.settings import PREFIX, Settings, load_settings

log = get_logger()

LOOK_SECONDS = 0.05
TROUBLE_SECONDS_MAX = 60.0
"""How long a forced cycle waits for a database that went away."""
TROUBLES_TOLD_MAX = 20
ANY_PORT = "127.0.0.1:0"
COLLECT_EVERY = 10_000
"""Objects made, net of those that are gone, between two looks for garbage in circles."""
NO_CYCLE_YET = "no cycle has ended yet"  # what App says until then
PASSWORD_FILE = "postgresql.secrets"  # noqa: S105 - a file name

T = TypeVar("T")


def run_daemon(*, once: bool, as_json: bool) -> int:
    """The command: the exit code."""
    if as_json and not once:
        raise UsageError(
            "--json needs --once",
            why="without it the daemon runs on and prints its log",
            next_step="harvestd run --once --json, or HARVESTD_LOG_FORMAT=json harvestd run",
        )
    settings = load_settings(None, **(any_port() if once else {}))
    configure(settings)
    with reached(settings, own=True) as at:
        if once:
            return run_beside_scripts(_run_once(settings, at, as_json=as_json))
        run_beside_scripts(_run_on(settings, at))
        return 0


def any_port() -> dict[str, object]:
    """Settings of a command that nobody scrapes: a daemon's port is left to the daemon."""
    return {} if PREFIX + "HTTP_ADDRESS" in os.environ else {"http_address": ANY_PORT}


async def _run_on(settings: Settings, at: Reached) -> None:
    if at.embedded is not None:
        await free_what_was_killed(settings, at)
    app = App(settings, at.url, take_supervisor(os.environ))
    spare_collector()
    with _signals(app):
        await app.run(on_ready=lambda ready: _announce(ready, at.embedded))


async def _run_once(settings: Settings, at: Reached, *, as_json: bool) -> int:
    await make_ready(settings, at)
    # A tick would start again what has ended, and where that takes long there would be no end.
    app = App(settings, at.url, ticks=False)

    async def work() -> tuple[list[RunReported], list[str]]:
        began = await forced_cycle(app)
        async with Database(at.url) as database:
            status = Status(database)
            return await status.once_report(began), await status.paused_tenants()

    done = await beside_app(app, work)
    if done is None:
        note("harvestd: interrupted; runs under way were given back with what they had loaded")
        return INTERRUPTED
    report, paused = done
    if as_json:
        print_json([explain.as_json(run) for run in report])
    else:
        print_report(report)
    refused = name_refused(app.cycle.catalog.problems, app.cycle.unusable)
    if paused:
        names = ", ".join(paused[:TROUBLES_TOLD_MAX]) + (
            " ..." if len(paused) > TROUBLES_TOLD_MAX else ""
        )
        note(f"paused, so that nothing of them ran (harvestd tenant resume): {names}")
    if not report and not refused:
        note("no runs: no tenant has a configuration for a known data source")
    going = [run for run in report if run.tenant_id not in paused]  # the others are to stand still
    return 1 if name_troubles(going) or refused else 0


async def make_ready(settings: Settings, at: Reached) -> None:
    """Migrate, and free what a killed owner of an embedded database left behind.

    Raises: Unreachable at once, where the daemon would wait for the database.
    """
    async with Database(at.url) as database:
        await prepare_database(database)
    if at.embedded is not None:
        await free_what_was_killed(settings, at)


async def free_what_was_killed(settings: Settings, at: Reached) -> None:
    """Give back at once what the last owner of this embedded database held when it died."""
    lease = timedelta(seconds=settings.lease_seconds)
    tick = timedelta(seconds=settings.interval_seconds)
    try:
        async with Database(at.url) as database:
            freed = await take_over_embedded(database, lease=lease, tick=tick)
    except DatabaseError:
        return  # not migrated yet: nobody ever held anything; and the daemon says the rest
    if freed:
        log.warning("runs_taken_over", runs=freed)


async def beside_app(app: App, work: Callable[[], Awaitable[T]]) -> T | None:
    """Run the daemon until ``work`` is done: its answer, or None when a signal came first.

    Raises: what ended the daemon, or ``work``.
    """
    spare_collector()
    ready = asyncio.Event()

    async def after_start() -> T:
        await ready.wait()
        return await work()

    with _signals(app):
        serving = asyncio.create_task(app.run(on_ready=lambda _: ready.set()), name="daemon")
        working = asyncio.create_task(after_start(), name="work")
        stopping = asyncio.create_task(app.stopping.wait(), name="stop")
        try:
            await asyncio.wait({serving, working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done() and not stopping.done():
                app.stop("the work is done")
                await serving
                return working.result()
            await serving
            return None
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
            if not serving.done():
                app.stop("the command ends")
                await asyncio.wait({serving})


async def forced_cycle(app: App, on_look: Callable[[], None] = lambda: None) -> datetime:
    """One forced cycle and every turn that follows from it; when it began, by the database.

    ``on_look`` is called twenty times a second meanwhile.

    Raises: Unreachable, when the cycle cannot be done for a minute.
    """
    while not app.cycles.empty():
        app.cycles.get_nowait()
    app.wanted.ask("a forced cycle", forced=True)
    began, forced = await _looking(app, app.cycles.get, on_look)
    while not forced:  # one was under way already
        began, forced = await _looking(app, app.cycles.get, on_look)
    if await _looking(app, app.schemas.wait, on_look):
        await forced_cycle(app, on_look)  # their runs are due only now
    await _looking(app, app.settle, on_look)
    return began


async def _looking(
    app: App, wait_for: Callable[[], Awaitable[T]], on_look: Callable[[], None]
) -> T:
    waited = asyncio.ensure_future(wait_for())
    fine_at = time.monotonic()
    try:
        while True:
            await asyncio.wait({waited}, timeout=LOOK_SECONDS)
            on_look()
            if waited.done():
                return waited.result()
            trouble = app.health.problems.get("database") or app.health.problems.get("cycle")
            if not trouble or trouble == NO_CYCLE_YET:
                fine_at = time.monotonic()
            elif time.monotonic() - fine_at > TROUBLE_SECONDS_MAX:
                raise Unreachable(
                    trouble,
                    why=f"the cycle could not be finished for {TROUBLE_SECONDS_MAX:.0f} s",
                    next_step="see the log above; run it again once the database answers",
                )
    finally:
        waited.cancel()


def print_report(report: Sequence[RunReported]) -> None:
    """The table of a forced cycle; nothing where there are no runs."""
    if not report:
        return
    print_rows(
        ("tenant", "script", "status", "windows", "rows", "covered", "seconds"),
        [
            (
                run.tenant_id,
                f"{run.data_source}/{run.script}",
                explain.word_of(run),
                _windows(run),
                run.rows_written,
                span(run.covered_from, run.covered_to),
                run.seconds,
            )
            for run in report
        ],
        folded=("covered",),
    )


def _windows(run: RunReported) -> int | str | None:
    """How many there were; of a success that found nothing new no history has the number."""
    idle = run.windows is None and run.status == "COMPLETED" and run.seconds is not None
    return "idle" if idle else run.windows


def name_refused(problems: Sequence[Problem], unusable: Mapping[str, str]) -> int:
    """Say which plugin files cannot be used; how many."""
    for problem in problems:
        print_told(f"harvestd: {problem.place}", explain.as_told(problem.what), sys.stderr)
    for source, why in unusable.items():
        print_told(f"harvestd: schema.sql of {source}", explain.as_told(why), sys.stderr)
    return len(problems) + len(unusable)


def name_troubles(report: Sequence[RunReported]) -> int:
    """Say which runs do not go on, and why; how many of them somebody has to look at."""
    troubled = [run for run in report if run.in_trouble]
    told = troubled + [run for run in report if run.status == "WAITING" and not run.in_trouble]
    for run in told[:TROUBLES_TOLD_MAX]:
        name = f"{run.tenant_id} {run.data_source}/{run.script} {explain.word_of(run)}"
        print_told(name, explain.reason_of(run) or HarvestdError("nothing is known"), sys.stderr)
    if len(told) > TROUBLES_TOLD_MAX:
        note(f"and {len(told) - TROUBLES_TOLD_MAX} more; harvestd status TENANT says why")
    if troubled:
        note(f"harvestd: {count(len(troubled), 'run')} did not get through")
    return len(troubled)


def spare_collector() -> None:
    """Let Python's garbage collector look at fewer objects, and less often.

    At its usual thresholds it took a third of the time of a run.  What is there at the start (all
    modules, which stay) is not looked at again; what runs leave behind hardly has circles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 10, 10)


@contextmanager
def _signals(app: App) -> Iterator[None]:
    """SIGHUP, SIGTERM and SIGINT go to the app for the length of the block."""
    remove = install_signals(
        asyncio.get_running_loop(),
        on_reload=app.reload,
        on_stop=lambda: app.stop("a signal"),
    )
    try:
        yield
    finally:
        remove()


def _announce(app: App, embedded: EmbeddedServer | None) -> None:
    """Where to look and how to connect: for a person at the terminal, else in the log."""
    psql = psql_command(embedded) if embedded else None
    password_file = embedded.data_dir / PASSWORD_FILE if embedded else None
    if not sys.stderr.isatty():
        if psql:
            log.info("embedded_started", psql=psql, password_file=str(password_file))
        return
    note(f"harvestd listens on {app.address} (/metrics /livez /readyz); Ctrl-C ends it")
    if psql:
        note(f"database: {psql}")
        note(f"          its password is `harvestd` in {password_file}")


def psql_command(embedded: EmbeddedServer) -> str:
    """A shell line that connects to the embedded server; it asks for the password."""
    program = shutil.which("psql") or str(_bundled_psql() or "psql")
    parts = urlsplit(embedded.url)
    where = urlencode(parse_qsl(parts.query), safe="/", quote_via=quote)
    return shlex.join([program, f"postgresql://{parts.username}@{parts.path}?{where}"])


def _bundled_psql() -> Path | None:
    found = sorted(find_package().glob("pginstall*/bin/psql"), reverse=True)
    return found[0] if found else None
