"""Words, help and examples of the commands that change what runs; see `commands.py`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from harvestd.cli.options import DryRun, Json, Script, Source, Yes


def migrate(
    *,
    harden: bool = False,
    print_roles: bool = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Bring the database to the newest schema, and the tables of the data sources too.

    Commands that write do so by themselves on an empty or older database; this one also applies
    what breaks older replicas, and takes over an application's tables that hold rows. It says
    what it did, and may be repeated. The JSON is an object with migrations and schemas (what
    was applied, or would be), refused (source and error of a schema.sql; the exit code is 1 then),
    notes, hardened (statements that --harden ran), hardening (those that a superuser is to run),
    losers (by statement of those, who loses the right) and dry_run.

    For example:

    ```
    $ harvestd migrate --dry-run
    $ harvestd migrate
    $ harvestd migrate --harden
    $ harvestd migrate --print-roles > roles.sql
    $ harvestd migrate --json
    ```

    Parameters
    ----------
    harden
        Also take from PUBLIC what lets any login hold others up (docs/wall.md); where that takes
        a superuser, or a login would lose by it, print the statements and end with 1.
    print_roles
        Only print the SQL that a database administrator runs once where the role of
        HARVESTD_DATABASE_URL may not create roles; change nothing. The JSON is an object with
        script and needed (false: it may create roles).
    """
    from harvestd.cli.migrating import migrate_database, print_roles_script

    if print_roles:
        return print_roles_script(as_json=json, alone=not (dry_run or harden))
    return migrate_database(dry_run=dry_run, as_json=json, hardens=harden)


def trigger(
    tenant: Annotated[str | None, Parameter(help="Only this tenant.")] = None,
    /,
    *,
    source: Source = None,
    script: Script = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Run now instead of at the next tick.

    Without a tenant every replica runs a forced cycle. With one, its runs are due now, whatever
    date they waited for; one that is under way just goes on. The JSON is an object with
    tenant_id, due and under_way (lists of source/script), and dry_run.

    For example:

    ```
    $ harvestd trigger
    $ harvestd trigger acme --source git --script commit
    $ harvestd trigger acme --dry-run
    ```
    """
    from harvestd.cli.operate import trigger_runs

    return trigger_runs(tenant, source, script, dry_run=dry_run, as_json=json)


def reset(
    tenant: str,
    /,
    *,
    source: Source = None,
    script: Script = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Forget how far a tenant's runs have come, so that everything is read again.

    Ledger and bookmarks go; rows that were loaded stay, and those with a key are not doubled
    (a table without a key gets them again). The JSON is an object with tenant_id, reset
    (a list of source/script) and dry_run.

    For example:

    ```
    $ harvestd reset acme --dry-run
    $ harvestd reset acme --source git --script commit
    $ harvestd reset acme --yes
    ```
    """
    from harvestd.cli.operate import reset_runs

    return reset_runs(tenant, source, script, dry_run=dry_run, yes=yes, as_json=json)


def backfill(
    *,
    since: Annotated[str | None, Parameter(name="--from", help="Where the stretch begins.")] = None,
    until: Annotated[str | None, Parameter(name="--to", help="Where it ends; now.")] = None,
    tenant: Annotated[
        str | None, Parameter(help="Only this tenant; without it, every one.")
    ] = None,
    source: Source = None,
    script: Script = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Read a stretch of source time again, of a tenant's runs or of everybody's.

    It is taken out of the ledgers, and the runs are due now; before a run's origin, the origin
    moves there. Rows and bookmarks stay; rows with a key are not doubled (a table without one gets
    them again). A stretch that ends before the newest data is read after what is new; one that
    reaches up to it (without --to) comes first. A run under way is given up and begun again. A
    snapshot script is just run once more. A moment is a date, a date and time (UTC without a
    zone), now, or an age: 14d, 36h, 90min, 2w. Without --tenant it needs --yes where nobody can be
    asked. The JSON is an object with tenant_id, data_source, script, from, to, dry_run and runs:
    per script its runs, tenants, held, before_origin, rewound, seconds (of source time, in all)
    and windows.

    For example:

    ```
    $ harvestd backfill --tenant acme --from 14d --dry-run
    $ harvestd backfill --tenant acme --source git --from 2026-01-01 --to 2026-02-01
    $ harvestd backfill --source git --script activity --from 30d --to 14d --yes
    ```
    """
    from harvestd.cli.backfill import backfill_runs
    from harvestd.service.acts import RunsChosen

    asked = RunsChosen(tenant, source, script)
    return backfill_runs(asked, since, until, dry_run=dry_run, yes=yes, as_json=json)
