"""`harvestd demo`: the main job on real input, for two tenants, in a database of its own."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harvestd.cli import explain
from harvestd.cli.demo_repository import choose_repository
from harvestd.cli.live import Watch, showing
from harvestd.cli.looping import run_beside_scripts
from harvestd.cli.output import INTERRUPTED, Unknown, note, print_json
from harvestd.cli.reach import Reached, reached
from harvestd.cli.serving import (
    any_port,
    beside_app,
    forced_cycle,
    make_ready,
    name_troubles,
    print_report,
)
from harvestd.database.pool import Database
from harvestd.errors import HarvestdError
from harvestd.observing.logs import configure
from harvestd.service.acts import Acts
from harvestd.service.app import App
from harvestd.service.status import RunReported, Status
from harvestd.settings import PREFIX, Settings, load_settings

TENANTS = (("acme", "Acme Ltd"), ("globex", "Globex Corporation"))
QUERY = (
    "SELECT tenant_id, author_name, count(*) AS commits, max(committed_at) AS latest "
    "FROM git.commit GROUP BY 1, 2 ORDER BY 1, 3 DESC"
)


@dataclass(frozen=True, slots=True)
class Collected:
    """What both cycles did."""

    first: list[RunReported]
    second: list[RunReported]
    second_rows_written: int


def run_demo(wanted: str | None, *, as_json: bool) -> int:
    """The command: the exit code."""
    settings = demo_settings()
    configure(settings)
    folder = settings.data_dir
    _make_folder(folder)
    repository = choose_repository(wanted, folder)
    if PREFIX + "DATABASE_URL" in os.environ:
        note(f"the demo leaves {PREFIX}DATABASE_URL alone; it has a database of its own")
    note(f"starting PostgreSQL in {folder}")
    with reached(settings, own=True) as at:
        names = " and ".join(tenant_id for tenant_id, _ in TENANTS)
        note(f"collecting {repository} for {names}")
        collected = run_beside_scripts(_collect(settings, at, repository))
    if collected is None:
        note("harvestd: interrupted; what was loaded is kept, and the next demo goes on there")
        return INTERRUPTED
    return tell(collected, repository, next_commands(settings), as_json=as_json)


def demo_settings() -> Settings:
    """Ours, with the demo's own folder and database.

    Quiet unless a log level was asked for: what does not get through is told at the end.
    """
    base = load_settings()
    overrides: dict[str, object] = {
        "database_url": None,
        "data_dir": Path(os.path.abspath(base.data_dir.expanduser())) / "demo",
        "plugin_dirs": (),
        "allow_local_repositories": True,
        "drain_seconds": 2.0,
        **any_port(),
    }
    if PREFIX + "LOG_LEVEL" not in os.environ:
        overrides["log_level"] = "error"
    return load_settings(None, **overrides)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarvestdError(
            f"the demo cannot make its folder {folder}",
            why=error.strerror or type(error).__name__,
            next_step=f"{PREFIX}DATA_DIR=/another/folder make demo",
        ) from None


async def _collect(settings: Settings, at: Reached, repository: str) -> Collected | None:
    await make_ready(settings, at)
    async with Database(at.url) as database:
        await _make_tenants(Acts(database), repository)
        status = Status(database)
        app = App(settings, at.url, ticks=False)

        async def both_cycles() -> Collected:
            watch = Watch(lambda: tuple(app.hands.by_run.values()))
            with showing(watch) as show:
                first = await status.once_report(await forced_cycle(app, show))
            before = await _rows_written(status)
            second = await status.once_report(await forced_cycle(app))
            return Collected(first, second, await _rows_written(status) - before)

        return await beside_app(app, both_cycles)


async def _rows_written(status: Status) -> int:
    overview = await status.overview()
    return overview.rows_written if overview else 0


async def _make_tenants(acts: Acts, repository: str) -> None:
    """The two tenants, each with its own configuration; a repeated demo finds them there."""
    for tenant_id, name in TENANTS:
        await acts.add_tenant(tenant_id, name)
        quoted = shlex.quote(repository)
        await acts.set_config(tenant_id, "git", "GIT_REPOSITORIES", quoted)


def tell(collected: Collected, repository: str, commands: Sequence[str], *, as_json: bool) -> int:
    """Show what both cycles did; the exit code."""
    say: Callable[[str], None] = note if as_json else print
    if as_json:
        print_json(
            {
                "repository": repository,
                "first": [explain.as_json(run) for run in collected.first],
                "second_rows_written": collected.second_rows_written,
                "next_commands": commands,
            }
        )
    else:
        print_report(collected.first)
    troubles = name_troubles(collected.first) or name_troubles(collected.second)
    if len(collected.first) < len(TENANTS):
        raise Unknown(
            "the demo's tenants have no runs",
            why="the data source git was refused; the log above says why",
            next_step="harvestd demo again, with HARVESTD_LOG_LEVEL=info",
        )
    say("")
    if troubles:
        note("the second cycle shows nothing before that is mended: then harvestd demo again")
    else:
        say(f"second cycle: {collected.second_rows_written} rows written")
    if collected.second_rows_written and not troubles:
        note("something was committed between the two cycles, or rows were written twice")
    say("")
    say("next:")
    for command in commands:
        say(f"  {command}")
    return 1 if troubles or collected.second_rows_written else 0


def next_commands(settings: Settings) -> tuple[str, ...]:
    """Three commands that work when they are pasted into a shell in this folder."""
    here = f"{PREFIX}DATA_DIR={shlex.quote(str(settings.data_dir))}"
    harvestd = f"{shlex.quote(_python())} -m harvestd"
    return (
        f"{here} {harvestd} status acme",
        f'{here} {harvestd} sql "{QUERY}"',
        f"{here} {PREFIX}ALLOW_LOCAL_REPOSITORIES=1 {harvestd} run",
    )


def _python() -> str:
    """This interpreter, relative to the current folder where it lies in it."""
    try:
        return str(Path(sys.executable).relative_to(Path.cwd()))
    except ValueError:
        return sys.executable
