"""Words, help and examples of the commands that only look; `commands.py` has the whole line."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from harvestd.cli.options import WHOLE, Json, Script, Source


def status(
    tenant: Annotated[str | None, Parameter(help="One tenant's runs instead of the whole.")] = None,
    /,
    *,
    watch: Annotated[
        float | bool,
        Parameter(
            negative="",
            help="Redraw the terminal every 2 seconds, or as many as follow; Ctrl-C ends it.",
        ),
    ] = False,
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
    $ harvestd status --watch
    $ harvestd status acme --watch 10
    ```
    """
    from harvestd.cli.look import show_status
    from harvestd.cli.watching import SECONDS

    every = SECONDS if watch is True else None if watch is False else float(watch)
    return show_status(tenant, watch=every, as_json=json)


def runs(
    tenant: str,
    /,
    *,
    source: Source = None,
    script: Script = None,
    history: Annotated[
        bool, Parameter(negative="", help="Also the attempts that were kept, newest first.")
    ] = False,
    limit: Annotated[int, WHOLE, Parameter(help="At most so many runs, and attempts.")] = 20,
    json: Json = False,
) -> int:
    """A tenant's runs, and how their attempts went.

    An attempt that found nothing new after another such is not kept: it only counts in its run.
    The JSON is an object with tenant_id, paused, runs (as of harvestd status TENANT) and, with
    --history, history: objects with data_source, script, outcome (completed, failed, timed_out,
    waiting, yielded, cancelled or lost), started_at, seconds, windows, rows_written, reason,
    error, covered_from and covered_to.

    For example:

    ```
    $ harvestd runs acme
    $ harvestd runs acme --source git --history
    $ harvestd runs acme --script commit --history --limit 200 --json
    ```
    """
    from harvestd.cli.progress import show_runs

    return show_runs(tenant, source, script, history=history, limit=limit, as_json=json)


def gaps(
    tenant: Annotated[str | None, Parameter(help="Only this tenant.")] = None,
    /,
    *,
    limit: Annotated[int, WHOLE, Parameter(help="At most so many.")] = 50,
    json: Json = False,
) -> int:
    """Source time that was not read yet, between a run's origin and now, the biggest first.

    A live gap reaches from the newest data to now; it is never empty, and normal up to the
    script's interval, one tick and its visibility_lag. A hole lies behind the newest data: a
    backfill, or a ledger cut by hand; it is read by itself, after what is new. A snapshot script
    lists everything each time, so its gap is only its age. The JSON is an object with holes,
    live_gaps (how many in all) and gaps: objects with tenant_id, data_source, script, from, to,
    seconds, live, paused, status and kind.

    For example:

    ```
    $ harvestd gaps
    $ harvestd gaps acme
    $ harvestd gaps --limit 5 --json
    ```
    """
    from harvestd.cli.progress import show_gaps

    return show_gaps(tenant, limit=limit, as_json=json)


