"""Before anything works: the database is migrated, has its roles, and takes so many connections."""

from __future__ import annotations

from harvestd.database.migrations import check_schema, migrate
from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles, ensure_roles, prepared_transactions_max
from harvestd.observing.logs import get_logger
from harvestd.runs.heartbeat import Heartbeat

CORE_CONNECTIONS = 12
"""What a replica keeps open besides its seats: a line for each duty.  While schema.sql files are
new, two more for each of the four that are applied at once."""

log = get_logger()


async def prepare_database(database: Database) -> Roles:
    """Migrate an empty or older database by itself, and make the roles of the wall.

    Raises: Unreachable; SchemaTooNew, SchemaTooOld (adoption and breaking migrations are for
    `harvestd migrate`); DatabaseError, when the role lacks a right.
    """
    async with closing(await database.connect("migrate")) as connection:
        for name in await migrate(connection, explicit=False):
            log.info("migration_applied", migration=name)
        await check_schema(connection)
        if (prepared := await prepared_transactions_max(connection)) > 0:
            log.warning("prepared_transactions_admitted", transactions_max=prepared)
        return await ensure_roles(connection)


async def note_scarce_connections(heartbeat: Heartbeat, seats_max: int) -> None:
    """Warn where the server takes fewer connections than the replicas that live now may open.

    Nothing fails yet: seats are opened when they are needed.  Raises: Unreachable, DatabaseError.
    """
    budget = await heartbeat.see_connections()
    needed = budget.replicas * (CORE_CONNECTIONS + seats_max)
    if needed > budget.connections_max:
        log.warning(
            "connections_scarce",
            replicas=budget.replicas,
            seats_max=seats_max,
            connections_needed=needed,
            connections_max=budget.connections_max,
        )
