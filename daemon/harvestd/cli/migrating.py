"""`harvestd migrate`: the database's own schema, its roles, and the tables of the data sources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harvestd.catalog.snapshot import EMPTY, reload
from harvestd.cli.output import DONE, FAILED, UsageError, count, note, print_json, say_error
from harvestd.cli.reach import command_settings, reached
from harvestd.database.hardening import Hardening, harden
from harvestd.database.keeper import RolesScript, print_roles
from harvestd.database.migrations import load_migrations, look, migrate
from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles, ensure_roles
from harvestd.errors import HarvestdError, SchemaRefused, Unreachable
from harvestd.loading.schemas import (
    apply_source_schema,
    refuse_unfit_schema,
    unapplied_schemas,
)
from harvestd.observing.logs import configure
from harvestd.service.status import Status
from harvestd.settings import Settings

LOSERS_SHOWN_MAX = 20


@dataclass(slots=True)
class Migrated:
    """What was done; the fields are those of the JSON."""

    migrations: list[str] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    """Data sources whose schema.sql was applied."""
    hardened: list[str] = field(default_factory=list)
    """Statements that --harden ran."""
    hardening: list[str] = field(default_factory=list)
    """Statements that a superuser is to run, where --harden may not."""
    losers: dict[str, list[str]] = field(default_factory=dict)
    """By statement of those, the logins that lose the right, which they have by PUBLIC alone."""
    refused: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should read: of an adoption, the lines for schema.prisma."""
    dry_run: bool = False
    """Whether it would be done, and was not."""

    @property
    def exit_code(self) -> int:
        return FAILED if self.refused or self.hardening else DONE

    def refuse(self, source: str, error: HarvestdError) -> None:
        self.refused.append({"source": source, "error": str(error)})
        say_error(error)


def migrate_database(*, dry_run: bool, as_json: bool, hardens: bool = False) -> int:
    """Migrate, also what is only done when asked for; the exit code."""
    settings = command_settings()
    configure(settings)
    if dry_run and hardens:
        raise HarvestdError(
            "--dry-run does not foresee --harden",
            next_step="a role that is no superuser only gets the statements printed by --harden",
        )
    if dry_run:
        return _foresee(settings, as_json=as_json)
    done = Migrated()
    say = note if hardens else print  # what is left to harden is SQL, and alone on stdout

    def report(line: str) -> None:
        if as_json:
            done.notes.append(line)
        else:
            say(line)

    with reached(settings, own=False) as at:
        asyncio.run(_migrate(settings, at.url, done, report))
    if done.migrations and not as_json:
        say(f"applied {count(len(done.migrations), 'migration')}")
    elif not done.refused and not as_json and not hardens:
        print("the database is up to date")
    if hardens:
        _harden(settings, done, as_json=as_json)
    if as_json:
        done.notes = [line for line in done.notes if not line.startswith("applied ")]
        print_json(done)
    if done.refused and not as_json:
        names = ", ".join(one["source"] for one in done.refused)
        note(f"schema.sql refused: {names}; all else is up to date")
    return done.exit_code


def print_roles_script(*, as_json: bool, alone: bool) -> int:
    """Print what makes the roles for a login that may not; the exit code."""
    if not alone:
        raise UsageError(
            "--print-roles goes alone",
            why="it changes nothing, and what it prints is a whole script",
            next_step="harvestd migrate, after a database administrator has run the script",
        )
    settings = command_settings()
    configure(settings)

    async def look(url: str) -> RolesScript:
        async with closing(await Database(url).connect("roles")) as connection:
            return await print_roles(connection)

    with reached(settings, own=False, makes=False) as at:
        script = asyncio.run(look(at.url))
    if as_json:
        print_json({"script": script.text, "needed": script.needed})
        return DONE
    print(script.text, end="")
    if script.needed:
        note("a superuser runs this in the same database (psql), once; then: harvestd migrate")
    else:
        note(f"nobody has to run this: {script.role} may create roles")
    return DONE


