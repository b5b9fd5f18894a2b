"""What `harvestd doctor` judges, as read from the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from harvestd.catalog.discover import Source
from harvestd.catalog.snapshot import Catalog
from harvestd.database.hardening import Hardening, missing_hardening
from harvestd.database.keeper import has_keeper
from harvestd.database.migrations import check_schema
from harvestd.database.pool import Database
from harvestd.database.roles import Roles, missing_rights
from harvestd.errors import DatabaseError, HarvestdError, Unreachable
from harvestd.loading.breaches import Breach, find_breaches
from harvestd.loading.schemas import preview_schema, unapplied_schemas
from harvestd.service.status import ReplicaSeen, Status
from harvestd.settings import Settings

TICKS_OVERDUE = 5
"""A run that is due for longer than so many ticks (an hour at least) is looked after by nobody."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to judge, as read from the database."""

    server: Mapping[str, Any]
    schema: HarvestdError | None
    """Why harvestd cannot work on the schema as it is."""
    missing: list[str] = field(default_factory=list)
    replicas: list[ReplicaSeen] = field(default_factory=list)
    stuck: Sequence[Mapping[str, Any]] = ()
    unapplied: list[str] = field(default_factory=list)
    """Data sources whose schema.sql is not in the database as it is here."""
    altered: Sequence[HarvestdError] = ()
    """Of each applied data source whose tables are not as its schema.sql says, what differs."""
    breaches: Sequence[Breach] = ()
    hardening: Sequence[Hardening] | None = ()
    """Statements that `migrate --harden` would still run, though nobody has to; None: unknown."""
    keeper: bool = False
    """Whether a keeper makes logins for our role."""

    @classmethod
    async def read(cls, database: Database, settings: Settings, catalog: Catalog) -> Facts:
        """Read everything; changes nothing.  Raises: Unreachable, DatabaseError."""
        line = database.line("doctor")
        row = await line.fetchrow("see_server")
        assert row is not None
        server = dict(row)
        async with line.connection() as connection:
            keeper = await has_keeper(connection)
            try:
                await check_schema(connection)
            except Unreachable:
                raise
            except DatabaseError as error:
                return cls(server, error, keeper=keeper)
            missing = await missing_rights(connection)
            overview = await Status(database).overview()
            roles = Roles(overview.hex) if overview else None
            unapplied = await unapplied_schemas(connection, roles, catalog.sources.values())
            # A standby can make no copy to compare with, and is said to be one.
            looks = roles is not None and not missing and not server["in_recovery"]
            hardening = await missing_hardening(connection, roles) if roles and looks else None
            breaches = await find_breaches(connection, roles) if roles and looks else []
        applied = [one for one in catalog.sources.values() if one.name not in unapplied]
        altered = await _altered(database, roles, applied) if roles and looks else []
        ticks = timedelta(seconds=TICKS_OVERDUE * settings.interval_seconds)
        stuck = [
            dict(row) for row in await line.fetch("list_stuck_runs", max(timedelta(hours=1), ticks))
        ]
        replicas = await Status(database).replicas()
        return cls(
            server,
            None,
            missing=missing,
            replicas=replicas,
            stuck=stuck,
            unapplied=list(unapplied),
            altered=altered,
            breaches=breaches,
            hardening=hardening,
            keeper=keeper,
        )


async def _altered(
    database: Database, roles: Roles, sources: Iterable[Source]
) -> list[HarvestdError]:
    """What was changed since it was applied, or why that cannot be known now."""
    found: list[HarvestdError] = []
    for source in sources:
        if source.schema_sql is None:
            continue
        try:
            preview = await preview_schema(
                database, roles, source=source.name, schema_sql=source.schema_sql
            )
        except Unreachable:
            raise
        except DatabaseError as error:
            found.append(error)
        else:
            if preview.altered is not None:
                found.append(preview.altered)
    return found