def plugins(
    source: Annotated[str | None, Parameter(help="Only this data source.")] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """What the plugin folders of this machine hold: scripts, and what is wrong with them.

    It reads HARVESTD_PLUGIN_DIRS, the bundled folder and installed packages as a replica started
    here would, and needs no database. Exit code 1: a file cannot be used, or a script can never
    run because nothing provides what it needs, or because scripts need each other in a circle.
    The JSON is an object with scripts, problems (file, line, what, why and next), shadowed (which
    of two files of one name is used) and blocked (script and reason).

    For example:

    ```
    $ harvestd plugins
    $ harvestd plugins git
    $ HARVESTD_PLUGIN_DIRS=~/plugins harvestd plugins --json
    ```
    """
    from harvestd.cli.plugins import show_plugins

    return show_plugins(source, as_json=json)


def doctor(*, json: Json = False) -> int:
    """Is everything there that harvestd needs, and what to do where it is not.

    Settings, plugins, disks, database, its version and schema, rights, connections, clocks,
    replicas, stuck runs: a line each, ok, warn or fail. It changes nothing. Exit code 1 when
    something fails, 3 when the database cannot be reached. The JSON is an object with failed,
    warned and findings: objects with check, level, what and next_step.

    For example:

    ```
    $ harvestd doctor
    $ harvestd doctor --json
    ```
    """
    from harvestd.cli.doctor import see_doctor

    return see_doctor(as_json=json)


def verify(
    tenant: Annotated[str | None, Parameter(help="Only this tenant.")] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """Does what is stored hold together: ledger, dates, history, holders, bindings, seats.

    Everything of one moment, in a read-only transaction; it prints OK, or of each contradiction
    which run, what, why it matters and what to do. Exit code 1 when there is one, 3 when the
    database cannot be reached. Source time that is known to be missing is named and is no fault.
    What nothing that is stored can show is said too. The JSON is an object with now, runs,
    attempts, bindings, holes, hole_seconds, gapped, faults (objects with kind, tenant_id,
    data_source, script, what, why and next_step, at most 100 of a kind), counts (of all, by kind)
    and not_proved.

    For example:

    ```
    $ harvestd verify
    $ harvestd verify acme
    $ harvestd verify --json
    ```
    """
    from harvestd.cli.verifying import see_verified

    return see_verified(tenant, as_json=json)


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
    $ harvestd sql "SELECT * FROM git.commit WHERE tenant_id = 'acme' LIMIT 5" --json
    $ harvestd sql "SELECT max(written_at) FROM git.commit WHERE tenant_id = 'acme'"
    $ harvestd sql "SELECT count(*) FROM git.repository WHERE deleted_at IS NOT NULL"
    $ harvestd sql "SELECT table_schema, table_name FROM information_schema.tables"
    ```
    """
    from harvestd.cli.query import ask_query

    return ask_query(query, as_json=json)


def check(
    *sources: Annotated[str, Parameter(help="Data sources; all without any.")],
    json: Json = False,
) -> int:
    """For the author of a plugin: what is wrong here, and what the next start would do.

    Each script is imported, dependencies are looked for, and each schema.sql is tried on the
    database there is, in a transaction that is rolled back: what it would make, alter and drop, or
    why it would be refused, with line and mending; of one that was applied, what somebody altered
    since. Without a database it is only read. Exit code 1 when something has to be mended. The
    JSON is an object with scripts, problems, blocked, schemas (data_source, applied, changes,
    kept, unfinished, refused and altered) and without_database (why it was only read, so that
    applied is null).

    For example:

    ```
    $ harvestd check
    $ harvestd check weather
    $ HARVESTD_PLUGIN_DIRS=~/plugins harvestd check weather --json
    ```
    """
    from harvestd.cli.checking import check_sources

    return check_sources(sources, as_json=json)


def try_script(
    script: Annotated[str, Parameter(help="SOURCE/SCRIPT.")],
    /,
    *,
    tenant: Annotated[str | None, Parameter(help="Whose configuration and rows.")] = None,
    since: Annotated[
        str | None, Parameter(name="--from", help="Where the window begins; one width before --to.")
    ] = None,
    until: Annotated[str | None, Parameter(name="--to", help="Where it ends; now.")] = None,
    env: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="A KEY whose value is asked for, unseen; may be repeated."),
    ] = (),
    env_file: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True, help="A file of KEY=VALUE lines; - for standard input."
        ),
    ] = None,
    limit: Annotated[int, WHOLE, Parameter(help="Rows of each table that are shown.")] = 10,
    json: Json = False,
) -> int:
    """For the author of a plugin: run a script once, show what it would write, keep nothing.

    It reads the real rows of the tenant, with its configuration (--env and --env-file add to it,
    or stand in for it), on the database's own tables, in one transaction that is always rolled
    back: rows, bookmarks and checkpoints. Runs, ledger and history stay as they are, also after
    Ctrl-C. While it goes on, a replica that writes the same rows waits. It has a cache folder of
    its own, empty. The SQL of a trial has the daemon's login behind it: try what you trust.
    Exit code 1, with the place in the file, when the script fails. The JSON is an object with
    tenant_id, data_source, script, from, to, tables (schema, name, inserted, updated, deleted,
    columns, rows), bookmarks, checkpoint and error.

    For example:

    ```
    $ harvestd try git/commit --tenant acme
    $ harvestd try weather/reading --tenant acme --from 2d --limit 3
    $ harvestd try weather/reading --tenant acme --env-file station.env
    $ echo "STATION=Zugspitze" | harvestd try weather/reading --tenant acme --env-file -
    ```
    """
    from harvestd.cli.trying import Options, try_plugin

    options = Options(since, until, env, env_file, limit)
    return try_plugin(script, tenant, options, as_json=json)


def new(
    script: Annotated[str, Parameter(help="SOURCE/SCRIPT, such as weather/reading.")],
    /,
    *,
    folder: Annotated[
        str | None,
        Parameter(
            name="--in",
            help="Where the data source's folder goes: the first of HARVESTD_PLUGIN_DIRS or, "
            "without it, plugins/data_sources here.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """For the author of a plugin: write a script that works, its table, and a test that passes.

    The script reads page after page of a made-up API, which the test plays; change both into
    yours. Nothing is written over: of a data source that has a schema.sql the table to add is
    shown. Says which commands lead from there to rows. Its JSON has folder, files,
    schema_to_add and next_commands.

    For example:

    ```
    $ harvestd new weather/reading
    $ harvestd new weather/station --in ~/plugins
    ```
    """
    from harvestd.cli.scaffold import new_script

    return new_script(script, folder, as_json=json)