def _harden(settings: Settings, done: Migrated, *, as_json: bool) -> None:
    """Take from PUBLIC what lets a login hold others up, or print what a superuser runs."""

    async def run(url: str) -> tuple[list[Hardening], list[Hardening]]:
        async with closing(await Database(url).connect("harden")) as connection:
            return await harden(connection, await ensure_roles(connection))

    with reached(settings, own=False) as at:
        ran, left = asyncio.run(run(at.url))
    done.hardened += [one.statement for one in ran]
    done.hardening += [one.statement for one in left]
    done.losers |= {one.statement: list(one.losers) for one in left if one.losers}
    if as_json:
        return
    for one in ran:
        if one.taken is not None:
            note(f"taken from everybody: {one.taken}")
    for one in left:
        if one.losers:  # in a comment: whoever pipes this into psql locks nobody out
            print(f"-- {one.statement};  -- takes it from {_names(one.losers)}")
        else:
            print(f"{one.statement};")
    if len(done.losers) < len(left):
        note("not hardened: a superuser runs the statements above in this database (psql)")
    elif left:
        note("hardened but for the above, which takes a right from logins: grant it to those that")
        note("are to keep it and run this again, or run the statements as they are")
    else:
        note("hardened")


def _names(logins: Sequence[str]) -> str:
    """For a comment of SQL, which a name must not end."""
    shown = [name if name.isprintable() else ascii(name) for name in logins[:LOSERS_SHOWN_MAX]]
    more = len(logins) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _foresee(settings: Settings, *, as_json: bool) -> int:
    """Say what migrating would do; the exit code."""
    with reached(settings, own=False, makes=False) as at:
        foreseen, adopted = asyncio.run(_look(settings, at.url))
    if adopted:
        foreseen.notes.append(f"would take over {', '.join(adopted)}; rows and progress are kept")
    if as_json:
        print_json(foreseen)
        return foreseen.exit_code
    for name in foreseen.migrations:
        print(f"would apply {name}")
    for line in foreseen.notes:
        print(line)
    for source in foreseen.schemas:
        print(f"would apply {source}/schema.sql")
    if not foreseen.migrations and not foreseen.schemas and not foreseen.refused:
        print("the database is up to date")
    note("nothing was changed (--dry-run)")
    return foreseen.exit_code


async def _look(settings: Settings, url: str) -> tuple[Migrated, tuple[str, ...]]:
    catalog = await asyncio.to_thread(reload, EMPTY, settings.plugin_dirs)
    foreseen = Migrated(dry_run=True)
    async with (
        Database(url) as database,
        database.line("migrate").connection() as connection,
    ):
        missing, adopted = await look(connection, load_migrations(), explicit=True)
        foreseen.migrations += [migration.name for migration in missing]
        overview = None if missing else await Status(database).overview()
        roles = Roles(overview.hex) if overview else None
        unapplied = await unapplied_schemas(connection, roles, catalog.sources.values())
        for source, text in unapplied.items():
            try:
                await refuse_unfit_schema(connection, source=source, schema_sql=text)
            except SchemaRefused as error:
                foreseen.refuse(source, error)
            else:
                foreseen.schemas.append(source)
    return foreseen, adopted


async def _migrate(
    settings: Settings, url: str, done: Migrated, report: Callable[[str], None]
) -> None:
    database = Database(url)
    async with closing(await database.connect("migrate")) as connection:
        done.migrations += await migrate(connection, explicit=True, report=report)
        roles = await ensure_roles(connection)
    catalog = await asyncio.to_thread(reload, EMPTY, settings.plugin_dirs)
    for source in catalog.sources.values():
        if source.schema_sql is None:
            continue
        try:
            applied = await apply_source_schema(
                database, roles, source=source.name, schema_sql=source.schema_sql
            )
        except Unreachable:
            raise
        except HarvestdError as error:
            done.refuse(source.name, error)
        else:
            if applied:
                done.schemas.append(source.name)
                report(f"applied {source.name}/schema.sql")
