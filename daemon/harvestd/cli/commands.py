"""Every command: its words, its help, its examples.  What it does is in the module it calls.

That module is imported when the command runs, so that `harvestd --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from harvestd import __version__

Json = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON on stdout instead of a table.")
]
Yes = Annotated[bool, Parameter(name="--yes", negative="", help="Do not ask.")]
Source = Annotated[str | None, Parameter(help="Only this data source.")]
Script = Annotated[str | None, Parameter(help="Only this script (its name without the source).")]


def make_app() -> App:
    """The command line."""
    app = App(
        name="harvestd",
        version=__version__,
        help="Collects every customer's data into your own PostgreSQL, tenant by tenant.\n\n"
        "Works on HARVESTD_DATABASE_URL or, without it, on an embedded PostgreSQL in "
        "HARVESTD_DATA_DIR. First steps: harvestd demo; harvestd tenant add; harvestd config "
        "set; harvestd run. Each command explains itself: harvestd COMMAND --help.\n\n"
        "When something is wrong: harvestd status, then harvestd status TENANT, which says of "
        "each run that does not go on why, and what to do.\n\n"
        "Exit codes: 0 done; 1 failed, or somebody has to look at a run; 2 a mistake in the "
        "command line or a setting; 3 the database cannot be reached; 130 interrupted. Answers "
        "go to stdout, all else to stderr.",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    for command in (run, demo, migrate, status, trigger, reset, sql):
        app.command(command)
    tenants = App(name="tenant", help="The customers whose data is collected.")
    tenants.command(tenant_add, name="add")
    tenants.command(tenant_list, name="list")
    app.command(tenants)
    config = App(name="config", help="What a tenant's data sources need: addresses, tokens.")
    config.command(config_set, name="set")
    config.command(config_list, name="list")
    config.command(config_unset, name="unset")
    app.command(config)
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


def migrate(*, json: Json = False) -> int:
    """Bring the database to the newest schema, and the tables of the data sources too.

    Commands that write do so by themselves on an empty or older database; this one also applies
    what breaks older replicas, and takes over an application's tables that hold rows. It says
    what it did, and may be repeated. The JSON is an object with migrations and schemas (what
    was applied), refused (source and error of a schema.sql; the exit code is 1 then) and notes.

    For example:

    ```
    $ harvestd migrate
    $ harvestd migrate --json
    ```
    """
    from harvestd.cli.migrating import migrate_database

    return migrate_database(as_json=json)


def status(
    tenant: Annotated[str | None, Parameter(help="One tenant's runs instead of the whole.")] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """What runs, waits and fails: the whole installation, or every run of a tenant.

    Of a tenant's run that failed, waits or is blocked: what happened, why, and what to do. One
    that a silent replica holds shows when it is free. The JSON is an object with version,
    reader (the role for applications and dashboards), overview, replicas and tenants; of a
    tenant with tenant_id, paused and runs. Times are UTC, durations in seconds.

    For example:

    ```
    $ harvestd status
    $ harvestd status acme
    $ harvestd status acme --json
    ```
    """
    from harvestd.cli.look import show_status

    return show_status(tenant, as_json=json)


def trigger(
    tenant: Annotated[str | None, Parameter(help="Only this tenant.")] = None,
    /,
    *,
    source: Source = None,
    script: Script = None,
    json: Json = False,
) -> int:
    """Run now instead of at the next tick.

    Without a tenant every replica runs a forced cycle. With one, its runs are due now, whatever
    date they waited for; one that is under way just goes on. The JSON is an object with
    tenant_id, due and under_way (lists of source/script).

    For example:

    ```
    $ harvestd trigger
    $ harvestd trigger acme --source git --script commit
    ```
    """
    from harvestd.cli.operate import trigger_runs

    return trigger_runs(tenant, source, script, as_json=json)


def reset(
    tenant: str,
    /,
    *,
    source: Source = None,
    script: Script = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Forget how far a tenant's runs have come, so that everything is read again.

    Ledger and bookmarks go; rows that were loaded stay, and those with a key are not doubled
    (a table without a key gets them again). The JSON is an object with tenant_id and reset
    (a list of source/script).

    For example:

    ```
    $ harvestd reset acme --source git --script commit
    $ harvestd reset acme --yes
    ```
    """
    from harvestd.cli.operate import reset_runs

    return reset_runs(tenant, source, script, yes=yes, as_json=json)


def sql(
    query: Annotated[str, Parameter(help="One query; name tables with their schema.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Look at the data: one query with the rights of the reader role, in a transaction that is
    read-only and rolled back.

    At most 1000 rows are printed, and 60 seconds are waited. The JSON is an object with
    columns, rows and cut (whether there were more).

    For example:

    ```
    $ harvestd sql "SELECT tenant_id, count(*) FROM git.commit GROUP BY 1"
    ```
    """
    from harvestd.cli.query import ask_query

    return ask_query(query, as_json=json)


def tenant_add(
    tenant: str,
    /,
    *,
    name: Annotated[str, Parameter(help="A name for people.")] = "",
    json: Json = False,
) -> int:
    """Add a tenant; one that is there already is left as it is.

    The JSON is an object with tenant_id and added.

    For example:

    ```
    $ harvestd tenant add acme --name "Acme Ltd"
    ```
    """
    from harvestd.cli.configure import add_tenant

    return add_tenant(tenant, name, as_json=json)


def tenant_list(
    *,
    limit: Annotated[int, Parameter(help="At most so many.")] = 1000,
    json: Json = False,
) -> int:
    """List tenants with the state of their runs, the worst first.

    The JSON is a list of objects with id, name, paused, sources, runs, failed, blocked and
    lag_seconds.

    For example:

    ```
    $ harvestd tenant list --limit 20
    ```
    """
    from harvestd.cli.configure import list_tenants

    return list_tenants(limit, as_json=json)


def config_set(tenant: str, source: str, key: str, /, *, json: Json = False) -> int:
    """Set a configuration value; the first one of a data source enables it.

    The value comes from standard input, or from a hidden prompt at a terminal; never from the
    command line, which everybody can read. One line break at its end is dropped. The JSON is an
    object with tenant_id, data_source, key and added (false: an earlier value was replaced).

    For example:

    ```
    $ echo https://git.example.com/shop.git | harvestd config set acme git GIT_REPOSITORIES
    $ harvestd config set acme git GIT_TOKEN < token-file
    $ harvestd config set acme git GIT_TOKEN
    ```
    """
    from harvestd.cli.configure import set_value

    return set_value(tenant, source, key, as_json=json)


def config_list(
    tenant: Annotated[str | None, Parameter(help="Only this tenant.")] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """List which keys are set, and since when; values are never shown.

    The JSON is a list of objects with tenant_id, data_source, key and updated_at.

    For example:

    ```
    $ harvestd config list acme
    ```
    """
    from harvestd.cli.configure import list_keys

    return list_keys(tenant, as_json=json)


def config_unset(
    tenant: str, source: str, key: str | None = None, /, *, yes: Yes = False, json: Json = False
) -> int:
    """Remove a value, or all of a data source, which disables it at the next tick.

    Progress and loaded rows are kept: configured again, the data source goes on where it was.
    The JSON is an object with tenant_id, data_source, removed (keys) and disabled.

    For example:

    ```
    $ harvestd config unset acme git GIT_TOKEN
    $ harvestd config unset acme git --yes
    ```
    """
    from harvestd.cli.configure import unset_values

    return unset_values(tenant, source, key, yes=yes, as_json=json)
