"""`harvestd migrate`: the database's own schema, its roles, and the tables of the data sources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from harvestd.catalog.snapshot import EMPTY, reload
from harvestd.cli.output import count, print_json, say_error
from harvestd.cli.reach import command_settings, reached
from harvestd.database.migrations import migrate
from harvestd.database.pool import Database, closing
from harvestd.database.roles import ensure_roles
from harvestd.errors import HarvestdError, Unreachable
from harvestd.loading.schemas import apply_source_schema
from harvestd.observing.logs import configure
from harvestd.settings import Settings


@dataclass(slots=True)
class Migrated:
    """What was done; the fields are those of the JSON."""

    migrations: list[str] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    """Data sources whose schema.sql was applied."""
    refused: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should read: of an adoption, the lines for schema.prisma."""


def migrate_database(*, as_json: bool) -> int:
    """Migrate, also what is only done when asked for; the exit code."""
    settings = command_settings()
    configure(settings)
    done = Migrated()

    def report(line: str) -> None:
        if as_json:
            done.notes.append(line)
        else:
            print(line)

    with reached(settings, own=False) as at:
        asyncio.run(_migrate(settings, at.url, done, report))
    if as_json:
        done.notes = [line for line in done.notes if not line.startswith("applied ")]
        print_json(done)
    elif done.migrations:
        print(f"applied {count(len(done.migrations), 'migration')}")
    else:
        print("the database is up to date")
    return 1 if done.refused else 0


async def _migrate(
    settings: Settings, url: str, done: Migrated, report: Callable[[str], None]
) -> None:
    database = Database(url)
    async with closing(await database.connect("migrate")) as connection:
        done.migrations += await migrate(connection, explicit=True, report=report)
        roles = await ensure_roles(connection)
    catalog = await asyncio.to_thread(reload, EMPTY, settings.plugin_dirs)
    for source in catalog.sources.values():
        if source.schema_sql is None or source.schema_hash is None:
            continue
        try:
            applied = await apply_source_schema(
                database,
                roles,
                source=source.name,
                schema_sql=source.schema_sql,
                schema_hash=source.schema_hash,
            )
        except Unreachable:
            raise
        except HarvestdError as error:
            done.refused.append({"source": source.name, "error": str(error)})
            say_error(error)
        else:
            if applied:
                done.schemas.append(source.name)
                report(f"applied {source.name}/schema.sql")
