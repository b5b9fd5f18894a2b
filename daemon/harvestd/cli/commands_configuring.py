"""Words, help and examples of `harvestd tenant` and `harvestd config`; see `commands.py`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from harvestd.cli.options import WHOLE, DryRun, Json, Yes


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
    limit: Annotated[int, WHOLE, Parameter(help="At most so many.")] = 1000,
    json: Json = False,
) -> int:
    """List tenants with the state of their runs, the worst first.

    The JSON is a list of objects with id, name, paused, sources, runs, failed, waiting,
    blocked and lag_seconds.

    For example:

    ```
    $ harvestd tenant list --limit 20
    ```
    """
    from harvestd.cli.configure import list_tenants

    return list_tenants(limit, as_json=json)


def tenant_set(
    tenant: str,
    /,
    *,
    name: Annotated[str | None, Parameter(help="A name for people.")] = None,
    runs_max: Annotated[
        str | None, Parameter(help="Attempts at once, or default: HARVESTD_TENANT_RUNS_MAX.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Change a tenant's name, or how many of its scripts run at once.

    The limit holds from the tenant's next turn on. The JSON is an object with tenant_id, name,
    runs_max (null: as the setting says) and dry_run.

    For example:

    ```
    $ harvestd tenant set acme --runs-max 8
    $ harvestd tenant set acme --runs-max default --name "Acme Ltd"
    ```
    """
    from harvestd.cli.tenants import set_tenant

    return set_tenant(tenant, name, runs_max, dry_run=dry_run, as_json=json)


def tenant_pause(tenant: str, /, *, dry_run: DryRun = False, json: Json = False) -> int:
    """Start nothing of a tenant any more, and give up what is under way.

    What was committed stays, and so does progress; the replica that works on a run learns of it
    within a third of a lease. The JSON is an object with tenant_id, paused, taken_back (runs that
    were under way) and dry_run.

    For example:

    ```
    $ harvestd tenant pause acme
    $ harvestd tenant pause acme --dry-run
    ```
    """
    from harvestd.cli.tenants import pause_tenant

    return pause_tenant(tenant, dry_run=dry_run, as_json=json)


def tenant_resume(tenant: str, /, *, dry_run: DryRun = False, json: Json = False) -> int:
    """Let a paused tenant go on: its runs are due at once.

    One that waits for a date (a rate limit) goes on waiting for it. The JSON is an object with
    tenant_id, paused, due (its runs) and dry_run.

    For example:

    ```
    $ harvestd tenant resume acme
    ```
    """
    from harvestd.cli.tenants import resume_tenant

    return resume_tenant(tenant, dry_run=dry_run, as_json=json)


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
    tenant: str,
    source: str,
    key: str | None = None,
    /,
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Remove a value, or all of a data source, which disables it at the next tick.

    Progress and loaded rows are kept: configured again, the data source goes on where it was.
    The JSON is an object with tenant_id, data_source, removed (keys), disabled and dry_run.

    For example:

    ```
    $ harvestd config unset acme git GIT_TOKEN
    $ harvestd config unset acme git --dry-run
    $ harvestd config unset acme git --yes
    ```
    """
    from harvestd.cli.configure import unset_values

    return unset_values(tenant, source, key, dry_run=dry_run, yes=yes, as_json=json)


def reader_add(
    role: Annotated[str, Parameter(help="A role of the PostgreSQL server.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Let a role of the server read every tenant's rows of every data source, now and later.

    For the application, dashboards and people. Without it row-level security shows a role no
    rows, and no error. It cannot write, and sees none of harvestd's own tables. The JSON is an
    object with role, reads and changed.

    For example:

    ```
    $ harvestd reader add grafana
    ```
    """
    from harvestd.cli.readers import change_reader

    return change_reader(role, add=True, as_json=json)


def reader_remove(role: str, /, *, json: Json = False) -> int:
    """Take back what reader add gave.

    The JSON is an object with role, reads and changed.

    For example:

    ```
    $ harvestd reader remove grafana
    ```
    """
    from harvestd.cli.readers import change_reader

    return change_reader(role, add=False, as_json=json)


def reader_list(*, json: Json = False) -> int:
    """List the roles that were let read, besides superusers, who see everything.

    The JSON is a list of objects with role, may_log_in and reads (false: only after SET ROLE).

    For example:

    ```
    $ harvestd reader list
    ```
    """
    from harvestd.cli.readers import show_readers

    return show_readers(as_json=json)
