"""The whole command line; the words of each command are here or in `commands_*.py`.

What a command does is in the module it calls, imported when it runs, so that `harvestd --help`
answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from cyclopts import App, Parameter

from harvestd import __version__
from harvestd.cli import commands_acting as acting
from harvestd.cli import commands_configuring as configuring
from harvestd.cli import commands_looking as looking
from harvestd.cli import commands_proving as proving
from harvestd.cli.options import Json


def make_app() -> App:
    """The command line."""
    app = App(
        name="harvestd",
        version=__version__,
        help="Collects every customer's data into your own PostgreSQL, tenant by tenant.\n\n"
        "Works on HARVESTD_DATABASE_URL or, without it, on an embedded PostgreSQL in "
        "HARVESTD_DATA_DIR. First steps: harvestd demo; harvestd tenant add; harvestd config "
        "set; harvestd run. Each command explains itself: harvestd COMMAND --help.\n\n"
        "When something is wrong: harvestd doctor says what is missing; harvestd status, then "
        "harvestd status TENANT, says of each run that does not go on why, and what to do.\n\n"
        "Exit codes: 0 done; 1 failed, or somebody has to look at a run; 2 a mistake in the "
        "command line or a setting; 3 the database cannot be reached; 130 interrupted. Answers "
        "go to stdout, all else to stderr.",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    commands: tuple[Callable[..., int], ...] = (
        *(run, demo, acting.migrate, looking.doctor),
        *(looking.status, looking.runs, looking.gaps, looking.verify, looking.plugins),
        *(looking.new, looking.check, looking.sql, proving.torture),
        *(acting.trigger, acting.reset, acting.backfill),
    )
    for command in commands:
        app.command(command)
    app.command(looking.try_script, name="try")
    tenants = App(name="tenant", help="The customers whose data is collected.")
    for name in ("add", "list", "set", "pause", "resume"):
        tenants.command(getattr(configuring, f"tenant_{name}"), name=name)
    app.command(tenants)
    config = App(name="config", help="What a tenant's data sources need: addresses, tokens.")
    for name in ("set", "list", "unset"):
        config.command(getattr(configuring, f"config_{name}"), name=name)
    app.command(config)
    readers = App(name="reader", help="Which roles of the server read the collected data.")
    for name in ("add", "list", "remove"):
        readers.command(getattr(configuring, f"reader_{name}"), name=name)
    app.command(readers)
    return app


def run(
    *,
    once: Annotated[
        bool, Parameter(negative="", help="One forced cycle, a table of how it went, and end.")
    ] = False,
    json: Json = False,
) -> int:
    """Collect, for as long as it runs: a cycle every HARVESTD_INTERVAL_SECONDS.

    SIGHUP starts a cycle at once, SIGTERM or Ctrl-C lets runs reach a checkpoint and ends, a
    second one ends at once. A database that goes away is waited for. With --once the exit code
    is 1 if a plugin file is refused, or a run failed, is blocked or waits for authorisation; its
    JSON is a list of objects with tenant_id, data_source, script, status (as in the table:
    PENDING, RUNNING, WAITING, COMPLETED, FAILED or BLOCKED), blocked_by, reason, error,
    waits_until, windows, rows_written, seconds, covered_from and covered_to.

    For example:

    ```
    $ harvestd run
    $ HARVESTD_DATABASE_URL=postgresql://harvestd@db/harvestd harvestd run
    $ harvestd run --once --json
    ```
    """
    from harvestd.cli.serving import run_daemon

    return run_daemon(once=once, as_json=json)


def demo(
    *,
    repo: Annotated[
        str | None,
        Parameter(
            help="The git repository to collect: a folder with a clone, or an https or ssh "
            "address; by default this checkout's own."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Collect a git repository for two tenants into an embedded PostgreSQL of its own.

    Everything lies in the folder demo below HARVESTD_DATA_DIR, also its two tenants: look at
    them with HARVESTD_DATA_DIR set to that folder; remove it to start afresh. The second cycle
    shows that nothing is written twice. Its JSON has repository, first (as of harvestd run
    --once), second_rows_written and next_commands.

    For example:

    ```
    $ harvestd demo
    $ harvestd demo --repo ~/src/linux
    $ harvestd demo --repo https://git.example.com/shop.git
    ```
    """
    from harvestd.cli.demo import run_demo

    return run_demo(repo, as_json=json)
