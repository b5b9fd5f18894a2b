"""`harvestd tenant` and `harvestd config`: for whom, and with what.  No value is ever shown."""

from __future__ import annotations

import getpass
import shlex
import sys

from harvestd.catalog.snapshot import EMPTY, reload
from harvestd.cli.names import check_limit, checked_name, nearest, refuse_unknown_tenant, unknown
from harvestd.cli.output import UsageError, confirm, lasting, note, print_json, print_rows
from harvestd.cli.reach import ask_database, changing_database, command_settings
from harvestd.database.pool import Database
from harvestd.service.acts import Acts
from harvestd.service.status import KeySet, Status, TenantSeen

VALUE_BYTES_MAX = 1_000_000
LIMITS = range(1, 1_000_001)


def add_tenant(tenant_id: str, name: str, *, as_json: bool) -> int:
    """Add a tenant; the exit code."""
    checked_name("tenant's id", tenant_id)
    if name:
        checked_name("tenant's name", name)

    with changing_database(makes=True) as call:
        added = call(lambda database: Acts(database).add_tenant(tenant_id, name))
    if as_json:
        print_json({"tenant_id": tenant_id, "added": added})
    elif added:
        step = f"harvestd config set {shlex.quote(tenant_id)} SOURCE KEY"
        note(f"tenant {tenant_id} added; next: {step}")
    else:
        note(f"tenant {tenant_id} is there already; nothing was changed")
    return 0


def list_tenants(limit: int, *, as_json: bool) -> int:
    """List tenants; the exit code."""
    check_limit(limit, LIMITS, "harvestd tenant list --limit 1000")
    seen = ask_database(lambda database: Status(database).tenants(limit))
    if as_json:
        print_json(seen)
    else:
        print_tenants(seen)
        if len(seen) == limit:
            note(f"only {limit} are shown; --limit N shows more")
    return 0


def print_tenants(seen: list[TenantSeen]) -> None:
    """The table of tenants."""
    print_rows(
        ("tenant", "name", "sources", "runs", "failed", "waiting", "blocked", "behind", "paused"),
        [
            (
                one.id,
                one.name,
                " ".join(one.sources),
                one.runs,
                one.failed,
                one.waiting,
                one.blocked,
                lasting(one.lag_seconds),
                one.paused,
            )
            for one in seen
        ],
        folded=("tenant", "name", "sources"),
    )


def set_value(tenant_id: str, source: str, key: str, *, as_json: bool) -> int:
    """Keep a value from standard input or a prompt; the exit code."""
    checked_name("data source", source)
    checked_name("key", key)

    what = f"{tenant_id} {source} {key}"
    at_terminal = sys.stdin.isatty()
    value = "" if at_terminal else read_value(what)

    async def check(database: Database) -> None:
        await refuse_unknown_tenant(Status(database), tenant_id)

    async def act(database: Database) -> bool:
        await check(database)
        return await Acts(database).set_config(tenant_id, source, key, value)

    with changing_database() as call:
        if at_terminal:
            call(check)  # a person should not type a token for a tenant that is not there
            value = read_value(what)
        added = call(act)
    _warn_of_unknown_source(source)
    if as_json:
        print_json({"tenant_id": tenant_id, "data_source": source, "key": key, "added": added})
    else:
        note(f"{key} of {source} for {tenant_id} {'set' if added else 'replaced'}")
    return 0


def read_value(what: str) -> str:
    """A value without one line break at its end, from a pipe or a hidden prompt.

    Raises: UsageError, when it is empty, too long or no text.  Nothing of it is repeated.
    """
    if sys.stdin.isatty():
        try:
            value = getpass.getpass(f"value of {what} (not shown): ", stream=sys.stderr)
        except EOFError:
            value = ""
    else:
        given = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
        if len(given) > VALUE_BYTES_MAX:
            raise _refused(what, f"it has more than {VALUE_BYTES_MAX:,} bytes")
        try:
            value = given.decode("utf-8")
        except UnicodeDecodeError:
            raise _refused(what, "it is not UTF-8") from None
        value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise _refused(what, "it is empty")
    if "\0" in value:
        raise _refused(what, "it holds a NUL, which PostgreSQL cannot store")
    return value


def _refused(what: str, why: str) -> UsageError:
    return UsageError(
        f"the value for {what} is refused",
        why=why,
        next_step="give it on standard input: harvestd config set TENANT SOURCE KEY < FILE",
    )


def _warn_of_unknown_source(source: str) -> None:
    """Say so when no plugin here provides the source; another replica's may."""
    sources = reload(EMPTY, command_settings().plugin_dirs).sources
    if source not in sources:
        near = nearest(source, sources)
        meant = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(sources))}"
        note(f"warning: no plugin here provides the data source {source!r} ({meant})")


def list_keys(tenant_id: str | None, *, as_json: bool) -> int:
    """List which keys are set; the exit code."""

    async def ask(database: Database) -> list[KeySet]:
        status = Status(database)
        if tenant_id is not None:
            await refuse_unknown_tenant(status, tenant_id)
        return await status.keys_set(tenant_id)

    keys = ask_database(ask)
    if as_json:
        print_json(keys)
    else:
        print_rows(
            ("tenant", "data source", "key", "set"),
            [(one.tenant_id, one.data_source, one.key, one.updated_at) for one in keys],
        )
    return 0


def unset_values(
    tenant_id: str, source: str, key: str | None, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Remove one value or all of a data source; the exit code."""

    async def look(database: Database) -> list[str]:
        status = Status(database)
        await refuse_unknown_tenant(status, tenant_id)
        keys = await status.keys_set(tenant_id)
        sources = {one.data_source for one in keys}
        if source not in sources:
            raise unknown("configured data source", source, sources, of=tenant_id)
        present = [one.key for one in keys if one.data_source == source]
        if key is not None and key not in present:
            raise unknown("key", key, present, of=source)
        return present

    async def act(database: Database) -> list[str]:
        return await Acts(database).unset_config(tenant_id, source, key)

    with changing_database(only_look=dry_run) as call:
        present = call(look)
        disables = key is None or present == [key]
        if disables and not dry_run:
            question = f"This removes {', '.join(present)} and disables {source} for {tenant_id}."
            confirm(question, yes=yes, needed_elsewhere=key is None, what="config unset")
        would_go = present if key is None else [key]
        removed = would_go if dry_run else call(act)
    if as_json:
        print_json(
            {
                "tenant_id": tenant_id,
                "data_source": source,
                "removed": removed,
                "disabled": disables,
                "dry_run": dry_run,
            }
        )
    else:
        note(f"{'would be ' if dry_run else ''}removed: {', '.join(removed) or 'nothing'}")
        if disables:
            what = "would be" if dry_run else "is"
            note(
                f"{source} {what} disabled for {tenant_id} from the next tick on; progress is kept"
            )
    return 0
