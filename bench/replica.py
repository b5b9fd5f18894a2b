"""The whole daemon under measurement: seeded tenants, scripts that do nothing, one `App`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from bench.scratch import Meter, Rate, Server, execute
from harvestd.cli.looping import run_beside_scripts
from harvestd.cli.serving import beside_app, forced_cycle
from harvestd.database.pool import Database
from harvestd.observing import logs
from harvestd.service.app import App
from harvestd.service.preparing import prepare_database
from harvestd.settings import Settings, load_settings

GRAPH: dict[str, set[str]] = {
    "alpha": set(),
    "beta": {"alpha"},
    "gamma": {"alpha"},
    "delta": {"beta", "gamma"},
    "epsilon": set(),
}
"""Five scripts a tenant, and what each needs: three steps deep, two side by side."""

NO_OP = """\
from datetime import timedelta
from bench.replica import calls
resources = ["{name}"]
dependencies = {needs}
visibility_lag = timedelta(0)  # else a second attempt within 10 s would have no window to hand out
interval = {interval}
async def run(env, db, tenant_id, start_date, end_date):
    calls.total += 1
"""

LOG = "replica.log"
HOUR_AGO = "date_trunc('milliseconds', now() - interval '1 hour')"

T = TypeVar("T")


class Calls:
    """How often the no-op scripts of this process were called."""

    total = 0


calls = Calls()


def write_no_op_plugins(folder: Path, *, interval: str = "None") -> Path:
    """The data source ``noop``: the scripts of GRAPH, due every tick or each ``interval``."""
    return write_plugins(folder, scripts_of(NO_OP, interval=interval))


def scripts_of(template: str, **more: object) -> dict[str, str]:
    """The files of GRAPH's scripts, each from the template with its name, needs and number."""
    return {
        f"noop/{name}.py": template.format(name=name, needs=sorted(needs), number=number, **more)
        for number, (name, needs) in enumerate(GRAPH.items())
    }


def write_plugins(folder: Path, files: Mapping[str, str]) -> Path:
    """Write ``source/file`` → text under ``folder``."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def migrate(server: Server) -> None:
    """Make the daemon's tables and roles, as its start does."""

    async def work() -> None:
        database = Database(server.url)
        try:
            await prepare_database(database)
        finally:
            await database.close()

    asyncio.run(work())


def seed(server: Server, tenants: int, *, value: str = "x") -> None:
    """Tenants t1, t2 ... with one configuration value of ``noop``; their runs enrols the daemon."""
    ids = f"SELECT 't' || n AS id FROM generate_series(1, {tenants}) AS n"
    execute(
        server.url,
        f"INSERT INTO public.tenant (id) {ids}",
        "INSERT INTO public.tenant_data_source_config (tenant_id, data_source, key, value)"
        f" SELECT id, 'noop', 'KEY', '{value}' FROM ({ids}) AS tenant",
    )


def seed_runs(server: Server, *, never_ran: bool) -> None:
    """The run rows of the seeded tenants, one window behind; or all done, and due tomorrow."""
    scripts = ", ".join(f"('{name}')" for name in GRAPH)
    state = "'PENDING', 0, now(), 'epoch'::timestamptz, '{}'::tstzmultirange, NULL"
    if not never_ran:
        state = (
            "'COMPLETED', 1, now() + interval '1 day', now() - interval '1 minute',"
            f" tstzmultirange(tstzrange({HOUR_AGO}, date_trunc('milliseconds', now()))),"
            " date_trunc('milliseconds', now())"
        )
    execute(
        server.url,
        "INSERT INTO public.data_source_run (tenant_id, data_source, script, origin, status,"
        " fence, due_at, started_at, covered, last_fetched_data_date)"
        f" SELECT tenant.id, 'noop', script.name, {HOUR_AGO}, {state}"
        f" FROM public.tenant, (VALUES {scripts}) AS script (name)",
    )
    settle(server)


def settle(server: Server) -> None:
    """Statistics and a checkpoint, so that no round pays for what was done before it."""
    execute(
        server.admin_url,
        "VACUUM ANALYZE public.data_source_run, public.tenant, public.tenant_data_source_config",
        "CHECKPOINT",
    )


def with_app(server: Server, plugins: Path, work: Callable[[App], Awaitable[T]]) -> T:
    """What ``work`` answers beside a running replica: default settings, log to a file, metrics on.

    It has done its first cycle by then, and what followed from it; no other comes by itself.
    """
    settings = load_settings(
        {},
        data_dir=server.folder / "replica",
        plugin_dirs=(plugins,),
        http_address="127.0.0.1:0",
        interval_seconds=86400.0,
        log_format="json",
    )
    with (server.folder / LOG).open("a", encoding="utf-8") as log:
        logs.configure(settings, log)
        answer = run_beside_scripts(_beside(settings, server.url, work))
    if answer is None:
        raise KeyboardInterrupt
    return answer


async def _beside(settings: Settings, url: str, work: Callable[[App], Awaitable[T]]) -> T | None:
    app = App(settings, url)

    async def after_first_cycle() -> T:
        await app.cycles.get()
        await app.feeder.idle()
        return await work(app)

    return await beside_app(app, after_first_cycle)


async def forced_cycles(app: App, postmaster: int, seconds: float) -> Rate:
    """Whole forced cycles, each until its last run is recorded, at least one."""
    before = calls.total
    meter = Meter(postmaster)
    while True:
        await forced_cycle(app)
        if meter.seconds >= seconds:
            return meter.rate(calls.total - before)


def void(server: Server, what: str) -> RuntimeError:
    """The error of a measurement whose work was not done, with the last complaints in the log."""
    lines = (server.folder / LOG).read_text(encoding="utf-8").splitlines()
    complaints = [line for line in lines if '"level":"info"' not in line]
    return RuntimeError("\n".join([f"the figure is void: {what}", *complaints[-5:]]))
